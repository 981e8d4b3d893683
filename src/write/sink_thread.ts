// SPDX-License-Identifier: MIT
/**
 * The thread of a sink as the sink sees it.
 *
 * @module
 */

import { startSinkWorker } from "../runtime/worker.ts";
import type { Ring } from "./ring.ts";
import type { SinkReply, SinkRequest } from "./sink_worker.ts";

/**
 * Digests the slots of a ring in the order in which they are given, and writes them to a file where
 * there is one.
 *
 * Every question gets its answer, or is rejected: with the error of the system, which has its
 * `code`, or because the thread is gone. After the first failure all are.
 */
export class SinkThread {
  readonly #worker = startSinkWorker();
  /** The thread answers in the order of the questions. */
  readonly #asked: PromiseWithResolvers<string>[] = [];
  /** How many slots are done, which is known here before the answers are. */
  readonly #doneSlots = new Int32Array(new SharedArrayBuffer(4));
  readonly #hasFile: boolean;
  #sentSlots = 0;
  #finished: Promise<string> | undefined;
  /** Why it answers no more. */
  #failure: Error | undefined;

  /** @param path A file that is there, to be written from its beginning on. */
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

  /** How many slots it was given and has not yet done. */
  get pendingSlots(): number {
    return this.#sentSlots - Atomics.load(this.#doneSlots, 0);
  }

  /**
   * Digests the first bytes of a slot, which must not change until that is done, and writes them.
   *
   * @param isWritten Whether they are in the file, or need not be.
   */
  async add(slot: number, sizeBytes: number, isWritten: boolean): Promise<void> {
    this.#sentSlots++;
    await this.#ask({ kind: "slot", slot, sizeBytes, isWritten });
  }

  /** Digests zeros, and leaves a hole in the file. */
  addZeros(sizeBytes: number): void {
    this.#send({ kind: "hole", sizeBytes });
  }

  /** Digest of what was given so far, in lower-case hex. */
  digestSoFar(): Promise<string> {
    return this.#ask({ kind: "mark" });
  }

  /** Closes the file at its end; nothing can be given any more. The digest of all, likewise. */
  finish(): Promise<string> {
    return this.#finished ??= this.#ask({ kind: "finish" });
  }

  /** Ends the thread, whatever happened; where there is a file, once it is closed at that end. */
  async close(): Promise<void> {
    // Whoever asked was told of a failure, and after one the file is closed. Without a file there
    // is nothing to wait for: it may have gigabytes of zeros left to digest.
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
