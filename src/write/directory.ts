// SPDX-License-Identifier: MIT
/**
 * A directory that a bootstrap starts in, written from entries.
 *
 * Files are copied, or cloned where the file system can, never linked: the bootstrap changes them
 * in place. Modes are 755 and 644 under any umask. Nothing is synced: it is a place to work in.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { messageOf, orRefused, systemCode, UserError } from "../errors.ts";
import { type Body, type FileSegment, MIB, segmentSize } from "../format/segment.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { DigestMismatch } from "./writer.ts";

/** A file, or a directory where there is no body. */
export interface DirectoryEntry {
  /** Relative to the directory, with `/` and without `..`; parents come first. */
  readonly path: string;
  readonly body?: Body;
  readonly isExecutable: boolean;
}

export interface DirectoryOptions {
  /** Called with the number of bytes that were written since the last call. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes entries into a new directory.
 *
 * @param dir The directory, which must not exist.
 * @returns SHA-256 of each file by path.
 * @throws {UserError} "verify" for a file whose digest is wrong, "target" for what cannot be
 * written, "interrupt" when the signal is raised.
 */
export async function writeDirectory(
  dir: string,
  entries: readonly DirectoryEntry[],
  { onBytes, signal }: DirectoryOptions = {},
): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  writing(dir, () => makeDirectory(dir));
  for (const { path, body, isExecutable } of entries) {
    if (path.split("/").includes("..")) throw new Error(`${path} leaves its directory`);
    const place = join(dir, path);
    if (body === undefined) {
      writing(place, () => makeDirectory(place));
      continue;
    }
    const mode = isExecutable ? 0o755 : 0o644;
    const sha256 = writing(
      place,
      () => body.kind === "bytes" ? putBytes(place, body.bytes, mode) : putFile(place, body, mode),
    );
    digests.set(path, sha256);
    onBytes?.(segmentSize(body));
    // Signals are only seen between two tasks.
    await setImmediate();
    if (signal?.aborted) throw new UserError("interrupt", "Interrupted");
  }
  return digests;
}

/** A file that has to lie in a directory. */
export interface WantedFile {
  readonly name: string;
  readonly sha256: string;
  /** Where it is on this machine. */
  readonly path: string;
}

/**
 * Puts files into a directory that something else has worked in: those that are there and right
 * stay, others are replaced, each when it is whole.
 *
 * @param root The root, absolute.
 * @param below Directories down from it; missing ones are made, and none may be a link.
 * @throws {UserError} as {@link writeDirectory}
 */
export async function putAgain(
  root: string,
  below: readonly string[],
  files: readonly WantedFile[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let dir = root;
  for (const name of below) {
    dir = join(dir, name);
    const stat = lstatIfThere(dir);
    if (stat?.isDirectory()) continue;
    if (stat !== undefined) {
      throw new UserError("target", `Cannot put files into ${dir}: it is no directory`, {
        where: dir,
        hint: "Begin again in another --target",
      });
    }
    writing(dir, () => makeDirectory(dir));
  }
  for (const { name, sha256, path } of files) {
    const place = join(dir, name);
    writing(place, () => {
      if (lstatIfThere(place)?.isFile() && digestFile(place) === sha256) return;
      const part = join(dir, `.${name}.part`);
      try {
        putFile(part, { kind: "file", path, offset: 0, size: 0, sha256 }, 0o644);
        renameSync(part, place);
      } finally {
        rmSync(part, { force: true });
      }
    });
    await setImmediate();
    if (signal?.aborted) throw new UserError("interrupt", "Interrupted");
  }
}

function makeDirectory(place: string): void {
  mkdirSync(place);
  chmodSync(place, 0o755);
}

function putBytes(place: string, bytes: Uint8Array, mode: number): string {
  writeFileSync(place, bytes, { flag: "wx" });
  chmodSync(place, mode);
  return createHash("sha256").update(bytes).digest("hex");
}

function putFile(place: string, body: FileSegment, mode: number): string {
  const sha256 = clone(body.path, place) ? digestFile(place) : copy(body.path, place);
  if (body.sha256 !== undefined && sha256 !== body.sha256) {
    throw new DigestMismatch(
      body.path,
      `Cannot use ${body.path}: its SHA-256 is ${sha256}, expected ${body.sha256}`,
    );
  }
  chmodSync(place, mode);
  return sha256;
}

/** Shares the blocks of a file, and says whether the file system could. */
function clone(from: string, to: string): boolean {
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (CANNOT_CLONE.has(systemCode(error) ?? "")) return false;
    throw error;
  }
}

/** What systems say of a file system, or of two, that cannot share blocks. */
const CANNOT_CLONE = new Set(["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EINVAL", "EXDEV"]);

const buffer = new Uint8Array(MIB / 4);

/** Copies a file and returns the digest of what was copied. */
function copy(from: string, to: string): string {
  const target = openSync(to, "wx", 0o644);
  try {
    return digestFile(from, (bytes) => {
      for (let done = 0; done < bytes.length;) done += writeSync(target, bytes, done);
    });
  } finally {
    closeSync(target);
  }
}

function digestFile(path: string, onBytes: (bytes: Uint8Array) => void = () => {}): string {
  const hash = createHash("sha256");
  const file = openSync(path, "r");
  try {
    for (;;) {
      const size = readSync(file, buffer, 0, buffer.length, null);
      if (size === 0) return hash.digest("hex");
      const bytes = buffer.subarray(0, size);
      hash.update(bytes);
      onBytes(bytes);
    }
  } finally {
    closeSync(file);
  }
}

function writing<T>(place: string, write: () => T): T {
  return orRefused(
    write,
    (code, cause) =>
      new UserError("target", `Cannot write ${place}: ${messageOf(cause)}`, {
        where: place,
        hint: code === "ENOSPC" || code === "EDQUOT"
          ? "Free some space there, or name another --target"
          : "Check the target directory and its permissions",
        cause,
      }),
  );
}
