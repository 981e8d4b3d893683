// SPDX-License-Identifier: MIT
/**
 * The on-disk format of ext2, ext3 and ext4, read only.
 *
 *   1024            superblock: counts, sizes, features
 *   next block      group descriptors, 32 bytes each, or more with the feature 64bit
 *   inode table     of each group, where its descriptor says
 *
 *   inode           mode, size, and 60 bytes: the target of a short link, or the map of the blocks
 *                   as 15 pointers (see {@link ./ext_map.ts}) or the root of a tree of extents
 *   directory       blocks of { inode, record length, name length, type, name }; the index of a
 *                   large directory looks like unused records to a linear scan
 *
 * Integers are little-endian; an "offset" is relative to the source. Every number is checked, and
 * reading ends: a number out of range is an error with its offset, and no more is read than
 * {@link MAX_READ_RATIO} times the size of the file system.
 *
 * The journal is not replayed: changes that are only in the journal are not seen, which
 * {@link ExtFs.needsRecovery} reports. Metadata checksums are not checked.
 *
 * Source: Linux, Documentation/filesystems/ext4.
 *
 * @module
 */

import { type ByteSource, formatError, readExactly, takeExactly } from "./reader.ts";
import { KIB } from "./segment.ts";

/** An open file system. */
export interface ExtFs {
  readonly source: ByteSource;
  /** Offset of the file system in the source. */
  readonly baseBytes: number;
  readonly type: "ext2" | "ext3" | "ext4";
  readonly label: string;
  readonly blockBytes: number;
  readonly blockCount: number;
  /** The first data block: 1 where a block has 1 KiB, else 0. */
  readonly firstBlock: number;
  readonly blocksPerGroup: number;
  readonly inodeCount: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  readonly descriptorBytes: number;
  /** Whether directory records have a type byte; without it, name lengths have 16 bits. */
  readonly hasTypes: boolean;
  readonly hasLargeDirectories: boolean;
  /** Whether it was not unmounted, so that the journal may hold changes that are nowhere else. */
  readonly needsRecovery: boolean;
  /** Counts the bytes that are read; throws "format" at {@link MAX_READ_RATIO} times its size. */
  readonly spend: (sizeBytes: number, offsetBytes: number) => void;
}

/** The file type of an inode. */
export type ExtKind = "file" | "directory" | "symlink" | "device" | "fifo" | "socket";

/** An inode. */
export interface ExtInode {
  readonly number: number;
  /** Offset of the inode. */
  readonly offsetBytes: number;
  readonly kind: ExtKind;
  /** Permissions, with the bits for setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Time of the last modification, in seconds since 1970. */
  readonly mtime: number;
  readonly links: number;
  /** Whether `root` is the root of a tree of extents. */
  readonly hasExtents: boolean;
  /** The 60 bytes of the block map, or of a short link. */
  readonly root: Uint8Array;
}

/** The block numbers of the bitmaps and of the inode table of a group. */
export interface ExtGroup {
  /** Offset of the group descriptor. */
  readonly offsetBytes: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
}

/** Inode number of the root directory. */
export const ROOT_INODE = 2;

/** How many times its size is read of a file system at most, with holes and repeated reads. */
export const MAX_READ_RATIO = 16;

/** Offset of the superblock in a file system. */
export const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 1024;
const MAGIC_AT = 56;
const MAGIC = 0xef53;

/** Incompatible features that this reader supports, or can ignore. */
const KNOWN_INCOMPATIBLE: Readonly<Record<number, string>> = {
  0x2: "filetype",
  0x4: "needs_recovery",
  0x40: "extents",
  0x80: "64bit",
  0x100: "mmp",
  0x200: "flex_bg",
  0x400: "ea_inode",
  0x2000: "metadata_csum_seed",
  0x4000: "large_dir",
};
const REFUSED_INCOMPATIBLE: Readonly<Record<number, string>> = {
  0x1: "compression",
  0x8: "journal_dev",
  0x10: "meta_bg",
  0x1000: "dirdata",
  0x8000: "inline_data",
  0x10000: "encrypt",
  0x20000: "casefold",
};
const FILETYPE = 0x2;
const NEEDS_RECOVERY = 0x4;
const EXTENTS = 0x40;
const BITS_64 = 0x80;
const LARGE_DIR = 0x4000;
const HAS_JOURNAL = 0x4;

/** Reports whether an ext2, ext3 or ext4 begins at an offset. */
export function isExt(source: ByteSource, baseBytes = 0): boolean {
  const magic = readExactly(source, baseBytes + SUPERBLOCK_AT + MAGIC_AT, 2);
  return magic !== undefined && viewOf(magic).getUint16(0, true) === MAGIC;
}

/**
 * Returns the size that a file system claims, whatever its features.
 *
 * @throws {UserError} "format" where the source ends inside its superblock.
 */
export function extBytes(source: ByteSource, baseBytes = 0): number {
  const at = baseBytes + SUPERBLOCK_AT;
  const { blockBytes, blockCount } = blocksOf(
    viewOf(takeExactly(source, at, SUPERBLOCK_BYTES, "the superblock")),
  );
  return blockBytes * blockCount;
}

function incompatibleOf(block: DataView): number {
  const isDynamic = block.getUint32(76, true) > 0;
  return isDynamic ? block.getUint32(96, true) : 0;
}

function blocksOf(block: DataView) {
  const logBlock = block.getUint32(24, true);
  const high = (incompatibleOf(block) & BITS_64) === 0 ? 0 : block.getUint32(336, true);
  const blockCount = block.getUint32(4, true) + high * 2 ** 32;
  return { logBlock, blockBytes: KIB * 2 ** logBlock, blockCount };
}

