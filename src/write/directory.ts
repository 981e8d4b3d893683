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
import { chmodSync, closeSync, mkdirSync, openSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import type { SpecialFile } from "../archive/entries.ts";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { type Body, type MemberSegment, segmentSize } from "../format/segment.ts";
import { digestEach, type HashTask, type NewFilePlace } from "../hash/pool.ts";
import { makeDevice } from "./mknod.ts";
import { settle, writeAll } from "../hash/piece.ts";
import { writing } from "../refused.ts";
import { syncDirectory } from "../runtime/durable.ts";
import { DigestMismatch } from "./writer.ts";

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
  const { onBytes, isThere = false, signal } = options;
  const digests = new Map<string, string>();
  const allowed = (mode: number) => options.followsUmask ? underUmask(mode) : mode;
  if (!isThere) writing(dir, () => makeDirectory(dir, allowed(0o755)));
  const made = makeEntries(dir, entries, options);
  // Files that are with the pool, and what was made in between, in order.
  const pending: Made[] = [];
  const tasks = async function* () {
    for await (const one of made) {
      pending.push(one);
      yield one.task;
    }
  };
  for await (const sha256 of digestEach(tasks(), { ...(onBytes && { onBytes }), signal })) {
    const { entry: { path, body }, ...one } = pending.shift()!;
    if (body?.kind === "file" && body.sha256 !== undefined && sha256 !== body.sha256) {
      throw DigestMismatch.of(body, sha256!);
    }
    if (body !== undefined) digests.set(path, sha256 ?? one.sha256!);
  }
  // Last, and from the inside out: the mode of a directory may forbid writing in it.
  for (const entry of entries.toReversed()) {
    if (!isDirectory(entry)) continue;
    const place = join(dir, entry.path);
    if (entry.mode !== undefined) {
      writing(place, () => chmodSync(place, allowed(modeOf(entry, options))));
    }
    if (!options.isDurable) continue;
    writing(place, () => syncDirectory(place));
    await setImmediate();
    throwIfInterrupted(signal);
  }
  return digests;
}

/** An entry that was made, or a file that a thread makes. */
interface Made {
  readonly entry: DirectoryEntry;
  /** Of a file that was made. */
  readonly sha256?: string;
  readonly task?: HashTask;
}

/** Makes entries one after the other, except files of this machine. */
async function* makeEntries(
  dir: string,
  entries: readonly DirectoryEntry[],
  options: DirectoryOptions,
): AsyncGenerator<Made, void, undefined> {
  const { onBytes, onLeftOut, isDurable: isSynced = false, signal } = options;
  const directories = new Set([join(dir)]);
  const members = new MemberReader(signal);
  const allowed = (mode: number) => options.followsUmask ? underUmask(mode) : mode;
  try {
    for (const entry of entries) {
      const { path, body, special } = entry;
      if (path.split("/").includes("..")) throw new Error(`${path} leaves its directory`);
      const place = join(dir, path);
      if (!directories.has(dirname(place))) throw notBelow(place);
      const mode = allowed(modeOf(entry, options));
      const to: NewFilePlace = { kind: "file", path: place, mode, isSynced };
      if (special !== undefined) {
        await putSpecial(place, special, mode, (why) => onLeftOut?.(path, why), signal);
        yield { entry };
      } else if (body === undefined) {
        writing(place, () => makeDirectory(place, allowed(0o755)));
        directories.add(place);
        yield { entry };
      } else if (body.kind === "file") {
        yield { entry, task: { segment: body, kind: "tree", to } };
      } else {
        const sha256 = body.kind === "bytes"
          ? writing(place, () => putBytes(to, body.bytes))
          : await putMember(to, body, members);
        onBytes?.(segmentSize(body));
        yield { entry, sha256 };
      }
      // Signals are only seen between two tasks.
      await setImmediate();
      throwIfInterrupted(signal);
    }
  } finally {
    await members.close();
  }
}

function isDirectory({ body, special }: DirectoryEntry): boolean {
  return body === undefined && special === undefined;
}

/** Returns the mode for an entry; the module comment has the rule for set-user-id bits. */
function modeOf(entry: DirectoryEntry, { keepsModes = false }: DirectoryOptions): number {
  const { mode, isExecutable } = entry;
  if (mode === undefined) return isDirectory(entry) || isExecutable ? 0o755 : 0o644;
  // The owner must be able to remove the directory again.
  if (isDirectory(entry)) return mode | 0o700;
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

/** Writes a new file from an archive, and returns its digest. */
async function putMember(
  to: NewFilePlace,
  body: MemberSegment,
  members: MemberReader,
): Promise<string> {
  const { path } = to;
  const hash = createHash("sha256");
  const target = writing(path, () => openSync(path, "wx", 0o600));
  try {
    for await (const piece of members.read(body)) {
      hash.update(piece);
      writing(path, () => writeAll(target, piece));
    }
    const sha256 = hash.digest("hex");
    checkMember(body, sha256);
    writing(path, () => settle(target, to));
    return sha256;
  } finally {
    closeSync(target);
  }
}

function putBytes(to: NewFilePlace, bytes: Uint8Array): string {
  const target = openSync(to.path, "wx", 0o600);
  try {
    writeAll(target, bytes);
    settle(target, to);
  } finally {
    closeSync(target);
  }
  return sha256Of(bytes);
}
