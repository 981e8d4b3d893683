// SPDX-License-Identifier: MIT
/**
 * Limits how fast bytes come, for all connections together.
 *
 * @module
 */

import { setTimeout as sleep } from "node:timers/promises";

/** So much may come at once after a pause: a connection would rest at each chunk otherwise. */
const BURST_MS = 250;

/** A limit of bytes a second. What takes bytes waits until they are due. */
export class RateLimit {
  readonly #bytesPerMs: number;
  #dueMs = performance.now();

  /** @param bytesPerSecond At least 1. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Waits until so many bytes more may have come. */
  async take(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const now = performance.now();
    this.#dueMs = Math.max(this.#dueMs, now - BURST_MS) + bytes / this.#bytesPerMs;
    const waitMs = this.#dueMs - now;
    if (waitMs > 0) await sleep(waitMs, undefined, signal && { signal }).catch(() => {});
    signal?.throwIfAborted();
  }
}
