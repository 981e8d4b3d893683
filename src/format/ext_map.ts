// SPDX-License-Identifier: MIT
/**
 * The block maps of files in ext2, ext3 and ext4.
 *
 *   pointers   12 direct ones, then a single, a double and a triple indirect one; 4 bytes each,
 *              0 is a hole
 *   extents    header { F30A, entries, room, depth } and entries of 12 bytes: at depth 0
 *              { first block of the file, length, block }, above { first block of the file, block
 *              with a node one level down }; a length over 32,768 is 32,768 more than the true one
 *              and marks an extent that is allocated but was never written
 *
 * @module
 */

import { type ExtFs, type ExtInode, take } from "./ext.ts";
import { formatError } from "./reader.ts";

/** A run of bytes of a file. */
export interface Extent {
  /** Offset in the file. */
  readonly atBytes: number;
  /** Offset in the source. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** A run of blocks of a file: its first block in the file and on the disk, and its length. */
interface BlockRun {
  readonly at: number;
  readonly block: number;
  readonly count: number;
}

const POINTERS = 12;
const LEVELS = 3;
const EXTENT_MAGIC = 0xf30a;
const EXTENT_BYTES = 12;
const MAX_EXTENT_BLOCKS = 32768;
/** The deepest tree that Linux makes. */
const MAX_DEPTH = 5;

/**
 * Yields the extents of an inode; those that are contiguous on the disk are merged.
 *
 * @throws {UserError} "format"
 */
export function* mapBlocks(fs: ExtFs, inode: ExtInode): Generator<Extent, void, undefined> {
  const { blockBytes, baseBytes } = fs;
  let run: BlockRun | undefined;
  const extent = ({ at, block, count }: BlockRun): Extent => ({
    atBytes: at * blockBytes,
    offsetBytes: baseBytes + block * blockBytes,
    sizeBytes: count * blockBytes,
  });
  for (const next of inode.hasExtents ? extents(fs, inode) : pointers(fs, inode)) {
    if (run !== undefined) {
      if (next.at === run.at + run.count && next.block === run.block + run.count) {
        run = { ...run, count: run.count + next.count };
        continue;
      }
      yield extent(run);
    }
    run = next;
  }
  if (run !== undefined) yield extent(run);
}

function* pointers(fs: ExtFs, inode: ExtInode): Generator<BlockRun, void, undefined> {
  const root = new DataView(inode.root.buffer, inode.root.byteOffset, inode.root.length);
  const end = Math.ceil(inode.sizeBytes / fs.blockBytes);
  let at = 0;
  for (let index = 0; index < POINTERS + LEVELS && at < end; index++) {
    const level = Math.max(0, index - POINTERS + 1);
    yield* pointed(fs, root.getUint32(4 * index, true), level, at, end, inode.offsetBytes + 40);
    at += (fs.blockBytes / 4) ** level;
  }
}

/** Yields the blocks that a pointer leads to, `level` levels of indirection above them. */
function* pointed(
  fs: ExtFs,
  block: number,
  level: number,
  at: number,
  end: number,
  from: number,
): Generator<BlockRun, void, undefined> {
  if (block === 0) return;
  checkBlocks(fs, block, 1, from);
  if (level === 0) {
    yield { at, block, count: 1 };
    return;
  }
  const offset = fs.baseBytes + block * fs.blockBytes;
  fs.spend(fs.blockBytes, offset);
  const table = take(fs, offset, fs.blockBytes, "a block of pointers");
  const step = (fs.blockBytes / 4) ** (level - 1);
  for (let index = 0; index < fs.blockBytes / 4 && at + index * step < end; index++) {
    yield* pointed(fs, table.getUint32(4 * index, true), level - 1, at + index * step, end, offset);
  }
}

function* extents(fs: ExtFs, inode: ExtInode): Generator<BlockRun, void, undefined> {
  const root = new DataView(inode.root.buffer, inode.root.byteOffset, inode.root.length);
  // The tree is sorted. A key that repeats or goes back is damage; refusing it ends the reading.
  const order = { next: 0 };
  yield* node(fs, root, inode.offsetBytes + 40, undefined, order);
}

function* node(
  fs: ExtFs,
  bytes: DataView,
  offset: number,
  depthAbove: number | undefined,
  order: { next: number },
): Generator<BlockRun, void, undefined> {
  const fail = (message: string) => formatError(fs.source, offset, message);
  if (bytes.getUint16(0, true) !== EXTENT_MAGIC) throw fail("no node of extents here");
  const entries = bytes.getUint16(2, true);
  const depth = bytes.getUint16(6, true);
  if ((entries + 1) * EXTENT_BYTES > bytes.byteLength) throw fail(`a node with ${entries} extents`);
  if (depthAbove === undefined ? depth > MAX_DEPTH : depth !== depthAbove - 1) {
    throw fail(`a node of extents at depth ${depth}`);
  }
  for (let index = 1; index <= entries; index++) {
    const at = index * EXTENT_BYTES;
    const first = bytes.getUint32(at, true);
    if (first < order.next) throw fail(`extents out of order: ${first} after ${order.next}`);
    if (depth > 0) {
      const block = bytes.getUint32(at + 4, true) + bytes.getUint16(at + 8, true) * 2 ** 32;
      checkBlocks(fs, block, 1, offset);
      const below = fs.baseBytes + block * fs.blockBytes;
      fs.spend(fs.blockBytes, below);
      yield* node(fs, take(fs, below, fs.blockBytes, "a node of extents"), below, depth, order);
      // A tree has no empty nodes; one that does not advance could be read for ever.
      if (order.next <= first) throw fail("a node without extents");
      continue;
    }
    const length = bytes.getUint16(at + 4, true);
    const isWritten = length <= MAX_EXTENT_BLOCKS;
    const count = isWritten ? length : length - MAX_EXTENT_BLOCKS;
    const block = bytes.getUint32(at + 8, true) + bytes.getUint16(at + 6, true) * 2 ** 32;
    if (count === 0) throw fail("an extent of no blocks");
    checkBlocks(fs, block, count, offset);
    order.next = first + count;
    if (isWritten) yield { at: first, block, count };
  }
}

function checkBlocks(fs: ExtFs, block: number, count: number, from: number): void {
  if (block > 0 && block >= fs.firstBlock && block + count <= fs.blockCount) return;
  throw formatError(
    fs.source,
    from,
    `blocks ${block} to ${block + count - 1} of a file system of ${fs.blockCount}`,
  );
}
