// SPDX-License-Identifier: MIT
/**
 * Inodes of ext2, ext3 and ext4: files, links and directories; see {@link ./ext.ts}.
 *
 * @module
 */

import {
  decodeName,
  type ExtFs,
  type ExtInode,
  type ExtKind,
  MAX_READ_RATIO,
  readGroup,
  take,
} from "./ext.ts";
import { type Extent, mapBlocks } from "./ext_map.ts";
import { formatError, readRange } from "./reader.ts";
import { KIB, MIB } from "./segment.ts";

/** A record of a directory. */
export interface ExtRecord {
  /** Invalid UTF-8 has U+DC80 to U+DCFF for its bytes, like Python's surrogateescape. */
  readonly name: string;
  readonly inode: number;
  readonly offsetBytes: number;
}

const EXTENTS_FLAG = 0x80000;
const REFUSED_FLAGS: Readonly<Record<number, string>> = {
  0x4: "compressed",
  0x800: "encrypted",
  0x10000000: "stored in the inode (inline_data)",
};

const KINDS: Readonly<Record<number, ExtKind>> = {
  0x1: "fifo",
  0x2: "device",
  0x4: "directory",
  0x6: "device",
  0x8: "file",
  0xa: "symlink",
  0xc: "socket",
};

const SHORT_LINK_BYTES = 60;
const MAX_LINK_BYTES = 4096;
/** No directory of a bootstrapped system is as large; a hostile one would fill the memory. */
const MAX_DIRECTORY_BYTES = 64 * MIB;

/**
 * Reads an inode.
 *
 * @param from Offset of the record that names it, for messages.
 * @throws {UserError} "format" for a number out of range, and for an inode that is not in use.
 */
export function readInode(fs: ExtFs, number: number, from = fs.baseBytes): ExtInode {
  const { source } = fs;
  if (number < 1 || number > fs.inodeCount) {
    throw formatError(source, from, `inode ${number}, of ${fs.inodeCount}`);
  }
  const group = Math.floor((number - 1) / fs.inodesPerGroup);
  const { offsetBytes: descriptorAt, inodeTable: table } = readGroup(fs, group);
  const index = (number - 1) % fs.inodesPerGroup;
  const tableBlocks = Math.ceil(fs.inodesPerGroup * fs.inodeBytes / fs.blockBytes);
  if (table < fs.firstBlock || table + tableBlocks > fs.blockCount) {
    throw formatError(
      source,
      descriptorAt,
      `the inode table of group ${group} is at block ${table}`,
    );
  }
  const offset = fs.baseBytes + table * fs.blockBytes + index * fs.inodeBytes;
  const inode = take(fs, offset, fs.inodeBytes, `inode ${number}`);
  const fail = (message: string) => formatError(source, offset, `inode ${number} ${message}`);
  const type = inode.getUint16(0, true);
  const links = inode.getUint16(26, true);
  const kind = KINDS[Math.floor(type / 0x1000)];
  if (links === 0) throw fail("has a name, but is not in use");
  if (kind === undefined) throw fail(`has the unknown mode ${type.toString(8)}`);
  const flags = inode.getUint32(32, true);
  for (const [flag, what] of Object.entries(REFUSED_FLAGS)) {
    if ((flags & Number(flag)) !== 0) throw fail(`is ${what}, which is not supported`);
  }
  const hasLargeSize = kind === "file" || (kind === "directory" && fs.hasLargeDirectories);
  const size = inode.getUint32(4, true) +
    (hasLargeSize ? inode.getUint32(108, true) : 0) * 2 ** 32;
  if (!Number.isSafeInteger(size)) throw fail(`claims ${size} bytes`);
  return {
    number,
    offsetBytes: offset,
    kind,
    mode: type % 0x1000,
    uid: inode.getUint16(2, true) + inode.getUint16(120, true) * 0x10000,
    gid: inode.getUint16(24, true) + inode.getUint16(122, true) * 0x10000,
    sizeBytes: size,
    mtime: inode.getInt32(16, true) + epoch(fs, inode) * 2 ** 32,
    links,
    hasExtents: (flags & EXTENTS_FLAG) !== 0,
    root: new Uint8Array(inode.buffer, inode.byteOffset + 40, SHORT_LINK_BYTES).slice(),
  };
}

/** Inodes of 256 bytes have two more bits of seconds, for times after 2038. */
function epoch(fs: ExtFs, inode: DataView): number {
  const hasExtra = fs.inodeBytes >= 140 && inode.getUint16(128, true) >= 12;
  return hasExtra ? inode.getUint32(136, true) % 4 : 0;
}

/**
 * Yields the extents of the content of an inode, in order and without overlaps. Ranges between
 * them are holes.
 *
 * @throws {UserError} "format" for a block number out of range, a malformed tree, and a size that
 * is too large for the file system.
 */
export function* extentsOf(fs: ExtFs, inode: ExtInode): Generator<Extent, void, undefined> {
  if (inode.sizeBytes > MAX_READ_RATIO * fs.blockCount * fs.blockBytes) {
    throw formatError(
      fs.source,
      inode.offsetBytes,
      `inode ${inode.number} claims ${inode.sizeBytes} bytes`,
    );
  }
  yield* mapBlocks(fs, inode);
}

