// SPDX-License-Identifier: MIT
/**
 * Writes a directory, such as the root of a bootstrap, from entries.
 *
 * Files are copied, or cloned if the file system can, never linked: the bootstrap changes them in
 * place. Modes are 755 and 644, or those of the entries, under any umask unless asked. Nothing is synced by
 * default, as a bootstrap works in the directory.
 *
 * Set-user-id and set-group-id bits are kept only if root writes, as with tar: the new root needs
 * its own `su`. Written by another user, such files would give everybody the rights of that user.
 * No symbolic link is ever followed: each entry gets a new name in a directory that was made here.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { sha256Of } from "../bytes.ts";
import { underUmask } from "../runtime/umask.ts";
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
import { writeAll } from "../hash/piece.ts";
import { writing } from "../refused.ts";

/** A file, a symbolic link, a device, or a directory, which has neither `body` nor `special`. */
export interface DirectoryEntry {
  /** Relative to the directory, with `/` and without `..`; parents come first. */
  readonly path: string;
  readonly body?: Body;
  /** A symbolic link or a device, in place of a body. */
  readonly special?: SpecialFile;
  /** The lowest 12 bits of the mode; by default 755 or 644, by `isExecutable`. */
  readonly mode?: number;
  readonly isExecutable: boolean;
}

export interface DirectoryOptions {
  /** Called with the number of bytes that were written since the last call. */
  readonly onBytes?: (bytes: number) => void;
  /** Called with the path of a device that could not be made, and the reason. */
  readonly onLeftOut?: (path: string, why: string) => void;
  /** Keeps all mode bits for every user; for a private directory that is only copied from. */
  readonly keepsModes?: boolean;
  /** Whether the directory exists already, and is empty. */
  readonly isThere?: boolean;
  /** Modes are without what the umask denies; for what is no root of a machine. */
  readonly followsUmask?: boolean;
  /** Syncs everything before returning. */
  readonly isDurable?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Writes entries into a new directory.
 *
 * @param dir The directory, which must not exist unless `isThere` is set.
 * @returns SHA-256 of each file by path.
 * @throws {UserError} "verify" for a file whose digest is wrong, "target" for a failed write,
 * "format" or "verify" for an archive that changed, "interrupt" when the signal is raised.
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
  const allowed = (mode: number) => options.followsUmask ? underUmask(mode) : mode;
  if (!isThere) writing(dir, () => makeDirectory(dir, allowed(0o755)));
  try {
    for (const entry of entries) {
      const { path, body, special } = entry;
      if (path.split("/").includes("..")) throw new Error(`${path} leaves its directory`);
      const place = join(dir, path);
      if (!directories.has(dirname(place))) throw notBelow(place);
      const mode = allowed(modeOf(entry, keepsModes));
      if (special !== undefined) {
        await putSpecial(place, special, mode, (why) => onLeftOut?.(path, why), signal);
      } else if (body === undefined) {
        writing(place, () => makeDirectory(place, allowed(0o755)));
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
  // Last, and from the inside out: the mode of a directory may forbid writing in it.
  for (const entry of entries.toReversed()) {
    if (entry.body !== undefined || entry.special !== undefined || entry.mode === undefined) {
      continue;
    }
    const place = join(dir, entry.path);
    writing(place, () => chmodSync(place, allowed(modeOf(entry, keepsModes))));
  }
  if (options.isDurable) await syncEntries(dir, entries, signal);
  return digests;
}

/** Syncs files and directories, from the inside out. */
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

/** Returns the mode for an entry; the module comment has the rule for set-user-id bits. */
function modeOf(
  { body, special, mode, isExecutable }: DirectoryEntry,
  keepsModes: boolean,
): number {
  const isDirectory = body === undefined && special === undefined;
  if (mode === undefined) return isDirectory || isExecutable ? 0o755 : 0o644;
  // The owner must be able to remove the directory again.
  if (isDirectory) return mode | 0o700;
  return keepsModes || process.geteuid?.() === 0 ? mode : mode & 0o777;
}

function notBelow(place: string): UserError {
  return new UserError("target", `Cannot write ${place}: its parent is not a directory`, {
    where: place,
    hint: "Two sources of the build conflict: an archive and the checkout",
  });
}

/** Makes a directory of this mode, under any umask. */
export function makeDirectory(place: string, mode = 0o755): void {
  mkdirSync(place);
  chmodSync(place, mode);
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
    // By the open file, and last: writing clears set-user-id bits.
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
