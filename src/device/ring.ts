// SPDX-License-Identifier: MIT
/**
 * A pool of buffers that are filled by one thread, and hashed and written by another.
 *
 * @module
 */

import type { Libc } from "../runtime/libc.ts";

/** Alignment of direct reads and writes of a device, on disk and in memory. */
export const ALIGNMENT_BYTES = 4096;

/** Allocates bytes at an aligned address, shared between threads. */
export function alignedBytes(libc: Libc, sizeBytes: number): Uint8Array {
  const shared = new SharedArrayBuffer(sizeBytes + ALIGNMENT_BYTES);
  const rest = libc.addressOf(new Uint8Array(shared)) % ALIGNMENT_BYTES;
  return new Uint8Array(shared, rest === 0 ? 0 : ALIGNMENT_BYTES - rest, sizeBytes);
}

/** Options of a ring. */
export interface RingOptions {
  /** The number of slots. */
  readonly slots: number;
  readonly slotBytes: number;
  /** Aligns every slot for direct reads and writes, if `slotBytes` is a multiple of 4,096. */
  readonly libc?: Libc;
}

/** A fixed number of slots that are taken and given back, so that memory is bounded. */
export class Ring {
  /** Shared between threads: slot `n` begins at `n * slotBytes`. */
  readonly bytes: Uint8Array;
  readonly slotBytes: number;
  readonly #free: number[];
  readonly #waiting: ((slot: number) => void)[] = [];

  constructor({ slots, slotBytes, libc }: RingOptions) {
    const sizeBytes = slots * slotBytes;
    this.slotBytes = slotBytes;
    this.bytes = libc === undefined
      ? new Uint8Array(new SharedArrayBuffer(sizeBytes))
      : alignedBytes(libc, sizeBytes);
    this.#free = Array.from({ length: slots }, (_, slot) => slot);
  }

  /** Takes a slot as soon as one is free. */
  take(): Promise<number> {
    const slot = this.#free.shift();
    if (slot !== undefined) return Promise.resolve(slot);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives a slot back; the longest waiting {@link take} gets it. */
  give(slot: number): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next(slot);
    else this.#free.push(slot);
  }

  /** Returns the first bytes of a slot. */
  view(slot: number, sizeBytes = this.slotBytes): Uint8Array {
    const start = slot * this.slotBytes;
    return this.bytes.subarray(start, start + sizeBytes);
  }
}
