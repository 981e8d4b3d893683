// SPDX-License-Identifier: MIT
/**
 * A directory that a bootstrap starts in, written from entries.
 *
 * Files are copied, or cloned where the file system can, never linked: the bootstrap changes them
 * in place. Modes are 755 and 644, or what an entry says, under any umask. Nothing is synced unless
 * that is asked for: it is a place to work in.
 *
 * Set-user-id and set-group-id bits are kept where root writes, as tar does it: the new root needs
 * its own `su`. Whoever else writes would only lend out an account. No symbolic link is ever
 * followed: an entry lies in a directory that was made here, and takes a name that is free.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import type { SpecialFile } from "../archive/entries.ts";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { messageOf, orRefused, systemCode, throwIfInterrupted, UserError } from "../errors.ts";
import {
  type Body,
  type FileSegment,
  type MemberSegment,
  MIB,
  runsOf,
  segmentSize,
} from "../format/segment.ts";
import { isZero } from "../format/tar.ts";
import { makeDevice } from "./device.ts";
import { checkLength, DigestMismatch } from "./writer.ts";

/** A file, or a directory where there is neither a body nor something special. */
export interface DirectoryEntry {
  /** Relative to the directory, with `/` and without `..`; parents come first. */
  readonly path: string;
  readonly body?: Body;
  /** A symbolic link or a device, in place of a body. */
  readonly special?: SpecialFile;
  /** The lowest 12 bits, in place of those that `isExecutable` says. */
  readonly mode?: number;
  readonly isExecutable: boolean;
}

export interface DirectoryOptions {
  /** Called with the number of bytes that were written since the last call. */
  readonly onBytes?: (bytes: number) => void;
  /** Called with the path of a device that could not be made, and why. */
  readonly onLeftOut?: (path: string, why: string) => void;
  /**
   * Modes are passed on whole whoever writes. For a directory that is private, and only copied
   * from.
   */
  readonly keepsModes?: boolean;
  /** The directory is there already, and empty. */
  readonly isThere?: boolean;
  /** Everything is on the disk when it returns. */
  readonly isDurable?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Writes entries into a new directory.
 *
 * @param dir The directory, which must not exist unless the options say so.
 * @returns SHA-256 of each file by path.
 * @throws {UserError} "verify" for a file whose digest is wrong, "target" for what cannot be
 * written, "format" or "verify" for an archive that changed, "interrupt" when the signal is raised.
 */
export async function writeDirectory(
  dir: string,
  entries: readonly DirectoryEntry[],
  options: DirectoryOptions = {},
): Promise<Map<string, string>> {
  const { onBytes, onLeftOut, keepsModes = false, isThere = false, signal } = options;
  const digests = new Map<string, string>();
  const directories = new Set([join(dir)]);
  const members = new MemberReader(signal);
  if (!isThere) writing(dir, () => makeDirectory(dir));
  try {
    for (const entry of entries) {
      const { path, body, special } = entry;
      if (path.split("/").includes("..")) throw new Error(`${path} leaves its directory`);
      const place = join(dir, path);
      if (!directories.has(dirname(place))) throw notBelow(place);
      const mode = modeOf(entry, keepsModes);
      if (special !== undefined) {
        await putSpecial(place, special, mode, (why) => onLeftOut?.(path, why), signal);
      } else if (body === undefined) {
        writing(place, () => makeDirectory(place));
        directories.add(place);
      } else {
        digests.set(path, await putBody(place, body, mode, members, signal));
        onBytes?.(segmentSize(body));
      }
      // Signals are only seen between two tasks.
      await setImmediate();
      throwIfInterrupted(signal);
    }
  } finally {
    await members.close();
  }
  // Last, and from the inside out: a directory may forbid what was to be done in it.
  for (const entry of entries.toReversed()) {
    if (entry.body !== undefined || entry.special !== undefined || entry.mode === undefined) {
      continue;
    }
    const place = join(dir, entry.path);
    writing(place, () => chmodSync(place, modeOf(entry, keepsModes)));
  }
  if (options.isDurable) await syncEntries(dir, entries, signal);
  return digests;
}

/** Makes files and directories durable, from the inside out. */
async function syncEntries(
  dir: string,
  entries: readonly DirectoryEntry[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const { path, special } of entries.toReversed()) {
    if (special !== undefined) continue;
    const place = join(dir, path);
    const file = writing(place, () => openSync(place, "r"));
    try {
      writing(place, () => fsyncSync(file));
    } finally {
      closeSync(file);
    }
    await setImmediate();
    throwIfInterrupted(signal);
  }
}

/** The mode that an entry gets; see the top for what only root passes on. */
function modeOf(
  { body, special, mode, isExecutable }: DirectoryEntry,
  keepsModes: boolean,
): number {
  const isDirectory = body === undefined && special === undefined;
  if (mode === undefined) return isDirectory || isExecutable ? 0o755 : 0o644;
  // Whoever wrote a directory can remove it again.
  if (isDirectory) return mode | 0o700;
  return keepsModes || process.geteuid?.() === 0 ? mode : mode & 0o777;
}

function notBelow(place: string): UserError {
  return new UserError("target", `Cannot write ${place}: what it lies in is no directory`, {
    where: place,
    hint: "Two sources of the build do not go together: an archive and the checkout",
  });
}

/** Makes a directory that only its owner may write to. */
export function makeDirectory(place: string): void {
  mkdirSync(place);
  chmodSync(place, 0o755);
}

async function putSpecial(
  place: string,
  special: SpecialFile,
  mode: number,
  onLeftOut: (why: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (special.kind === "symlink") {
    writing(place, () => symlinkSync(special.target, place));
    return;
  }
  const why = await makeDevice(place, special, mode, signal);
  if (why !== undefined) onLeftOut(why);
}

/** Writes a new file and returns its digest. */
async function putBody(
  place: string,
  body: Body,
  mode: number,
  members: MemberReader,
  signal: AbortSignal | undefined,
): Promise<string> {
  switch (body.kind) {
    case "bytes":
      return writing(place, () => putBytes(place, body.bytes, mode));
    case "file":
      return await putFile(place, body, mode, signal);
    case "member":
      return await putMember(place, body, mode, members);
  }
}

async function putMember(
  place: string,
  body: MemberSegment,
  mode: number,
  members: MemberReader,
): Promise<string> {
  const hash = createHash("sha256");
  const target = writing(place, () => openSync(place, "wx", 0o600));
  try {
    for await (const piece of members.read(body)) {
      hash.update(piece);
      writing(place, () => writeWhole(target, piece));
    }
    const sha256 = hash.digest("hex");
    checkMember(body, sha256);
    // By the open file, and last: writing takes set-user-id bits away.
    writing(place, () => fchmodSync(target, mode));
    return sha256;
  } finally {
    closeSync(target);
  }
}

function writeWhole(target: number, bytes: Uint8Array, position: number | null = null): void {
  for (let done = 0; done < bytes.length;) {
    const at = position === null ? null : position + done;
    done += writeSync(target, bytes, done, bytes.length - done, at);
  }
}

function putBytes(place: string, bytes: Uint8Array, mode: number): string {
  writeFileSync(place, bytes, { flag: "wx" });
  chmodSync(place, mode);
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * Copies or clones a file to a new place, verifies it, and returns its digest.
 *
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
  const isWhole = body.bundled === undefined && body.offset === 0 && body.isPart !== true;
  const isCloned = isWhole && writing(place, () => clone(body.path, place));
  const sha256 = isCloned
    ? writing(place, () => digestFile(place))
    : await copy(body, place, signal);
  if (body.sha256 !== undefined && sha256 !== body.sha256) throw DigestMismatch.of(body, sha256);
  writing(place, () => chmodSync(place, mode));
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

/** Copies the bytes of a segment and returns the digest of what was copied; zeros become holes. */
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
      if (!isHole) writing(to, () => writeWhole(target, bytes, position));
      position += bytes.length;
    });
    writing(to, () => ftruncateSync(target, position));
    return sha256;
  } finally {
    closeSync(target);
  }
}

