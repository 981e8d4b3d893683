// SPDX-License-Identifier: MIT
/**
 * What makes an ext3 file system the same on every host, once mke2fs has made it.
 *
 * mke2fs takes the order of names, the UUID, the hash seed and its own clock from its arguments and
 * its environment. It leaves to the host: owner and times of what it copied, and a flag of the
 * superblock that says whether `char` has a sign there. These are set here.
 *
 *   superblock    1,024 bytes into the file system, and at the beginning of the groups that have a
 *                 copy: 0, 1 and the powers of 3, 5 and 7
 *     4 blocks; 20 first data block; 24 log2(block size) - 10; 32 blocks per group;
 *     40 inodes per group; 88 inode size (u16); 352 flags: 1 signed hash, 2 unsigned hash
 *   group descriptors, 32 bytes each, in the block behind the first superblock
 *     0 block of the block bitmap; 4 of the inode bitmap; 8 of the inode table
 *   inode         2 uid (u16), 8 atime, 12 ctime, 16 mtime, 24 gid (u16), 120 and 122 their high
 *                 halves; from 128 on, with 256 bytes: 132, 136, 140 fractions of these times,
 *                 144 time of creation, 148 its fraction
 *
 * Integers are little-endian and, where nothing is said, of 32 bits. ext3 has no checksums over
 * them. Source: the header files of e2fsprogs 1.47 (ext2_fs.h).
 *
 * @module
 */

import { readSync, writeSync } from "node:fs";
import type { ByteRange } from "../format/blocks.ts";

const SUPERBLOCK_AT = 1024;
const GROUP_BYTES = 32;
const FLAGS_AT = 352;
const SIGNED_HASH = 1;

/**
 * Sets owner 0:0 and one time on every inode in use.
 *
 * @param file A file that is open for reading and writing.
 * @param start Where the file system begins, in bytes. It was just made by mke2fs, as ext3 with
 * inodes of 256 bytes: nothing of it is checked.
 * @param seconds The time, in seconds since 1970.
 * @returns The blocks in use, in order: all other bytes of the file system are zeros.
 */
export function settleExt3(file: number, start: number, seconds: number): ByteRange[] {
  const superblock = readAt(file, start + SUPERBLOCK_AT, 1024);
  const blockBytes = 1024 * 2 ** superblock.getUint32(24, true);
  const blockCount = superblock.getUint32(4, true);
  const firstBlock = superblock.getUint32(20, true);
  const groupBlocks = superblock.getUint32(32, true);
  const groupInodes = superblock.getUint32(40, true);
  const inodeBytes = superblock.getUint16(88, true);
  const groupCount = Math.ceil((blockCount - firstBlock) / groupBlocks);
  const blockAt = (block: number) => start + block * blockBytes;
  const groups = readAt(file, blockAt(firstBlock + 1), groupCount * GROUP_BYTES);

  const used: ByteRange[] = [];
  for (let group = 0; group < groupCount; group++) {
    const field = (at: number) => blockAt(groups.getUint32(group * GROUP_BYTES + at, true));
    const first = firstBlock + group * groupBlocks;
    if (hasSuperblock(group)) {
      // The first one lies behind a boot block, a copy right at the beginning of its group.
      const at = group === 0 ? start + SUPERBLOCK_AT : blockAt(first);
      writeSync(file, Uint8Array.of(SIGNED_HASH), 0, 1, at + FLAGS_AT);
    }
    const blocks = readAt(file, field(0), Math.ceil(groupBlocks / 8));
    for (const [from, to] of runs(blocks, Math.min(groupBlocks, blockCount - first))) {
      used.push({ offset: blockAt(first + from), size: (to - from) * blockBytes });
    }
    const inodes = readAt(file, field(4), Math.ceil(groupInodes / 8));
    for (const [from, to] of runs(inodes, groupInodes)) {
      const at = field(8) + from * inodeBytes;
      const table = readAt(file, at, (to - from) * inodeBytes);
      for (let inode = 0; inode < table.byteLength; inode += inodeBytes) {
        settleInode(table, inode, seconds);
      }
      writeSync(file, table, 0, table.byteLength, at);
    }
  }
  return used;
}

function settleInode(table: DataView, at: number, seconds: number): void {
  for (const owner of [2, 24, 120, 122]) table.setUint16(at + owner, 0, true);
  for (const time of [8, 12, 16, 144]) table.setUint32(at + time, seconds, true);
  for (const fraction of [132, 136, 140, 148]) table.setUint32(at + fraction, 0, true);
}

/** Whether a group begins with a copy of the superblock. */
function hasSuperblock(group: number): boolean {
  const isPower = (base: number) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  };
  return group <= 1 || isPower(3) || isPower(5) || isPower(7);
}

/** Runs of set bits of a bitmap, each as its first bit and the one behind it. */
function* runs(bitmap: DataView, size: number): Generator<readonly [number, number]> {
  let from: number | undefined;
  for (let bit = 0; bit < size; bit++) {
    const isSet = (bitmap.getUint8(bit >> 3) >> (bit & 7) & 1) === 1;
    if (isSet) from ??= bit;
    else if (from !== undefined) {
      yield [from, bit];
      from = undefined;
    }
  }
  if (from !== undefined) yield [from, size];
}

function readAt(file: number, offset: number, size: number): DataView {
  const bytes = new Uint8Array(size);
  if (readSync(file, bytes, 0, size, offset) !== size) {
    throw new Error(`a file system ends at ${offset}`);
  }
  return new DataView(bytes.buffer);
}
