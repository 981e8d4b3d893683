// SPDX-License-Identifier: MIT
/**
 * Huffman codes of bzip2.
 *
 * @module
 */

import type { BitReader } from "./bits.ts";

/** Longest code in bits. */
export const MAX_CODE_BITS = 20;
/** Codes up to this length are decoded with one table lookup. */
const FAST_BITS = 10;
/** All bytes but the first of the list, two for runs, and the end of the block. */
const MAX_SYMBOLS = 258;

/** A Huffman table: codes of one length are consecutive, in the order of their symbols. */
export class CodeTable {
  /** For each value of the next ten bits the symbol and its length, or 0 if the code is longer. */
  readonly #fast = new Uint16Array(1 << FAST_BITS);
  /** By length: the code after the last of this length, and the index of a symbol less its code. */
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

  /** Consumes and returns the next symbol, or returns -1 for bits that are not a code. */
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
      // Lengths that do not form a Huffman code give codes without a symbol.
      return this.#symbols[this.#base[length]! + code] ?? -1;
    }
    return -1;
  }
}