/**
 * Opens a file system.
 *
 * @param baseBytes Offset of its first byte.
 * @throws {UserError} "format" where there is none, or where it has an unsupported feature, or
 * claims to be larger than the source.
 */
export function openExt(source: ByteSource, baseBytes = 0): ExtFs {
  const offset = baseBytes + SUPERBLOCK_AT;
  const fail = (message: string) => formatError(source, offset, message);
  const bytes = readExactly(source, offset, SUPERBLOCK_BYTES);
  if (bytes === undefined || !isExt(source, baseBytes)) throw fail("no ext2, ext3 or ext4 here");
  const block = viewOf(bytes);
  const dynamic = block.getUint32(76, true) > 0;
  const compatible = dynamic ? block.getUint32(92, true) : 0;
  const incompatible = incompatibleOf(block);
  for (let bit = 0; bit < 32; bit++) {
    const flag = 2 ** bit;
    if (Math.floor(incompatible / flag) % 2 === 0 || flag in KNOWN_INCOMPATIBLE) continue;
    const name = REFUSED_INCOMPATIBLE[flag] ?? `0x${flag.toString(16)}`;
    throw fail(`the file system has the feature ${name}, which is not supported`);
  }
  const has = (feature: number) => (incompatible & feature) !== 0;
  const { logBlock, blockBytes, blockCount } = blocksOf(block);
  if (logBlock > 6) throw fail(`the file system has blocks of 2^${10 + logBlock} bytes`);
  const sizeBytes = blockCount * blockBytes;
  const leftBytes = source.sizeBytes - baseBytes;
  if (sizeBytes > leftBytes) {
    throw fail(`the file system claims ${sizeBytes} bytes, but only ${leftBytes} are left`);
  }
  const firstBlock = block.getUint32(20, true);
  if (firstBlock !== (logBlock === 0 ? 1 : 0)) {
    throw fail(`the first data block is ${firstBlock}`);
  }
  const blocksPerGroup = block.getUint32(32, true);
  const inodesPerGroup = block.getUint32(40, true);
  const inodeCount = block.getUint32(0, true);
  const inodeBytes = dynamic ? block.getUint16(88, true) : 128;
  if (!isPowerOfTwo(inodeBytes) || inodeBytes < 128 || inodeBytes > blockBytes) {
    throw fail(`an inode has ${inodeBytes} bytes`);
  }
  const descriptorBytes = has(BITS_64) ? block.getUint16(254, true) : 32;
  if (!isPowerOfTwo(descriptorBytes) || descriptorBytes < 32 || descriptorBytes > KIB) {
    throw fail(`a group descriptor has ${descriptorBytes} bytes`);
  }
  if (blocksPerGroup === 0 || inodesPerGroup === 0 || blockCount <= firstBlock) {
    throw fail("the file system has empty groups");
  }
  const groups = Math.ceil((blockCount - firstBlock) / blocksPerGroup);
  if (inodeCount < ROOT_INODE || inodeCount > groups * inodesPerGroup) {
    throw fail(`${inodeCount} inodes do not fit ${groups} groups of ${inodesPerGroup}`);
  }
  let left = MAX_READ_RATIO * sizeBytes;
  return {
    source,
    baseBytes,
    type: has(EXTENTS) ? "ext4" : (compatible & HAS_JOURNAL) !== 0 ? "ext3" : "ext2",
    label: decodeName(bytes.subarray(120, 136)).replace(/\0.*$/s, ""),
    blockBytes,
    blockCount,
    firstBlock,
    blocksPerGroup,
    inodeCount,
    inodesPerGroup,
    inodeBytes,
    descriptorBytes,
    hasTypes: has(FILETYPE),
    hasLargeDirectories: has(LARGE_DIR),
    needsRecovery: has(NEEDS_RECOVERY),
    spend(size, at) {
      left -= size;
      if (left >= 0) return;
      throw formatError(
        source,
        at,
        `the files take more than ${MAX_READ_RATIO} times the size of the file system: they share blocks, or have holes that are too large`,
      );
    },
  };
}

/**
 * Reads the descriptor of a group.
 *
 * @throws {UserError} "format" where the source is too short.
 */
export function readGroup(fs: ExtFs, group: number): ExtGroup {
  const { blockBytes, descriptorBytes } = fs;
  const offsetBytes = fs.baseBytes + (fs.firstBlock + 1) * blockBytes + group * descriptorBytes;
  const descriptor = take(fs, offsetBytes, descriptorBytes, "a group descriptor");
  const field = (at: number) =>
    descriptor.getUint32(at, true) +
    (descriptorBytes >= 64 ? descriptor.getUint32(at + 32, true) : 0) * 2 ** 32;
  return { offsetBytes, blockBitmap: field(0), inodeBitmap: field(4), inodeTable: field(8) };
}

/**
 * Reads bytes of the file system into a new view.
 *
 * @throws {UserError} "format" where the source is too short.
 */
export function take(fs: ExtFs, offsetBytes: number, sizeBytes: number, what: string): DataView {
  return viewOf(takeExactly(fs.source, offsetBytes, sizeBytes, what));
}

/** Decodes UTF-8. If it is invalid, each byte from 80 on becomes a lone surrogate, losslessly. */
export function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => String.fromCharCode(byte < 0x80 ? byte : 0xdc00 + byte))
      .join("");
  }
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
