// SPDX-License-Identifier: MIT
/**
 * Huffman codes as bzip2 has them.
 *
 * @module
 */

import type { BitReader } from "./bits.ts";

/** Longest code in bits. */
export const MAX_CODE_BITS = 20;
/** Codes up to this length are looked up at once. */
const FAST_BITS = 10;
/** All bytes but the first of the list, two for runs, and the end of the block. */
const MAX_SYMBOLS = 258;

/** A Huffman table: codes of one length follow one another, in the order of their symbols. */
export class CodeTable {
  /** For every beginning of ten bits the symbol and its length, or 0 where the code is longer. */
  readonly #fast = new Uint16Array(1 << FAST_BITS);
  /** By length: the first code behind those of this length, and what leads to the symbol. */
  readonly #limit = new Int32Array(MAX_CODE_BITS + 1);
  readonly #base = new Int32Array(MAX_CODE_BITS + 1);
  readonly #symbols = new Uint16Array(MAX_SYMBOLS);

  set(lengths: Uint8Array): void {
    this.#fast.fill(0);
    for (let length = 1, code = 0, index = 0; length <= MAX_CODE_BITS; length++, code *= 2) {
      this.#base[length] = index - code;
      for (let symbol = 0; symbol < lengths.length; symbol++) {
        if (lengths[symbol] !== length) continue;
        this.#symbols[index++] = symbol;
        if (length <= FAST_BITS) {
          const spare = FAST_BITS - length;
          this.#fast.fill((symbol << 5) | length, code << spare, (code + 1) << spare);
        }
        code++;
      }
      this.#limit[length] = code;
    }
  }

  /** The next symbol, or -1 for bits that are no code. */
  take(bits: BitReader): number {
    const peeked = bits.peek(MAX_CODE_BITS);
    const entry = this.#fast[peeked >>> (MAX_CODE_BITS - FAST_BITS)]!;
    if (entry !== 0) {
      bits.skip(entry & 31);
      return entry >>> 5;
    }
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      const code = peeked >>> (MAX_CODE_BITS - length);
      if (code >= this.#limit[length]!) continue;
      bits.skip(length);
      // Lengths that no Huffman code has lead nowhere.
      return this.#symbols[this.#base[length]! + code] ?? -1;
    }
    return -1;
  }
}
