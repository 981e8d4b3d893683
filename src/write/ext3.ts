// SPDX-License-Identifier: MIT
/**
 * Makes an ext3 file system of mke2fs the same on every host.
 *
 * mke2fs takes the order of names, the UUID, the hash seed and the time from its arguments and its
 * environment. Three things depend on the host: owner and times of the files that it copied, and a
 * flag of the superblock that says whether `char` is signed. These are set here.
 *
 * {@link ../format/ext.ts} reads the file system. These fields are written:
 *
 *   superblock    also at the beginning of the groups that have a copy: 0, 1 and the powers of 3, 5
 *                 and 7; 352 flags: 1 signed hash, 2 unsigned hash
 *   inode         2 uid (u16), 8 atime, 12 ctime, 16 mtime, 24 gid (u16), 120 and 122 their high
 *                 halves; from 128 on, with 256 bytes: 132, 136, 140 fractions of these times,
 *                 144 time of creation, 148 its fraction
 *
 * Integers are little-endian and of 32 bits unless noted. ext3 has no checksums over them. Source:
 * the header files of e2fsprogs 1.47 (ext2_fs.h).
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
 * Sets owner 0:0 and one time on every inode in use, and the hash flag of every superblock.
 *
 * @param file The disk, open for writing.
 * @param source Reads the disk.
 * @param startBytes Offset of the file system: ext3 with inodes of 256 bytes, fresh from mke2fs.
 * @param seconds The time, in seconds since 1970.
 * @returns The blocks in use, in order; all other bytes of the file system are zeros.
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
      // The first superblock is after the boot block, a copy at the start of its group.
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

/** Reports whether a group begins with a superblock or a copy of it. */
function hasSuperblock(group: number): boolean {
  const isPower = (base: number) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  };
  return group <= 1 || isPower(3) || isPower(5) || isPower(7);
}

/** Yields the runs of set bits of a bitmap: the first bit, and the one after the last. */
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
