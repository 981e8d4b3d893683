// SPDX-License-Identifier: MIT
/**
 * Copies and verifies files; clones them if the file system can.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  ftruncateSync,
  openSync,
  readSync,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { systemCode, throwIfInterrupted } from "../errors.ts";
import { type FileSegment, MIB, runsOf } from "../format/segment.ts";
import { isZero } from "../bytes.ts";
import { writeAll } from "../hash/piece.ts";
import { reading, writing } from "../refused.ts";
import { openRun } from "../source/run.ts";
import { DigestMismatch } from "./writer.ts";

/**
 * Copies or clones a file to a new path, and verifies it.
 *
 * @returns Its SHA-256, in lower-case hex.
 * @throws {UserError} "verify" ({@link DigestMismatch}), "target", "tree" for a file that changed,
 * "interrupt"
 */
export async function putFile(
  place: string,
  body: FileSegment,
  mode: number,
  signal?: AbortSignal,
): Promise<string> {
  // Only a whole file can be cloned.
  const isWhole = body.bundled === undefined && body.offsetBytes === 0 && body.isPart !== true;
  const isCloned = isWhole && cloneFrom(body, place);
  const sha256 = isCloned
    ? await digestPlaced(place, body, signal)
    : await copy(body, place, signal);
  if (body.sha256 !== undefined && sha256 !== body.sha256) throw DigestMismatch.of(body, sha256);
  writing(place, () => chmodSync(place, mode));
  return sha256;
}

/**
 * Returns the SHA-256 of a file that was written from a segment.
 *
 * @throws {UserError} "target" where it cannot be read, "tree" where its size is another one,
 * "interrupt"
 */
export function digestPlaced(
  place: string,
  { sizeBytes }: FileSegment,
  signal?: AbortSignal,
): Promise<string> {
  const placed: FileSegment = { kind: "file", path: place, offsetBytes: 0, sizeBytes };
  return digestSegment(placed, signal, () => {}, "target");
}

/** Clones the file of a segment, and reports whether the file system can. */
function cloneFrom(body: FileSegment, place: string): boolean {
  const { file, close } = openRun(body, body);
  try {
    // What was opened and looked at, whatever the path leads to by now.
    return writing(place, () => clone(`/proc/self/fd/${file}`, place));
  } finally {
    close();
  }
}

/** Clones a file, and reports whether the file system can. */
function clone(from: string, to: string): boolean {
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (CANNOT_CLONE.has(systemCode(error) ?? "")) return false;
    throw error;
  }
}

/**
 * Error codes of file systems that cannot clone, or not from one to the other. ENOENT: there is no
 * /proc, or no directory to clone into, which the copy will say.
 */
const CANNOT_CLONE = new Set(
  ["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EINVAL", "EXDEV", "ENOENT"],
);

const buffer = new Uint8Array(MIB / 4);

/** Copies the bytes of a segment, zeros as holes, and returns their digest. */
async function copy(
  body: FileSegment,
  to: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const target = writing(to, () => openSync(to, "wx", 0o644));
  try {
    let position = 0;
    const sha256 = await digestSegment(body, signal, (bytes) => {
      const isHole = bytes.length === buffer.length && isZero(bytes);
      if (!isHole) writing(to, () => writeAll(target, bytes, position));
      position += bytes.length;
    });
    writing(to, () => ftruncateSync(target, position));
    return sha256;
  } finally {
    closeSync(target);
  }
}

/**
 * Returns the SHA-256 of the bytes of a segment.
 *
 * @param onBytes Called with the bytes that were read, valid until it returns.
 * @param kind The kind of the error for a file that cannot be read.
 * @throws {UserError} "tree" for a file that changed, "interrupt"
 */
export async function digestSegment(
  segment: FileSegment,
  signal?: AbortSignal,
  onBytes: (bytes: Uint8Array) => void = () => {},
  kind: "tree" | "target" = "tree",
): Promise<string> {
  const hash = createHash("sha256");
  let unseen = 0;
  for (const run of runsOf(segment)) {
    const { file, close } = openRun(segment, run, kind);
    try {
      for (let done = 0; done < run.sizeBytes;) {
        const most = Math.min(buffer.length, run.sizeBytes - done);
        const read = () => readSync(file, buffer, 0, most, run.offsetBytes + done);
        const size = reading(run.path, read, { kind });
        if (size === 0) break;
        const bytes = buffer.subarray(0, size);
        hash.update(bytes);
        onBytes(bytes);
        done += size;
        unseen += size;
        // Signals are only seen between two tasks. The shared buffer is not in use here.
        if (unseen >= YIELD_BYTES) {
          unseen = 0;
          await setImmediate();
        }
        throwIfInterrupted(signal);
      }
    } finally {
      close();
    }
  }
  return hash.digest("hex");
}

const YIELD_BYTES = 64 * MIB;
