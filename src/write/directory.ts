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
import { sha256Of } from "../bytes.ts";
import {
  chmodSync,
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import type { SpecialFile } from "../archive/entries.ts";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { type Body, type MemberSegment, segmentSize } from "../format/segment.ts";
import { putFile } from "./copy.ts";
import { makeDevice } from "./mknod.ts";
import { writeAll } from "./piece.ts";
import { writing } from "../refused.ts";

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
      writing(place, () => writeAll(target, piece));
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

function putBytes(place: string, bytes: Uint8Array, mode: number): string {
  writeFileSync(place, bytes, { flag: "wx" });
  chmodSync(place, mode);
  return sha256Of(bytes);
}
