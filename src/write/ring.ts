// SPDX-License-Identifier: MIT
/**
 * Buffers for direct reads and writes, and the thread that digests them.
 *
 * @module
 */

import { MIB } from "../format/segment.ts";
import type { Libc } from "../runtime/libc.ts";
import { startSinkWorker } from "../runtime/worker.ts";
import type { SinkReply, SinkRequest } from "./sink_worker.ts";

/** Direct reads and writes of a device begin at multiples of this, on disk and in memory. */
export const ALIGNMENT_BYTES = 4096;
/** One read or write. */
export const SLOT_BYTES = 4 * MIB;
/** More leave the cache of the processor, and take longer (measured: 3 are faster than 8). */
const SLOTS = 3;

/** Bytes at an aligned address, shared between threads. */
export function alignedBytes(libc: Libc, sizeBytes: number): Uint8Array {
  const shared = new SharedArrayBuffer(sizeBytes + ALIGNMENT_BYTES);
  const rest = libc.addressOf(new Uint8Array(shared)) % ALIGNMENT_BYTES;
  return new Uint8Array(shared, rest === 0 ? 0 : ALIGNMENT_BYTES - rest, sizeBytes);
}

/** Slots of {@link SLOT_BYTES} that are taken and given back: memory does not grow with the data. */
export class Ring {
  readonly bytes: Uint8Array;
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #waiting: ((slot: number) => void)[] = [];

  constructor(libc: Libc) {
    this.bytes = alignedBytes(libc, SLOTS * SLOT_BYTES);
  }

  /** Takes a slot as soon as one is free. */
  take(): Promise<number> {
    const slot = this.#free.shift();
    if (slot !== undefined) return Promise.resolve(slot);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(slot: number): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next(slot);
    else this.#free.push(slot);
  }

  /** The first bytes of a slot. */
  view(slot: number, length = SLOT_BYTES): Uint8Array {
    return this.bytes.subarray(slot * SLOT_BYTES, slot * SLOT_BYTES + length);
  }
}

/** SHA-256 of slots of a ring, in the order in which they are given, in a thread of its own. */
export class DigestThread {
  readonly #worker = startSinkWorker();
  /** The thread answers in the order of the questions. */
  readonly #asked: PromiseWithResolvers<string>[] = [];
  /** Why it answers no more. */
  #failure: Error | undefined;

  constructor(ring: Ring) {
    this.#worker.onmessage = ({ data }: MessageEvent<SinkReply>) => {
      const asked = this.#asked.shift();
      if (data.kind === "failed") asked?.reject(new Error(data.message));
      else asked?.resolve("sha256" in data ? data.sha256 : "");
    };
    this.#worker.onerror = (event) => {
      this.#failure = new Error(`the digesting thread failed: ${event.message}`);
      for (const { reject } of this.#asked.splice(0)) reject(this.#failure);
    };
    const done = new SharedArrayBuffer(4);
    this.#send({ kind: "open", ring: ring.bytes, slotBytes: SLOT_BYTES, done });
  }

  /** Digests the first bytes of a slot, which must not change until that is done. */
  async add(slot: number, length: number): Promise<void> {
    await this.#ask({ kind: "slot", slot, length, isWritten: true });
  }

  addZeros(size: number): void {
    this.#send({ kind: "hole", size });
  }

  /** Digest of what was given so far, in lower-case hex. */
  sofar(): Promise<string> {
    return this.#ask({ kind: "mark" });
  }

  end(): void {
    this.#worker.terminate();
  }

  #ask(request: SinkRequest): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const asked = Promise.withResolvers<string>();
    this.#asked.push(asked);
    this.#send(request);
    return asked.promise;
  }

  #send(request: SinkRequest): void {
    this.#worker.postMessage(request);
  }
}
