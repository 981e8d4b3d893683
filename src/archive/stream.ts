// SPDX-License-Identifier: MIT
/**
 * Reads a stream of bytes in chunks of any wanted size.
 *
 * @module
 */

const NOTHING = new Uint8Array();

/** A stream that is only read forwards, and the position in it. */
export class ByteStream {
  readonly #pieces: AsyncGenerator<Uint8Array, void, undefined>;
  #rest: Uint8Array = NOTHING;
  #position = 0;

  constructor(pieces: AsyncGenerator<Uint8Array, void, undefined>) {
    this.#pieces = pieces;
  }

  /** Number of bytes read so far. */
  get position(): number {
    return this.#position;
  }

  /** Reads the next bytes, at most `max` and at least one; none at the end of the stream. */
  async next(max: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done) return NOTHING;
      this.#rest = value;
    }
    const piece = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(piece.length);
    this.#position += piece.length;
    return piece;
  }

  /** Reads the next `length` bytes, or fewer at the end of the stream. */
  async take(length: number): Promise<Uint8Array> {
    const first = await this.next(length);
    if (first.length === length || first.length === 0) return first;
    const whole = new Uint8Array(length);
    whole.set(first);
    for (let done = first.length; done < length;) {
      const piece = await this.next(length - done);
      if (piece.length === 0) return whole.subarray(0, done);
      whole.set(piece, done);
      done += piece.length;
    }
    return whole;
  }

  /** Skips `length` bytes, and reports whether there were so many. */
  async skip(length: number): Promise<boolean> {
    for (let left = length; left > 0;) {
      const piece = await this.next(left);
      if (piece.length === 0) return false;
      left -= piece.length;
    }
    return true;
  }

  /** Ends the stream at any position. */
  async close(): Promise<void> {
    await this.#pieces.return();
  }
}
