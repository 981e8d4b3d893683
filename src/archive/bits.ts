// SPDX-License-Identifier: MIT
/**
 * Bits of a source, the highest of each byte first.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import { ENDS_EARLY, expandError } from "./fault.ts";

const WINDOW_BYTES = 256 * 1024;

/** A position in a source, counted in bits. */
export class BitReader {
  readonly source: ByteSource;
  #window = new Uint8Array(WINDOW_BYTES);
  #start = 0;
  #length = 0;
  #at = 0;
  #bits = 0;
  #count = 0;

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** Offset of the byte that the next bit is in. */
  get offset(): number {
    return this.#start + this.#at - Math.ceil(this.#count / 8);
  }

  /** Whether all bytes but the rest of the current one were read. */
  get isAtEnd(): boolean {
    return this.#start + this.#at - Math.floor(this.#count / 8) >= this.source.size;
  }

  /**
   * The next bits without moving on; behind the end of the source there are zeros.
   *
   * @param count At most 24.
   */
  peek(count: number): number {
    while (this.#count < count) {
      if (this.#at === this.#length) this.#fill();
      this.#bits = (this.#bits << 8) | (this.#at < this.#length ? this.#window[this.#at]! : 0);
      this.#at++;
      this.#count += 8;
    }
    return (this.#bits >>> (this.#count - count)) & ((1 << count) - 1);
  }

  /**
   * Moves on by bits that were peeked at.
   *
   * @throws {UserError} "format" where the source ends before.
   */
  skip(count: number): void {
    this.#count -= count;
    if (this.#at > this.#length && this.#at - (this.#count >> 3) > this.#length) {
      throw expandError(this.source, this.source.size, ENDS_EARLY);
    }
  }

  /** The next bits, at most 24, and moves on. */
  take(count: number): number {
    const bits = this.peek(count);
    this.skip(count);
    return bits;
  }

  /** The next 32 bits as a signed integer. */
  take32(): number {
    const high = this.take(16);
    return (high << 16) | this.take(16);
  }

  /** Moves to the next byte. */
  align(): void {
    this.#count -= this.#count % 8;
  }

  #fill(): void {
    if (this.#start + this.#length >= this.source.size) return;
    this.#start += this.#length;
    this.#length = this.source.read(this.#start, this.#window);
    this.#at = 0;
  }
}