/**
 * SHA-256 of the bytes of a segment.
 *
 * @param onBytes Gets what was read, valid until it returns.
 * @throws {UserError} "tree" for a file that changed, "target" for one that cannot be read,
 * "interrupt"
 */
export async function digestSegment(
  segment: FileSegment,
  signal?: AbortSignal,
  onBytes: (bytes: Uint8Array) => void = () => {},
): Promise<string> {
  const hash = createHash("sha256");
  let read = 0;
  for (const run of runsOf(segment)) {
    const file = writing(run.path, () => openSync(run.path, "r"));
    try {
      checkLength(segment, run, fstatSync(file).size);
      for (let done = 0; done < run.size;) {
        const most = Math.min(buffer.length, run.size - done);
        const size = writing(
          run.path,
          () => readSync(file, buffer, 0, most, run.offset + done),
        );
        if (size === 0) break;
        const bytes = buffer.subarray(0, size);
        hash.update(bytes);
        onBytes(bytes);
        done += size;
        read += size;
        // Signals are only seen between two tasks. The buffer is shared: it is done with here.
        if (read % YIELD_BYTES === 0) await setImmediate();
        throwIfInterrupted(signal);
      }
    } finally {
      closeSync(file);
    }
  }
  return hash.digest("hex");
}

const YIELD_BYTES = 64 * MIB;

/** SHA-256 of a whole file. */
export function digestFile(path: string): string {
  const hash = createHash("sha256");
  const file = openSync(path, "r");
  try {
    for (;;) {
      const size = readSync(file, buffer, 0, buffer.length, null);
      if (size === 0) return hash.digest("hex");
      hash.update(buffer.subarray(0, size));
    }
  } finally {
    closeSync(file);
  }
}

/** Runs what may be refused at a place. */
export function writing<T>(place: string, write: () => T): T {
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
