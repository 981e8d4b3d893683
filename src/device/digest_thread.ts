// SPDX-License-Identifier: MIT
/**
 * The thread that hashes what is written to a device, as an object for the sink.
 *
 * @module
 */

import { startWorker } from "../runtime/worker.ts";
import type { DigestRequest } from "./digest_worker.ts";
import type { Ring } from "./ring.ts";

/**
 * Hashes ranges of the slots of a ring, in the order in which they are added.
 *
 * Every request is answered, or rejected because the thread has ended. After the first failure all
 * requests are rejected.
 */
export class DigestThread {
  readonly #worker = startWorker("device/digest_worker.ts");
  readonly #slotBytes: number;
  /** The pending requests; the thread answers in their order. */
  readonly #asked: PromiseWithResolvers<string>[] = [];
  /** The first failure, after which it answers no more. */
  #failure: Error | undefined;

  constructor({ bytes, slotBytes }: Ring) {
    this.#slotBytes = slotBytes;
    this.#worker.onmessage = ({ data }: MessageEvent<string>) => this.#asked.shift()?.resolve(data);
    this.#worker.onerror = (event) => {
      this.#fail(new Error(`the thread of a sink failed: ${event.message}`));
    };
    this.#send({ kind: "open", ring: bytes });
  }

  /** Hashes bytes of a slot, which must not change until that is done. */
  async add(slot: number, fromBytes: number, toBytes: number): Promise<void> {
    const offsetBytes = slot * this.#slotBytes + fromBytes;
    await this.#ask({ kind: "bytes", offsetBytes, sizeBytes: toBytes - fromBytes });
  }

  addZeros(sizeBytes: number): void {
    this.#send({ kind: "zeros", sizeBytes });
  }

  /** Returns the digest of all bytes since the last call, in lower-case hex. */
  end(): Promise<string> {
    return this.#ask({ kind: "end" });
  }

  /** Ends the thread, also in the middle. */
  close(): void {
    this.#worker.terminate();
    this.#fail(new Error("the thread of a sink has ended"));
  }

  #ask(request: DigestRequest): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const asked = Promise.withResolvers<string>();
    this.#asked.push(asked);
    this.#send(request);
    return asked.promise;
  }

  #send(request: DigestRequest): void {
    this.#worker.postMessage(request);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#asked.splice(0)) reject(this.#failure);
  }
}
