// SPDX-License-Identifier: MIT
/**
 * Expands bzip2. The packages of npm are slow, or keep the whole file in memory, or silently stop
 * after the first of several streams.
 *
 *   file   = { stream }                   a stream begins at a byte boundary
 *   stream = "BZh" level { block } 177245385090 crc32
 *   block  = 314159265359 crc32 randomised{1} origin{24} usedBytes tables selectors codes
 *
 * A block has up to level x 100,000 bytes: run-length coded, sorted (Burrows-Wheeler), moved to
 * front, run-length coded once more, and Huffman coded with up to six tables, of which one is
 * selected for every 50 symbols. The steps are undone in reverse order. The CRC-32 has the
 * polynomial of zlib's, highest bit first.
 *
 * Sources: bzip2 1.0.8, decompress.c; Joe Tsai, "BZIP2: Format Specification" (2016).
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import { BitReader } from "./bits.ts";
import { expandError, TRAILING_BYTES } from "./fault.ts";
import { CodeTable, MAX_CODE_BITS } from "./huffman.ts";

const BLOCK_UNIT = 100_000;
const OUTPUT_BYTES = 256 * 1024;
const GROUP_SYMBOLS = 50;
/** Selectors beyond the most that a block can use are ignored, as in bzip2 since 1.0.8. */
const MAX_SELECTORS = 18_002;

/**
 * Expands a bzip2 file of any number of streams.
 *
 * @throws {UserError} "format"
 */
export function* bunzip2(source: ByteSource): Generator<Uint8Array, void, undefined> {
  const bits = new BitReader(source);
  const block = new Block(bits);
  do {
    const offset = bits.offset;
    if (source.sizeBytes - offset < 4 || bits.take(24) !== 0x425a68) {
      throw expandError(source, offset, TRAILING_BYTES);
    }
    const level = bits.take(8) - 0x30;
    if (level < 1 || level > 9) throw expandError(source, offset + 3, "no such block size");
    yield* stream(bits, block, level * BLOCK_UNIT);
    bits.align();
  } while (!bits.isAtEnd);
}

function* stream(
  bits: BitReader,
  block: Block,
  blockBytes: number,
): Generator<Uint8Array, void, undefined> {
  for (let crc = 0;;) {
    const offset = bits.offset;
    const magic = bits.take(24) * 0x1000000 + bits.take(24);
    const stored = bits.take32();
    if (magic === 0x177245385090) {
      if (stored !== crc) throw expandError(bits.source, offset, "the CRC-32 of a stream is wrong");
      return;
    }
    if (magic !== 0x314159265359) throw expandError(bits.source, offset, "no block begins here");
    block.read(blockBytes);
    for (;;) {
      const output = block.expand();
      if (output.length === 0) break;
      yield output;
    }
    if (block.crc !== stored) {
      throw expandError(bits.source, offset, "the CRC-32 of a block is wrong");
    }
    crc = ((crc << 1) | (crc >>> 31)) ^ stored;
  }
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit++) value = (value << 1) ^ (value < 0 ? 0x04c11db7 : 0);
  return value;
});

/** One block, and tables that are reused for the next one. */
class Block {
  readonly #bits: BitReader;
  /** For each position the byte (low 8 bits) and the next position (the other bits). */
  readonly #chain = new Uint32Array(9 * BLOCK_UNIT);
  readonly #selectors = new Uint8Array(MAX_SELECTORS);
  readonly #tables = Array.from({ length: 6 }, () => new CodeTable());
  readonly #front = new Uint8Array(256);
  readonly #counts = new Uint32Array(256);
  #left = 0;
  #next = 0;
  #crc = 0;
  /** The byte of the current run, the length of the run, and how many bytes are still to output. */
  #byte = -1;
  #run = 0;
  #repeat = 0;

  constructor(bits: BitReader) {
    this.#bits = bits;
  }

  /** The CRC-32 of the bytes expanded so far, as a signed integer. */
  get crc(): number {
    return ~this.#crc;
  }

  /** Reads a block, so that `expand` can be called. */
  read(blockBytes: number): void {
    const bits = this.#bits;
    if (bits.take(1) !== 0) {
      throw this.#fault("a block is randomised, as bzip2 before 0.9.5 made them");
    }
    const origin = bits.take(24);
    const used = this.#readUsed();
    const tables = this.#readTables(used.length + 2);
    const length = this.#readSymbols(used, tables, blockBytes);
    if (origin >= length) throw this.#fault("the origin of a block is past its end");
    const chain = this.#chain;
    const counts = this.#counts;
    for (let byte = 0, sum = 0; byte < 256; byte++) {
      const count = counts[byte]!;
      counts[byte] = sum;
      sum += count;
    }
    for (let at = 0; at < length; at++) {
      const place = counts[chain[at]! & 0xff]!++;
      chain[place] = chain[place]! | (at << 8);
    }
    this.#left = length;
    this.#next = chain[origin]! >>> 8;
    this.#crc = -1;
    this.#byte = -1;
    this.#run = 0;
    this.#repeat = 0;
  }

