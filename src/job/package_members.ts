// SPDX-License-Identifier: MIT
/**
 * What two package archives differ in: tar, as it is or compressed.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import type { Writable } from "node:stream";
import { UserError } from "../errors.ts";
import { findProgram } from "../launch/process.ts";

/** Gives the bytes of an archive, in parts that are valid until the next one. */
export type ReadArchive = () => Generator<Uint8Array, void, undefined>;

/** A member that two archives do not have alike. */
export interface MemberDifference {
  readonly kind: "only in first" | "only in second" | "different";
  readonly path: string;
}

/** Programs that unpack standard input, by the end of an archive's name. */
const UNPACKERS: Readonly<Record<string, string>> = {
  ".tar.bz2": "bzip2",
  ".tar.gz": "gzip",
  ".tar.xz": "xz",
};

/**
 * Compares two archives member by member.
 *
 * @param name Name of both: its end tells the compression.
 * @throws {UserError} "format" for what cannot be read as an archive, and where the program that
 * unpacks it is missing.
 */
export async function diffMembers(
  name: string,
  a: ReadArchive,
  b: ReadArchive,
): Promise<MemberDifference[]> {
  const before = await readMembers(name, a);
  const after = await readMembers(name, b);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return paths.flatMap((path): MemberDifference[] => {
    if (!after.has(path)) return [{ kind: "only in first", path }];
    if (!before.has(path)) return [{ kind: "only in second", path }];
    return before.get(path) === after.get(path) ? [] : [{ kind: "different", path }];
  });
}

/** Digests of header and content by path. */
async function readMembers(name: string, read: ReadArchive): Promise<Map<string, string>> {
  const members = new TarMembers(name);
  const ending = Object.keys(UNPACKERS).find((ending) => name.endsWith(ending));
  if (ending !== undefined) await unpack(UNPACKERS[ending]!, name, read, members);
  else if (name.endsWith(".tar")) { for (const part of read()) members.push(part); }
  else throw unreadable(name, "it is no tar archive by its name");
  return members.finish();
}

async function unpack(
  program: string,
  name: string,
  read: ReadArchive,
  members: TarMembers,
): Promise<void> {
  const path = await findProgram(program);
  if (path === undefined) throw unreadable(name, `${program} is not installed`);
  const child = spawn(path, ["-dc"], { stdio: ["pipe", "pipe", "ignore"] });
  const ended = once(child, "close");
  // It may end before it has read everything; its exit code tells why.
  child.stdin.on("error", () => {});
  const feeding = feed(child.stdin, read, ended);
  try {
    for await (const part of child.stdout) members.push(part);
    await feeding;
    const [code] = await ended;
    if (code !== 0) throw unreadable(name, `${program} cannot unpack it`);
  } finally {
    child.kill("SIGKILL");
    // Nothing reads on when this is left: the image may be closed then.
    await Promise.allSettled([feeding, ended]);
  }
}

async function feed(stdin: Writable, read: ReadArchive, ended: Promise<unknown>): Promise<void> {
  for (const part of read()) {
    if (stdin.destroyed) return;
    if (!stdin.write(part.slice())) await Promise.race([once(stdin, "drain"), ended]);
  }
  stdin.end();
}

const BLOCK_BYTES = 512;
/** Longest name that a member ahead of another may carry. */
const MAX_EXTRA_BYTES = 1024 * 1024;
const MAX_MEMBERS = 2_000_000;

/** Reads a tar as its bytes come. */
class TarMembers {
  readonly #name: string;
  readonly #members = new Map<string, string>();
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #filled = 0;
  /** Bytes of data and of padding that are to come. */
  #data = 0;
  #padding = 0;
  #path: string | undefined;
  #hash: Hash = createHash("sha256");
  /** Data of a member that says something of the next one. */
  #extra: { readonly type: string; readonly parts: Uint8Array[] } | undefined;
  #nextPath: string | undefined;
  #nextSize: number | undefined;
  /** What members ahead have said of the next one. */
  #said = "";
  #isAtEnd = false;

