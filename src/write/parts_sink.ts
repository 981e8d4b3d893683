// SPDX-License-Identifier: MIT
/**
 * A sink that splits an image into files of one size.
 *
 * @module
 */

import { type ImageSink, Sink } from "./sink.ts";

/** A file that was written. */
export interface WrittenPart {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** Writes files of one size, the last one shorter. */
export class PartsSink implements ImageSink {
  readonly #pathOf: (number: number) => string;
  readonly #partBytes: number;
  readonly #written: WrittenPart[] = [];
  #sink: Sink;
  #filledBytes = 0;

  private constructor(pathOf: (number: number) => string, partBytes: number, sink: Sink) {
    this.#pathOf = pathOf;
    this.#partBytes = partBytes;
    this.#sink = sink;
  }

  /**
   * Creates the first file.
   *
   * @param pathOf Returns the path of a file by its number, from 1 on; it must not exist.
   * @param partBytes Size of each file but the last.
   * @throws {UserError} "target"
   */
  static async open(pathOf: (number: number) => string, partBytes: number): Promise<PartsSink> {
    return new PartsSink(pathOf, partBytes, await Sink.open(pathOf(1)));
  }

  async room(): Promise<Uint8Array> {
    const left = await this.#leftBytes();
    const room = await this.#sink.room();
    return room.subarray(0, Math.min(room.length, left));
  }

  used(sizeBytes: number): void {
    this.#sink.used(sizeBytes);
    this.#filledBytes += sizeBytes;
  }

  async skip(sizeBytes: number): Promise<void> {
    for (let done = 0; done < sizeBytes;) {
      const part = Math.min(sizeBytes - done, await this.#leftBytes());
      this.#sink.skip(part);
      this.#filledBytes += part;
      done += part;
    }
  }

  /** Syncs everything, and returns the files that were written. */
  async finish(): Promise<WrittenPart[]> {
    await this.#finishPart();
    return this.#written;
  }

  /** Closes the current file, also after an error. */
  async close(): Promise<void> {
    await this.#sink.close();
  }

  /** Returns the room in the current file, in bytes; if it is full, starts the next one. */
  async #leftBytes(): Promise<number> {
    if (this.#filledBytes === this.#partBytes) {
      await this.#finishPart();
      await this.#sink.close();
      this.#sink = await Sink.open(this.#pathOf(this.#written.length + 1));
      this.#filledBytes = 0;
    }
    return this.#partBytes - this.#filledBytes;
  }

  async #finishPart(): Promise<void> {
    const path = this.#pathOf(this.#written.length + 1);
    const sha256 = await this.#sink.finish(this.#filledBytes);
    this.#written.push({ path, sizeBytes: this.#filledBytes, sha256 });
  }
}