  /** Returns the next bytes; none at the end of the block. */
  expand(): Uint8Array {
    const output = new Uint8Array(Math.min(OUTPUT_BYTES, this.#left * 255 + this.#repeat));
    const chain = this.#chain;
    let [at, left, next, crc] = [0, this.#left, this.#next, this.#crc];
    let [byte, run, repeat] = [this.#byte, this.#run, this.#repeat];
    while (at < output.length) {
      if (repeat > 0) {
        repeat--;
      } else {
        if (left === 0) break;
        left--;
        const link = chain[next]!;
        const value = link & 0xff;
        next = link >>> 8;
        if (run === 4) {
          repeat = value;
          run = 0;
          continue;
        }
        run = value === byte ? run + 1 : 1;
        byte = value;
      }
      output[at++] = byte;
      crc = (crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte]!;
    }
    this.#left = left;
    this.#next = next;
    this.#crc = crc;
    this.#byte = byte;
    this.#run = run;
    this.#repeat = repeat;
    return output.subarray(0, at);
  }

  /** Reads the list of bytes that occur in the block. */
  #readUsed(): number[] {
    const used: number[] = [];
    const groups = this.#bits.take(16);
    for (let group = 0; group < 16; group++) {
      if ((groups & (0x8000 >> group)) === 0) continue;
      const members = this.#bits.take(16);
      for (let member = 0; member < 16; member++) {
        if ((members & (0x8000 >> member)) !== 0) used.push(group * 16 + member);
      }
    }
    if (used.length === 0) throw this.#fault("a block has no bytes");
    return used;
  }

  #readTables(symbols: number): readonly CodeTable[] {
    const bits = this.#bits;
    const count = bits.take(3);
    const selectorCount = bits.take(15);
    if (count < 2 || count > 6 || selectorCount === 0) throw this.#fault("no such code tables");
    const order = Array.from({ length: count }, (_, index) => index);
    for (let index = 0; index < selectorCount; index++) {
      let place = 0;
      while (bits.take(1) === 1) {
        if (++place >= count) throw this.#fault("no such code table");
      }
      const [table] = order.splice(place, 1);
      order.unshift(table!);
      if (index < MAX_SELECTORS) this.#selectors[index] = table!;
    }
    // Otherwise a block with too few selectors would use those of an earlier block.
    this.#selectors.fill(0xff, selectorCount);
    const tables = this.#tables.slice(0, count);
    const lengths = new Uint8Array(symbols);
    for (const table of tables) {
      let length = bits.take(5);
      for (let symbol = 0; symbol < symbols; symbol++) {
        for (;;) {
          if (length < 1 || length > MAX_CODE_BITS) throw this.#fault("no such code length");
          if (bits.take(1) === 0) break;
          length += bits.take(1) === 0 ? 1 : -1;
        }
        lengths[symbol] = length;
      }
      table.set(lengths);
    }
    return tables;
  }

  /** Undoes Huffman coding, runs and move-to-front; returns the length of the block. */
  #readSymbols(used: readonly number[], tables: readonly CodeTable[], blockBytes: number): number {
    const bits = this.#bits;
    const chain = this.#chain;
    const counts = this.#counts.fill(0);
    const front = this.#front;
    front.set(used);
    const end = used.length + 1;
    let table = tables[0]!;
    let length = 0;
    let run = 0;
    let unit = 1;
    for (let group = 0, left = 0;; left--) {
      if (left === 0) {
        const selected = group < MAX_SELECTORS ? tables[this.#selectors[group++]!] : undefined;
        if (selected === undefined) throw this.#fault("a block has more symbols than selectors");
        table = selected;
        left = GROUP_SYMBOLS;
      }
      const symbol = table.take(bits);
      if (symbol < 0) throw this.#fault("no such code");
      if (symbol <= 1) {
        run += unit << symbol;
        if (run > blockBytes) throw this.#fault("a run is longer than its block");
        unit *= 2;
        continue;
      }
      if (run > 0) {
        if (length + run > blockBytes) throw this.#fault("a block is longer than it says");
        const byte = front[0]!;
        counts[byte] = counts[byte]! + run;
        chain.fill(byte, length, length + run);
        length += run;
        run = 0;
        unit = 1;
      }
      if (symbol === end) return length;
      if (length === blockBytes) throw this.#fault("a block is longer than it says");
      let place = symbol - 1;
      const byte = front[place]!;
      for (; place > 0; place--) front[place] = front[place - 1]!;
      front[0] = byte;
      counts[byte] = counts[byte]! + 1;
      chain[length++] = byte;
    }
  }

  #fault(what: string) {
    return expandError(this.#bits.source, this.#bits.offset, what);
  }
}