  constructor(name: string) {
    this.#name = name;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#isAtEnd;) {
      if (this.#data > 0) {
        const part = bytes.subarray(at, at + this.#data);
        this.#hash.update(part);
        this.#extra?.parts.push(part.slice());
        this.#data -= part.length;
        at += part.length;
        if (this.#data === 0) this.#endMember();
      } else if (this.#padding > 0) {
        const skipped = Math.min(this.#padding, bytes.length - at);
        this.#padding -= skipped;
        at += skipped;
      } else {
        const part = bytes.subarray(at, at + BLOCK_BYTES - this.#filled);
        this.#block.set(part, this.#filled);
        this.#filled += part.length;
        at += part.length;
        if (this.#filled === BLOCK_BYTES) this.#header();
      }
    }
  }

  /** @throws {UserError} "format" where the archive ends in the middle. */
  finish(): Map<string, string> {
    if (this.#data > 0 || this.#filled > 0 || !this.#isAtEnd) {
      throw unreadable(this.#name, "it ends in the middle");
    }
    return this.#members;
  }

  #header(): void {
    const block = this.#block;
    this.#filled = 0;
    if (block.every((byte) => byte === 0)) {
      this.#isAtEnd = true;
      return;
    }
    const sum = block.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0);
    if (octal(block, 148, 8) !== sum) throw unreadable(this.#name, "a header has a wrong checksum");
    const type = String.fromCharCode(block[156]! || 0x30);
    const isExtra = "LKxg".includes(type);
    const size = (isExtra ? undefined : this.#nextSize) ?? numberAt(block, 124, 12);
    if (!Number.isSafeInteger(size) || size < 0) {
      throw unreadable(this.#name, "a size is no number");
    }
    // What has no data may still say a size: links of old tars do.
    this.#data = "12345".includes(type) ? 0 : size;
    this.#padding = (BLOCK_BYTES - this.#data % BLOCK_BYTES) % BLOCK_BYTES;
    this.#hash = createHash("sha256").update(meaningOf(block));
    if (isExtra) {
      if (size > MAX_EXTRA_BYTES) throw unreadable(this.#name, "a name is too long");
      this.#extra = { type, parts: [] };
    } else {
      const prefix = text(block, 257, 6) === "ustar" ? text(block, 345, 155) : "";
      const short = text(block, 0, 100);
      this.#path = this.#nextPath ?? (prefix === "" ? short : `${prefix}/${short}`);
      this.#hash.update(this.#said);
      this.#nextPath = undefined;
      this.#nextSize = undefined;
      this.#said = "";
    }
    if (this.#data === 0) this.#endMember();
  }

  #endMember(): void {
    const extra = this.#extra;
    if (extra === undefined) {
      if (this.#members.size >= MAX_MEMBERS) throw unreadable(this.#name, "too many members");
      this.#members.set(this.#path!, this.#hash.digest("hex"));
      return;
    }
    this.#extra = undefined;
    const bytes = Uint8Array.from(extra.parts.flatMap((part) => [...part]));
    const value = new TextDecoder().decode(bytes);
    this.#said += `${extra.type}${value}`;
    if (this.#said.length > MAX_EXTRA_BYTES) throw unreadable(this.#name, "a name is too long");
    if (extra.type === "L") this.#nextPath = value.replace(/\0.*$/s, "");
    if (extra.type !== "x") return;
    const records = paxRecords(bytes);
    this.#nextPath = records.get("path") ?? this.#nextPath;
    const size = records.get("size");
    if (size !== undefined) this.#nextSize = Number(size);
  }
}

/** Records `length " " key "=" value LF`; what is no such ends them. */
function paxRecords(bytes: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  const decoder = new TextDecoder();
  for (let at = 0; at < bytes.length;) {
    const digits = /^\d{1,7} /.exec(decoder.decode(bytes.subarray(at, at + 8)))?.[0];
    const length = Number(digits ?? 0);
    if (digits === undefined || length <= digits.length) break;
    const record = decoder.decode(bytes.subarray(at + digits.length, at + length - 1));
    const equals = record.indexOf("=");
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

/** A header without its name, which is compared on its own, and its checksum. */
function meaningOf(block: Uint8Array): Uint8Array {
  const meaning = block.slice(100);
  meaning.fill(0, 148 - 100, 156 - 100);
  meaning.fill(0, 345 - 100);
  return meaning;
}

function text(block: Uint8Array, at: number, length: number): string {
  return new TextDecoder().decode(block.subarray(at, at + length)).replace(/\0.*$/s, "");
}

function octal(block: Uint8Array, at: number, length: number): number {
  return parseInt(text(block, at, length).trim() || "0", 8);
}

/** Octal digits, or where the first bit is set a big-endian integer (GNU). */
function numberAt(block: Uint8Array, at: number, length: number): number {
  if (block[at]! < 0x80) return octal(block, at, length);
  return block.subarray(at + 1, at + length).reduce((value, byte) => value * 256 + byte, 0);
}

function unreadable(name: string, why: string): UserError {
  return new UserError("format", `Cannot read ${name}: ${why}`);
}
