// SPDX-License-Identifier: MIT
/**
 * The thread of a sink, as an object for the sink.
 *
 * @module
 */

import { startWorker } from "../runtime/worker.ts";
import type { Ring } from "./ring.ts";
import type { SinkReply, SinkRequest } from "./sink_worker.ts";

/**
 * Hashes the slots of a ring in the order in which they are added, and writes them to a file if
 * there is one.
 *
 * Every request is answered or rejected: with a system error, which has its `code`, or because the
 * thread has ended. After the first failure all requests are rejected.
 */
export class SinkThread {
  readonly #worker = startWorker("write/sink_worker.ts");
  /** The pending requests; the thread answers in their order. */
  readonly #asked: PromiseWithResolvers<string>[] = [];
  /** The number of slots done, shared with the thread: up to date before its answers are. */
  readonly #doneSlots = new Int32Array(new SharedArrayBuffer(4));
  readonly #hasFile: boolean;
  #sentSlots = 0;
  #finished: Promise<string> | undefined;
  /** The first failure, after which it answers no more. */
  #failure: Error | undefined;

  /** @param path An existing file, to be written from its start. */
  constructor(ring: Ring, path?: string) {
    this.#hasFile = path !== undefined;
    this.#worker.onmessage = ({ data }: MessageEvent<SinkReply>) => {
      if (data.kind === "done") this.#asked.shift()?.resolve(data.sha256 ?? "");
      else this.#fail(Object.assign(new Error(data.message), data.code && { code: data.code }));
    };
    this.#worker.onerror = (event) => {
      this.#fail(new Error(`the thread of a sink failed: ${event.message}`));
    };
    const { bytes, slotBytes } = ring;
    const doneSlots = this.#doneSlots.buffer;
    this.#send({
      kind: "open",
      ring: bytes,
      slotBytes,
      doneSlots,
      ...(path !== undefined && { path }),
    });
  }

  /** The number of slots that were added and are not done. */
  get pendingSlots(): number {
    return this.#sentSlots - Atomics.load(this.#doneSlots, 0);
  }

  /**
   * Hashes the first bytes of a slot, which must not change until that is done, and writes them.
   *
   * @param isWritten Whether they are in the file already, or need not be written.
   */
  async add(slot: number, sizeBytes: number, isWritten: boolean): Promise<void> {
    this.#sentSlots++;
    await this.#ask({ kind: "slot", slot, sizeBytes, isWritten });
  }

  /** Hashes zeros, and leaves a hole in the file. */
  addZeros(sizeBytes: number): void {
    this.#send({ kind: "hole", sizeBytes });
  }

  /** Returns the digest of all bytes so far, in lower-case hex. */
  digestSoFar(): Promise<string> {
    return this.#ask({ kind: "mark" });
  }

  /** Closes the file, and returns the digest of all bytes. Nothing can be added afterwards. */
  finish(): Promise<string> {
    return this.#finished ??= this.#ask({ kind: "finish" });
  }

  /** Ends the thread, also after an error; if there is a file, once the thread has closed it. */
  async close(): Promise<void> {
    // A failure was reported to the requests, and the thread has then closed the file. Without a
    // file there is no need to wait: it may have gigabytes of zeros left to hash.
    if (this.#hasFile) await this.finish().catch(() => {});
    this.#worker.terminate();
    this.#fail(new Error("the thread of a sink has ended"));
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

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#asked.splice(0)) reject(this.#failure);
  }
}
