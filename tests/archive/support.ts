// SPDX-License-Identifier: MIT
/**
 * Archives for tests, made byte by byte or by the real programs.
 *
 * @module
 */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readArchive, type ReadOptions } from "../../src/archive/archive.ts";
import type { Archive } from "../../src/archive/types.ts";
import type { UserError } from "../../src/errors.ts";
import { GIB } from "../../src/format/segment.ts";
import { rejection } from "../fetch/harness.ts";
import { concat } from "../support/sources.ts";

/** A member to write; absent fields have usual values. */
export interface RawMember {
  readonly name: string | Uint8Array;
  readonly type?: string;
  readonly data?: string | Uint8Array;
  /** The size in the header, if it is not that of the data. */
  readonly size?: number | string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly link?: string | Uint8Array;
  readonly major?: number;
  readonly minor?: number;
  readonly prefix?: string;
}

const encode = (text: string | Uint8Array) =>
  typeof text === "string" ? new TextEncoder().encode(text) : text;

/** Returns header, data and padding of a member. */
export function rawMember(member: RawMember): Uint8Array {
  const { name, type = "0", data = "", mode = 0o644, uid = 0, gid = 0, link = "" } = member;
  const body = encode(data);
  const { size = body.length, major = 0, minor = 0, prefix = "" } = member;
  const block = new Uint8Array(512);
  const put = (offset: number, value: string | Uint8Array, length: number) =>
    block.set(encode(value).subarray(0, length), offset);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(0, name, 100);
  put(100, octal(mode, 7), 8);
  put(108, octal(uid, 7), 8);
  put(116, octal(gid, 7), 8);
  put(124, typeof size === "string" ? size : octal(size, 11), 12);
  put(136, octal(0, 11), 12);
  put(156, type, 1);
  put(157, link, 100);
  put(257, "ustar\0" + "00", 8);
  put(329, octal(major, 7), 8);
  put(337, octal(minor, 7), 8);
  put(345, prefix, 155);
  put(148, " ".repeat(8), 8);
  put(148, `${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 8);
  return concat([block, body, new Uint8Array(-body.length & 511)]);
}

/** Returns a pax header for the next member. */
export function paxMember(records: Readonly<Record<string, string>>, type = "x"): RawMember {
  const data = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = encode(rest).length;
    while (`${length}${rest}`.length - rest.length + encode(rest).length !== length) length++;
    return `${length}${rest}`;
  }).join("");
  return { name: "pax", type, data };
}

export const END = new Uint8Array(1024);

/** Returns a whole tar file. */
export function rawTar(members: readonly RawMember[]): Uint8Array {
  return concat([...members.map(rawMember), END]);
}

/** Writes an archive and lists it. */
export async function listed(
  dir: string,
  bytes: Uint8Array,
  options: Partial<ReadOptions> = {},
): Promise<Archive> {
  const path = join(dir, "archive");
  writeFileSync(path, bytes);
  return await readArchive(path, { maxBytes: 4 * GIB, ...options });
}

/** Returns the error of a refused archive, after a check that it names the archive and member. */
export async function refusal(
  dir: string,
  bytes: Uint8Array,
  member?: string,
  options: Partial<ReadOptions> = {},
): Promise<UserError> {
  const error = await rejection(listed(dir, bytes, options));
  expect(error.kind).toBe("format");
  expect(error.where).toStartWith(join(dir, "archive"));
  if (member !== undefined) {
    expect(error.where).toBe(`${join(dir, "archive")}: ${JSON.stringify(member)}`);
    expect(error.message).toContain(JSON.stringify(member));
  }
  return error;
}

/** The programs that compress, with the options that make them write several blocks. */
export const PROGRAMS = {
  gzip: ["gzip", "-c"],
  bzip2: ["bzip2", "-1c"],
  xz: ["xz", "-1c", "--block-size=50000"],
  zstd: ["zstd", "-qc"],
} as const;
export type Program = keyof typeof PROGRAMS;
export const COMPRESSIONS = Object.keys(PROGRAMS) as Program[];

/** Compresses bytes with a program. */
export function compress(program: Program, bytes: Uint8Array): Uint8Array {
  return output([...PROGRAMS[program]], bytes);
}

/** Runs a program on some standard input and returns its output. */
export function output(argv: string[], stdin: Uint8Array = new Uint8Array(), cwd?: string) {
  const ran = Bun.spawnSync(argv, { stdin, stderr: "pipe", ...(cwd !== undefined && { cwd }) });
  if (!ran.success) throw new Error(`${argv.join(" ")}: ${ran.stderr}`);
  return new Uint8Array(ran.stdout);
}

/** Returns incompressible bytes, the same for the same seed. */
export function noise(size: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length: size }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 16;
  });
}
