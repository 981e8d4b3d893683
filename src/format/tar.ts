// SPDX-License-Identifier: MIT
/**
 * tar: the headers of members, in the formats of ustar, pax, GNU tar and tar of Unix version 7.
 *
 *   archive = { header{512} data padding } 00{1024} 00*
 *   header  = name{100} mode{8} uid{8} gid{8} size{12} mtime{12} checksum{8} type linkName{100}
 *             magic{6} version{2} userName{32} groupName{32} major{8} minor{8} prefix{155} 00{12}
 *
 * Numbers are octal digits with spaces or NULs around them, or big-endian integers if the first bit
 * is set (GNU). The checksum is the sum of the bytes of the header, with spaces for the checksum
 * itself. The prefix, which only ustar has (magic "ustar" NUL), comes before the name, with a "/".
 *
 * Values that do not fit into a header are in a member before it: types L and K contain a long name
 * and a long link name (GNU), x contains records `length " " key "=" value LF` (pax), and g the
 * same for all following members.
 *
 * Sources: POSIX.1-2017, pax; GNU tar manual 1.35, "Basic Tar Format".
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import {
  type BytesSegment,
  type FileSegment,
  type JoinedSegment,
  joinedSegment,
  paddingTo,
  type ZerosSegment,
} from "./segment.ts";

/** Length of a header, and the unit that data is padded to. */
export const TAR_BLOCK_BYTES = 512;

/** The fields of a header. */
export interface TarHeader {
  /** The raw bytes, including the prefix. */
  readonly name: Uint8Array;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** "0" also for NUL, which version 7 writes. */
  readonly type: string;
  readonly linkName: Uint8Array;
  /** Major number of a device; 0 if the field has no number. */
  readonly major: number;
  readonly minor: number;
}

/** Reports whether a block has the checksum of a header. */
export function isTarHeader(block: Uint8Array): boolean {
  let sum = 0;
  for (let at = 0; at < TAR_BLOCK_BYTES; at++) {
    sum += at >= 148 && at < 156 ? 0x20 : block[at]!;
  }
  return octal(block, 148, 8) === sum;
}

/**
 * Reads a header.
 *
 * @param block 512 bytes.
 * @returns The header, or a phrase that says what is wrong with it.
 */
export function readTarHeader(block: Uint8Array): TarHeader | string {
  if (!isTarHeader(block)) return "the checksum of a header is wrong";
  const mode = number(block, 100, 8);
  const size = number(block, 124, 12);
  if (size === undefined) return "a size is not a number";
  if (mode === undefined) return "a mode is not a number";
  const isUstar = text(block, 257, 6) === "ustar\0";
  const prefix = isUstar ? string(block, 345, 155) : new Uint8Array();
  const name = string(block, 0, 100);
  return {
    name: prefix.length === 0 ? name : joined(prefix, name),
    mode,
    // An owner field that cannot be read does not count as root.
    uid: number(block, 108, 8) ?? -1,
    gid: number(block, 116, 8) ?? -1,
    size,
    type: block[156] === 0 ? "0" : String.fromCharCode(block[156]!),
    linkName: string(block, 157, 100),
    major: number(block, 329, 8) ?? 0,
    minor: number(block, 337, 8) ?? 0,
  };
}

/**
 * Reads the records of a pax header.
 *
 * @returns The values by key, the last one if a key occurs twice; or a phrase that says what is
 * wrong.
 */