/**
 * Reads the content of a file, a MiB at a time; holes are zeros.
 *
 * @returns Parts that are valid until the next one.
 * @throws {UserError} "format"
 */
export function* readExtFile(fs: ExtFs, inode: ExtInode): Generator<Uint8Array, void, undefined> {
  let done = 0;
  function* zerosTo(end: number): Generator<Uint8Array, void, undefined> {
    fs.spend(end - done, inode.offsetBytes);
    const zeros = new Uint8Array(Math.min(MIB, end - done));
    for (; done < end; done += Math.min(MIB, end - done)) {
      yield zeros.subarray(0, Math.min(MIB, end - done));
    }
  }
  for (const { atBytes: at, offsetBytes: offset, sizeBytes: size } of extentsOf(fs, inode)) {
    if (at > done) yield* zerosTo(Math.min(at, inode.sizeBytes));
    const length = Math.min(size, inode.sizeBytes - at);
    // Extents past the end of the file are preallocated.
    if (length <= 0) break;
    fs.spend(length, inode.offsetBytes);
    yield* readRange(fs.source, offset, length);
    done = at + length;
  }
  if (done < inode.sizeBytes) yield* zerosTo(inode.sizeBytes);
}

/**
 * Reads the target of a symbolic link.
 *
 * @throws {UserError} "format"
 */
export function readExtLink(fs: ExtFs, inode: ExtInode): string {
  const { sizeBytes: size } = inode;
  if (size === 0 || size > MAX_LINK_BYTES) {
    throw formatError(fs.source, inode.offsetBytes, `a link of ${size} bytes`);
  }
  const target = size < SHORT_LINK_BYTES && !inode.hasExtents
    ? inode.root.subarray(0, size)
    : Uint8Array.from([...readExtFile(fs, inode)].flatMap((part) => [...part]));
  if (target.includes(0)) {
    throw formatError(fs.source, inode.offsetBytes, "a NUL in the target of a link");
  }
  return decodeName(target);
}

/**
 * Reads a directory, without `.` and `..`.
 *
 * @throws {UserError} "format" for an inode that is not a directory, and for invalid names.
 */
export function* readExtDirectory(
  fs: ExtFs,
  inode: ExtInode,
): Generator<ExtRecord, void, undefined> {
  const { source, blockBytes } = fs;
  if (inode.kind !== "directory" || inode.sizeBytes % blockBytes !== 0) {
    throw formatError(source, inode.offsetBytes, `inode ${inode.number} is not a directory`);
  }
  if (inode.sizeBytes > MAX_DIRECTORY_BYTES) {
    throw formatError(source, inode.offsetBytes, `a directory of ${inode.sizeBytes} bytes`);
  }
  let next = 0;
  for (const { atBytes: at, offsetBytes: offset, sizeBytes: size } of extentsOf(fs, inode)) {
    if (at >= inode.sizeBytes) break;
    if (at !== next) break;
    const length = Math.min(size, inode.sizeBytes - at);
    for (let done = 0; done < length; done += blockBytes) {
      fs.spend(blockBytes, inode.offsetBytes);
      yield* recordsOf(fs, offset + done);
    }
    next = at + length;
  }
  if (next < inode.sizeBytes) {
    throw formatError(source, inode.offsetBytes, "a directory with a hole");
  }
}

function* recordsOf(fs: ExtFs, start: number): Generator<ExtRecord, void, undefined> {
  const { source, blockBytes } = fs;
  const block = take(fs, start, blockBytes, "a directory");
  for (let at = 0; at < blockBytes;) {
    const offset = start + at;
    if (blockBytes - at < 8) throw formatError(source, offset, "a directory record is truncated");
    const inode = block.getUint32(at, true);
    const stored = block.getUint16(at + 4, true);
    // A record that fills a block of 64 KiB: its length does not fit into the field.
    const isWhole = blockBytes === 64 * KIB && (stored === 0 || stored === 0xffff);
    const length = isWhole ? blockBytes : stored;
    const nameLength = fs.hasTypes ? block.getUint8(at + 6) : block.getUint16(at + 6, true);
    if (length % 4 !== 0 || length < 8 || at + length > blockBytes) {
      throw formatError(source, offset, `a directory record of ${length} bytes`);
    }
    at += length;
    if (inode === 0) continue;
    if (nameLength === 0 || nameLength > 255 || nameLength + 8 > length) {
      throw formatError(source, offset, `a name of ${nameLength} bytes in ${length}`);
    }
    const bytes = new Uint8Array(block.buffer, block.byteOffset + at - length + 8, nameLength);
    const name = decodeName(bytes);
    if (name === "." || name === "..") continue;
    if (bytes.includes(0) || bytes.includes(0x2f)) {
      throw formatError(source, offset, "a name with a slash or a NUL");
    }
    yield { name, inode, offsetBytes: offset };
  }
}
