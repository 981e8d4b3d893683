// SPDX-License-Identifier: MIT
/**
 * What makes an ext3 file system the same on every host, once mke2fs has made it.
 *
 * mke2fs takes the order of names, the UUID, the hash seed and its own clock from its arguments and
 * its environment. It leaves to the host: owner and times of what it copied, and a flag of the
 * superblock that says whether `char` has a sign there. These are set here.
 *
 * What is read of it is read by {@link ../format/ext.ts}. What is written:
 *
 *   superblock    also at the beginning of the groups that have a copy: 0, 1 and the powers of 3, 5
 *                 and 7; 352 flags: 1 signed hash, 2 unsigned hash
 *   inode         2 uid (u16), 8 atime, 12 ctime, 16 mtime, 24 gid (u16), 120 and 122 their high
 *                 halves; from 128 on, with 256 bytes: 132, 136, 140 fractions of these times,
 *                 144 time of creation, 148 its fraction
 *
 * Integers are little-endian and, where nothing is said, of 32 bits. ext3 has no checksums over
 * them. Source: the header files of e2fsprogs 1.47 (ext2_fs.h).
 *
 * @module
 */

import { writeSync } from "node:fs";
import type { ByteRange } from "../format/blocks.ts";
import { openExt, readGroup, SUPERBLOCK_AT, take } from "../format/ext.ts";
import type { ByteSource } from "../format/reader.ts";

const FLAGS_AT = 352;
const SIGNED_HASH = 1;

/**
 * Sets owner 0:0 and one time on every inode in use.
 *
 * @param file A file that is open for writing.
 * @param source Reads that file.
 * @param startBytes Where the file system begins. It was just made by mke2fs, as ext3 with inodes of
 * 256 bytes.
 * @param seconds The time, in seconds since 1970.
 * @returns The blocks in use, in order: all other bytes of the file system are zeros.
 */
export function settleExt3(
  file: number,
  source: ByteSource,
  startBytes: number,
  seconds: number,
): ByteRange[] {
  const fs = openExt(source, startBytes);
  const { blockBytes, blockCount, firstBlock, blocksPerGroup, inodesPerGroup, inodeBytes } = fs;
  const groupCount = Math.ceil((blockCount - firstBlock) / blocksPerGroup);
  const blockAt = (block: number) => startBytes + block * blockBytes;

  const used: ByteRange[] = [];
  for (let group = 0; group < groupCount; group++) {
    const { blockBitmap, inodeBitmap, inodeTable } = readGroup(fs, group);
    const first = firstBlock + group * blocksPerGroup;
    if (hasSuperblock(group)) {
      // The first one lies behind a boot block, a copy right at the beginning of its group.
      const at = group === 0 ? startBytes + SUPERBLOCK_AT : blockAt(first);
      writeSync(file, Uint8Array.of(SIGNED_HASH), 0, 1, at + FLAGS_AT);
    }
    const bitmap = (block: number, bits: number) =>
      take(fs, blockAt(block), Math.ceil(bits / 8), "a bitmap");
    const blocks = bitmap(blockBitmap, blocksPerGroup);
    for (const [from, to] of runs(blocks, Math.min(blocksPerGroup, blockCount - first))) {
      used.push({ offset: blockAt(first + from), size: (to - from) * blockBytes });
    }
    for (const [from, to] of runs(bitmap(inodeBitmap, inodesPerGroup), inodesPerGroup)) {
      const at = blockAt(inodeTable) + from * inodeBytes;
      const table = take(fs, at, (to - from) * inodeBytes, "a table of inodes");
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
function* runs(bitmap: DataView, bits: number): Generator<readonly [number, number]> {
  let from: number | undefined;
  for (let bit = 0; bit < bits; bit++) {
    const isSet = (bitmap.getUint8(bit >> 3) >> (bit & 7) & 1) === 1;
    if (isSet) from ??= bit;
    else if (from !== undefined) {
      yield [from, bit];
      from = undefined;
    }
  }
  if (from !== undefined) yield [from, bits];
}
