// SPDX-License-Identifier: MIT
/**
 * The index of a git work tree: the paths that git tracks.
 *
 *   index     = "DIRC" version:u32 count:u32 { entry } { extension } checksum
 *   entry     = stat:40 id flags:u16 [ more:u16 ] name      id: 20 bytes (SHA-1) or 32 (SHA-256)
 *   name      = in versions 2 and 3: the path, then 1 to 8 NULs up to a multiple of 8 bytes
 *               in version 4: how many bytes of the last path to drop, what to add, a NUL
 *   extension = signature:4 size:u32 data
 *   checksum  = of everything before it, by the hash of the ids; zeros if git was told to skip it
 *
 * Numbers are big-endian. Bytes 24 to 27 of an entry are the mode, of which the upper 4 of 16 bits
 * are the type: 4 a directory (all of it is tracked, in a sparse index), 8 a file, 10 a symbolic
 * link, 14 a submodule. `more` is there if bit 14 of the flags is set, from version 3 on. A reader
 * must know every extension that begins with a lower-case letter; `link` (a split index) has entries
 * in another file and is refused.
 *
 * Source: gitformat-index(5).
 *
 * @module
 */

import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";

/** A path that git tracks. */
export interface IndexedPath {
  /** Relative to the work tree. */
  readonly path: string;
  readonly kind: "file" | "link" | "directory" | "submodule";
}

const MAGIC = 0x44495243;
const HEADER_BYTES = 12;
const STAT_BYTES = 40;
const MODE_AT = 24;
const EXTENDED = 0x4000;
const KINDS: ReadonlyMap<number, IndexedPath["kind"]> = new Map([
  [4, "directory"],
  [8, "file"],
  [10, "link"],
  [14, "submodule"],
]);
/** Longest path; PATH_MAX of Linux. Version 4 could make 4 GiB of names from a small file. */
const MAX_PATH_BYTES = 4096;

/**
 * Reads an index.
 *
 * @param bytes The whole file, which may be anything.
 * @param name Its name in messages.
 * @returns Every path once, in the order of the index.
 * @throws {UserError} "format" with the offset, for a file that is damaged or of an unknown kind.
 */
export function readGitIndex(bytes: Uint8Array, name: string): IndexedPath[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || view.getUint32(0) !== MAGIC) {
    throw fault(name, 0, "it does not begin with DIRC");
  }
  const version = view.getUint32(4);
  if (version < 2 || version > 4) throw fault(name, 4, `its version is ${version}, not 2, 3 or 4`);
  const idBytes = findIdBytes(bytes);
  if (idBytes === undefined) throw fault(name, bytes.length, "its checksum is wrong");
  const end = bytes.length - idBytes;
  const paths = new Map<string, IndexedPath>();
  let at = HEADER_BYTES;
  let last: Uint8Array = new Uint8Array();
  for (let left = view.getUint32(8); left > 0; left--) {
    const start = at;
    if (at + STAT_BYTES + idBytes + 2 > end) throw fault(name, at, "it ends within an entry");
    const kind = KINDS.get(Math.floor(view.getUint32(at + MODE_AT) / 0x1000) % 16);
    if (kind === undefined) throw fault(name, at + MODE_AT, "an entry has an unknown type");
    at += STAT_BYTES + idBytes;
    const isExtended = version > 2 && (view.getUint16(at) & EXTENDED) !== 0;
    at += isExtended ? 4 : 2;
    let kept: Uint8Array = new Uint8Array();
    if (version === 4) {
      const { value, next } = readVarint(bytes, at, end);
      if (value === undefined || value > last.length) {
        throw fault(name, at, "a path drops more than the last one has");
      }
      kept = last.subarray(0, last.length - value);
      at = next;
    }
    const nul = bytes.indexOf(0, at);
    if (nul < 0 || nul >= end) throw fault(name, at, "a path has no end");
    const added = bytes.subarray(at, nul);
    if (kept.length + added.length > MAX_PATH_BYTES || kept.length + added.length === 0) {
      throw fault(name, at, `a path is empty or longer than ${MAX_PATH_BYTES} bytes`);
    }
    const whole = new Uint8Array(kept.length + added.length);
    whole.set(kept);
    whole.set(added, kept.length);
    last = whole;
    at = version === 4 ? nul + 1 : start + (Math.floor((nul - start) / 8) + 1) * 8;
    const path = new TextDecoder().decode(whole).replace(/\/$/, "");
    paths.set(path, { path, kind });
  }
  checkExtensions(view, name, at, end);
  return [...paths.values()];
}

/** Reads how many bytes to drop; undefined if that is no number that makes sense. */
function readVarint(
  bytes: Uint8Array,
  at: number,
  end: number,
): { value: number | undefined; next: number } {
  let value = 0;
  for (let next = at; next < end && next < at + 4; next++) {
    const byte = bytes[next]!;
    value = value * 128 + byte % 128;
    if (byte < 128) return { value, next: next + 1 };
    value++;
  }
  return { value: undefined, next: at };
}

function checkExtensions(view: DataView, name: string, from: number, end: number): void {
  let at = from;
  while (at < end) {
    if (at + 8 > end) throw fault(name, at, "it ends within an extension");
    const signature = [0, 1, 2, 3].map((i) => String.fromCharCode(view.getUint8(at + i))).join("");
    if (/^[^A-Z]/.test(signature) && signature !== "sdir") {
      throw fault(name, at, `it has the extension ${JSON.stringify(signature)}, which is not read`);
    }
    at += 8 + view.getUint32(at + 4);
  }
  if (at !== end) throw fault(name, end, "an extension is longer than the file");
}

/** Finds the length of the ids by the checksum; without one they are taken to be SHA-1. */
function findIdBytes(bytes: Uint8Array): number | undefined {
  for (const [algorithm, length] of [["sha1", 20], ["sha256", 32]] as const) {
    const end = bytes.length - length;
    if (end < HEADER_BYTES) continue;
    const found = bytes.subarray(end);
    const digest = createHash(algorithm).update(bytes.subarray(0, end)).digest();
    if (digest.every((byte, i) => byte === found[i])) return length;
  }
  return bytes.length >= HEADER_BYTES + 20 && bytes.subarray(-20).every((byte) => byte === 0)
    ? 20
    : undefined;
}

function fault(name: string, offset: number, what: string): UserError {
  return new UserError("format", `Cannot read ${name} as an index of git: ${what}`, {
    where: `${name}, offset ${offset}`,
  });
}