export function readPaxRecords(bytes: Uint8Array): Map<string, Uint8Array> | string {
  const records = new Map<string, Uint8Array>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    const digits = text(bytes, at, Math.max(0, Math.min(space - at, 10)));
    const end = at + (/^[0-9]+$/.test(digits) ? Number(digits) : 0);
    const equals = bytes.indexOf(0x3d, space);
    if (end > bytes.length || equals < 0 || equals >= end - 1 || bytes[end - 1] !== 0x0a) {
      return "a pax header is damaged";
    }
    records.set(text(bytes, space + 1, equals - space - 1), bytes.slice(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** A member to write. Its owner is root, and its time is the start of 1970. */
export interface TarMember {
  /** Without a slash at its end. */
  readonly path: string;
  readonly kind: "file" | "directory";
  /** Size of its data in bytes; 0 for a directory. */
  readonly size: number;
  /** Whether its mode is 755 instead of 644; a directory always has 755. */
  readonly isExecutable: boolean;
}

/** Lengths of the fields of a header for a path, and the largest number of 11 octal digits. */
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
const MAX_USTAR_SIZE = 8 ** 11 - 1;
/** The largest number of 7 octal digits. */
const MAX_USTAR_OWNER = 8 ** 7 - 1;

/** Name of the pax members: readers that support them never show it. */
const PAX_NAME = "PaxHeaders/next";

/**
 * Returns the header of a member in the one format that we write: ustar, with a pax header before
 * it for a path or size that does not fit.
 *
 * @returns A multiple of 512 bytes; the data follows, with zeros up to the next multiple.
 * @throws {UserError} "usage" for a path that cannot be written.
 */
export function tarHeader({ path, kind, size, isExecutable }: TarMember): Uint8Array {
  checkTarPath(path);
  const mode = kind === "directory" || isExecutable ? 0o755 : 0o644;
  return headerOf({ path, kind, size, mode, uid: 0, gid: 0 });
}

function checkTarPath(path: string): void {
  if (path !== "" && !/[\0\n]/.test(path) && path.isWellFormed()) return;
  throw new UserError("usage", `Cannot put ${JSON.stringify(path)} into a tar file`, {
    hint: "Rename the file: a name is Unicode text without NUL and newline",
  });
}

/** A member of the tar of a root. Its time is the start of 1970. */
export interface RootMember extends Pick<TarMember, "path" | "size"> {
  /** A link is a hard link, to an earlier member. */
  readonly kind: TarMember["kind"] | "symlink" | "link";
  /** The lowest 12 bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Target of a symlink, path of the member that a link is. */
  readonly linkName?: string;
}

/** Types of members in a header. */
const TYPES = { file: "0", link: "1", symlink: "2", directory: "5" } as const;

/**
 * Returns the header of a member of a root, in the format of {@link tarHeader}; any name that has no
 * NUL is kept as it is.
 *
 * @returns A multiple of 512 bytes; the data of a file follows, with zeros up to the next multiple.
 * @throws {UserError} "usage" for a path or a target that is not Unicode text without NUL.
 */
export function rootHeader(member: RootMember): Uint8Array {
  for (const name of [member.path, member.linkName ?? "x"]) {
    if (name !== "" && !name.includes("\0") && name.isWellFormed()) continue;
    throw new UserError("usage", `Cannot put ${JSON.stringify(name)} into a tar file`);
  }
  return headerOf(member);
}

function headerOf({ path, kind, size, mode, uid, gid, linkName }: RootMember): Uint8Array {
  const encoder = new TextEncoder();
  const name = encoder.encode(kind === "directory" ? `${path}/` : path);
  const place = splitName(name);
  const link = encoder.encode(linkName ?? "");
  const fitsSize = size <= MAX_USTAR_SIZE;
  const fitsOwner = Math.max(uid, gid) <= MAX_USTAR_OWNER;
  const header = ustar({
    name: place?.name ?? name.subarray(0, NAME_BYTES),
    prefix: place?.prefix ?? new Uint8Array(),
    mode,
    uid: fitsOwner ? uid : 0,
    gid: fitsOwner ? gid : 0,
    size: fitsSize ? size : 0,
    type: TYPES[kind],
    linkName: link.subarray(0, NAME_BYTES),
  });
  const decimal = (key: string, value: number) => paxRecord(key, encoder.encode(String(value)));
  const records = [
    ...(place === undefined ? [paxRecord("path", name)] : []),
    ...(link.length <= NAME_BYTES ? [] : [paxRecord("linkpath", link)]),
    ...(fitsSize ? [] : [decimal("size", size)]),
    ...(fitsOwner ? [] : [decimal("uid", uid), decimal("gid", gid)]),
  ];
  if (records.length === 0) return header;
  const data = Buffer.concat(records);
  const pax = ustar({
    name: new TextEncoder().encode(PAX_NAME),
    prefix: new Uint8Array(),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: data.length,
    type: "x",
    linkName: new Uint8Array(),
  });
  return Buffer.concat([pax, data, Buffer.alloc(-data.length & (TAR_BLOCK_BYTES - 1)), header]);
}

/** A file or directory for {@link plainTar}. */
export interface PlainMember {
  /** Without a slash at its end. */
  readonly path: string;
  /** The content of a file; a directory has none. */
  readonly body?: FileSegment;
  readonly isExecutable: boolean;
}

/**
 * Joins files to a tar for every reader, GNU tar 1.12 among them, which knows neither pax nor the
 * prefix of ustar: a name that does not fit into a header is in a member of type L before it.
 *
 * @param members In any order: they are sorted here.
 * @throws {UserError} "usage" for a path that cannot be written, and a file of 8 GiB or more.
 */
export function plainTar(members: readonly PlainMember[]): JoinedSegment {
  const parts: (BytesSegment | FileSegment | ZerosSegment)[] = [];
  for (const { path, body, isExecutable } of sortedByBytes(members, ({ path }) => path)) {
    const size = body?.sizeBytes ?? 0;
    checkTarPath(path);
    if (size > MAX_USTAR_SIZE) {
      throw new UserError("usage", `Cannot put ${JSON.stringify(path)} into a tar file`, {
        hint: "A file there has less than 8 GiB",
      });
    }
    const name = Buffer.from(body === undefined ? `${path}/` : path);
    const fields = { prefix: NONE, uid: 0, gid: 0, linkName: NONE };
    if (name.length > PLAIN_NAME_BYTES) {
      const data = Buffer.concat([name, Buffer.alloc(1)]);
      parts.push(
        {
          kind: "bytes",
          bytes: ustar({ ...fields, name: LONG_NAME, mode: 0, size: data.length, type: "L" }),
        },
        { kind: "bytes", bytes: data },
        ...paddingTo(data.length, TAR_BLOCK_BYTES),
      );
    }
    const mode = body === undefined || isExecutable ? 0o755 : 0o644;
    const type = body === undefined ? TYPES.directory : TYPES.file;
    const cut = name.subarray(0, NAME_BYTES);
    parts.push({ kind: "bytes", bytes: ustar({ ...fields, name: cut, mode, size, type }) });
    if (body !== undefined && size > 0) parts.push(body, ...paddingTo(size, TAR_BLOCK_BYTES));
  }
  parts.push({ kind: "zeros", sizeBytes: 2 * TAR_BLOCK_BYTES });
  return joinedSegment(parts);
}

const NONE = new Uint8Array();
/** GNU tar 1.12 puts a NUL in the place of the last byte of a name. */
const PLAIN_NAME_BYTES = NAME_BYTES - 1;
/** Name of a member that holds a long name. */
const LONG_NAME = Buffer.from("././@LongLink");

/** Splits a name into prefix and name; returns undefined if it does not fit. */
function splitName(name: Uint8Array): { prefix: Uint8Array; name: Uint8Array } | undefined {
  if (name.length <= NAME_BYTES) return { prefix: new Uint8Array(), name };
  const slash = name.indexOf(0x2f, name.length - NAME_BYTES - 1);
  // A slash at the end belongs to the name of a directory, which must not be empty.
  if (slash < 1 || slash > PREFIX_BYTES || slash === name.length - 1) return undefined;
  return { prefix: name.subarray(0, slash), name: name.subarray(slash + 1) };
}

function ustar(
  { name, prefix, mode, uid, gid, size, type, linkName }: {
    name: Uint8Array;
    prefix: Uint8Array;
    mode: number;
    uid: number;
    gid: number;
    size: number;
    type: string;
    linkName: Uint8Array;
  },
): Uint8Array {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const digits = (value: number, count: number) => value.toString(8).padStart(count, "0");
  block.set(name, 0);
  block.write(`${digits(mode, 7)}\0${digits(uid, 7)}\0${digits(gid, 7)}\0`, 100);
  block.write(`${digits(size, 11)}\0${digits(0, 11)}\0${" ".repeat(8)}${type}`, 124);
  block.set(linkName, 157);
  block.write("ustar\x0000", 257);
  block.write(`${digits(0, 7)}\0${digits(0, 7)}\0`, 329);
  block.set(prefix, 345);
  block.write(`${digits(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 148);
  return block;
}

/** Returns a record, whose length includes its own digits. */
function paxRecord(key: string, value: Uint8Array): Uint8Array {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from("\n")]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) {
    length = String(length).length + rest.length;
  }
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** Returns a copy of the bytes of a field up to a NUL. */
function string(block: Uint8Array, offset: number, length: number): Uint8Array {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.slice(0, end < 0 ? length : end);
}

function text(bytes: Uint8Array, offset: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(offset, offset + Math.min(length, 1024)));
}

function joined(prefix: Uint8Array, name: Uint8Array): Uint8Array {
  const whole = new Uint8Array(prefix.length + 1 + name.length);
  whole.set(prefix);
  whole[prefix.length] = 0x2f;
  whole.set(name, prefix.length + 1);
  return whole;
}

/** Reads a number; undefined if it is negative, inexact or not a number. */
function number(block: Uint8Array, offset: number, length: number): number | undefined {
  const first = block[offset]!;
  if ((first & 0x80) === 0) return octal(block, offset, length);
  // FF begins a negative number.
  if (first !== 0x80) return undefined;
  let value = 0;
  for (let at = offset + 1; at < offset + length; at++) value = value * 256 + block[at]!;
  return Number.isSafeInteger(value) ? value : undefined;
}

function octal(block: Uint8Array, offset: number, length: number): number | undefined {
  let value = 0;
  let isOver = false;
  for (let at = offset; at < offset + length; at++) {
    const byte = block[at]!;
    if (byte >= 0x30 && byte <= 0x37 && !isOver) value = value * 8 + byte - 0x30;
    else if (byte === 0 || (byte === 0x20 && at > offset && isDigit(block[at - 1]!))) isOver = true;
    else if (byte !== 0x20) return undefined;
  }
  return value;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x37;
}
