// SPDX-License-Identifier: MIT
/**
 * Reads the bits of a source, the highest bit of each byte first.
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

  /** Offset of the byte with the next bit. */
  get offset(): number {
    return this.#start + this.#at - Math.ceil(this.#count / 8);
  }

  /** Whether no whole byte is left, only the rest of the current one at most. */
  get isAtEnd(): boolean {
    return this.#start + this.#at - Math.floor(this.#count / 8) >= this.source.sizeBytes;
  }

  /**
   * Returns the next bits without consuming them; zeros past the end of the source.
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
   * Consumes bits that `peek` returned.
   *
   * @throws {UserError} "format" if they are past the end of the source.
   */
  skip(count: number): void {
    this.#count -= count;
    if (this.#at > this.#length && this.#at - (this.#count >> 3) > this.#length) {
      throw expandError(this.source, this.source.sizeBytes, ENDS_EARLY);
    }
  }

  /** Consumes and returns the next bits, at most 24. */
  take(count: number): number {
    const bits = this.peek(count);
    this.skip(count);
    return bits;
  }

  /** Consumes and returns the next 32 bits as a signed integer. */
  take32(): number {
    const high = this.take(16);
    return (high << 16) | this.take(16);
  }

  /** Skips to the next byte boundary. */
  align(): void {
    this.#count -= this.#count % 8;
  }

  #fill(): void {
    if (this.#start + this.#length >= this.source.sizeBytes) return;
    this.#start += this.#length;
    this.#length = this.source.read(this.#start, this.#window);
    this.#at = 0;
  }
}
