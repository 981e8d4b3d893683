// SPDX-License-Identifier: MIT
/**
 * The CRC-32 of the bytes of an image so far, for what is written from its start to its end.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { CRC32_DIGITS, type Segment } from "../format/segment.ts";

/** Returns what a `crc32` segment is in an image. */
export function crc32Digits(value: number): Uint8Array {
  return new TextEncoder().encode(value.toString(16).padStart(CRC32_DIGITS, "0"));
}

/** The CRC-32 of the bytes so far, for images that have `crc32` segments. */
export class RunningCrc32 {
  #value = 0;
  #left: number;

  constructor(segments: readonly Segment[]) {
    this.#left = segments.filter(({ kind }) => kind === "crc32").length;
  }

  update(bytes: Uint8Array): void {
    if (this.#left > 0) this.#value = crc32(bytes, this.#value);
  }

  updateZeros(sizeBytes: number): void {
    if (this.#left === 0) return;
    const zeros = new Uint8Array(Math.min(sizeBytes, 64 * 1024));
    for (let left = sizeBytes; left > 0; left -= zeros.length) {
      this.update(zeros.subarray(0, Math.min(left, zeros.length)));
    }
  }

  /** Returns the digits for the next `crc32` segment. */
  digits(): Uint8Array {
    this.#left--;
    return crc32Digits(this.#value);
  }
}
