// SPDX-License-Identifier: MIT
/**
 * Where an image goes: a new file, with the digest of all that is written to it.
 *
 * Every byte of an image is hashed twice, as part of its file and as part of the image, so that
 * SHA-256 takes most of the time. Two threads share it: the caller reads into a buffer and
 * verifies, `sink_worker.ts` digests the buffer and writes it; where the caller is ahead, it
 * writes too. Buffers come from a ring of fixed size: memory does not grow with the data.
 *
 * @module
 */

import { type FileHandle, open } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { MIB } from "../format/segment.ts";
import { startSinkWorker } from "../runtime/worker.ts";
import { PIECE_BYTES, writeAll } from "./piece.ts";
import { writeError } from "./refused.ts";
import type { SinkReply, SinkRequest } from "./sink_worker.ts";

const SLOTS = 16;
const SLOT_BYTES = MIB;
const SLOTS_PER_TASK = 4;
/** With so many buffers on their way the thread is behind, and this one can do its writing. */
const BEHIND_SLOTS = 4;
/** After so many bytes the kernel is asked to begin with its writing, to have less to do last. */
const SYNC_BYTES = 32 * MIB;

/** Takes the bytes of an image from its beginning to its end. */
export interface ImageSink {
  /** The free part of the current buffer, at least one byte. */
  room(): Promise<Uint8Array>;
  /** Says that the first `length` bytes of the room were filled. */
  used(length: number): void;
  /** Goes on behind `size` zeros. */
  skip(size: number): void | Promise<void>;
}

/** A file that is being written from its beginning to its end. */
export class Sink implements ImageSink {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #worker: Worker;
  readonly #ring = new SharedArrayBuffer(SLOTS * SLOT_BYTES);
  readonly #done = new Int32Array(new SharedArrayBuffer(4));
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, slot) => slot);
  #slot: number | undefined;
  #filled = 0;
  #sent = 0;
  #position = 0;
  #unsynced = 0;
  #syncing: Promise<void> | undefined;
  #sha256: string | undefined;
  /** Whether the thread has closed the file at its end. */
  #isThreadDone = false;
  #failure: unknown;
  #wake: () => void = () => {};

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.#worker = startSinkWorker();
    this.#worker.onmessage = ({ data }: MessageEvent<SinkReply>) => this.#receive(data);
    this.#worker.onerror = (event) => {
      this.#isThreadDone = true;
      this.#fail(new Error(`the writing thread failed: ${event.message}`));
    };
    const done = this.#done.buffer;
    const ring = new Uint8Array(this.#ring);
    this.#send({ kind: "open", path, ring, slotBytes: SLOT_BYTES, done });
  }

  /**
   * Creates the file.
   *
   * @throws {UserError} "target" where that is not possible, or where it exists.
   */
  static async open(path: string): Promise<Sink> {
    try {
      return new Sink(path, await open(path, "wx", 0o644));
    } catch (error) {
      throw writeError(path, error);
    }
  }

  /** The free part of the current buffer, at least one byte. */
  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
      // Signals, finished syncs and replies of the thread are only seen between two tasks.
      if (this.#sent % SLOTS_PER_TASK === 0) await setImmediate();
      await this.#until(() => this.#free.length > 0);
      this.#slot = this.#free.shift()!;
      this.#filled = 0;
    }
    const start = this.#slot * SLOT_BYTES;
    return new Uint8Array(this.#ring, start + this.#filled, SLOT_BYTES - this.#filled);
  }

  /** Says that the first `length` bytes of the room were filled. */
  used(length: number): void {
    this.#filled += length;
    if (this.#filled === SLOT_BYTES) this.#flush();
  }

  /** Leaves a hole, which counts as zeros. */
  skip(size: number): void {
    this.#flush();
    this.#send({ kind: "hole", size });
    this.#position += size;
  }

  /**
   * Extends the file to its size and makes it durable.
   *
   * @returns SHA-256 of what was written, holes between included, in lower-case hex.
   * @throws {UserError} "target"
   */
  async finish(sizeBytes: number): Promise<string> {
    this.#flush();
    this.#send({ kind: "finish" });
    await this.#until(() => this.#sha256 !== undefined);
    await this.#syncing;
    await this.#durably(async () => {
      await this.#file.truncate(sizeBytes);
      await this.#file.sync();
    });
    if (this.#failure !== undefined) throw this.#failure;
    return this.#sha256!;
  }

  /** Ends the thread and closes the file, whatever happened. */
  async close(): Promise<void> {
    // The thread closes the file at its end before it ends, also where this end has failed.
    if (!this.#isThreadDone) this.#send({ kind: "finish" });
    while (!this.#isThreadDone) await new Promise<void>((resolve) => this.#wake = resolve);
    this.#worker.terminate();
    await this.#syncing;
    await this.#file.close();
  }

  #flush(): void {
    if (this.#slot === undefined) return;
    const onTheirWay = this.#sent++ - Atomics.load(this.#done, 0);
    const isWritten = onTheirWay > BEHIND_SLOTS && this.#writeSlot();
    this.#send({ kind: "slot", slot: this.#slot, length: this.#filled, isWritten });
    this.#slot = undefined;
    this.#position += this.#filled;
    this.#unsynced += this.#filled;
    if (this.#unsynced < SYNC_BYTES || this.#syncing !== undefined) return;
    this.#unsynced = 0;
    this.#syncing = this.#durably(() => this.#file.datasync())
      .finally(() => this.#syncing = undefined);
  }

  /** Writes the current buffer from this thread, and says whether that went well. */
  #writeSlot(): boolean {
    const start = this.#slot! * SLOT_BYTES;
    try {
      for (let done = 0; done < this.#filled; done += PIECE_BYTES) {
        const size = Math.min(PIECE_BYTES, this.#filled - done);
        const piece = new Uint8Array(this.#ring, start + done, size);
        writeAll(this.#file.fd, piece, this.#position + done);
      }
      return true;
    } catch (error) {
      this.#fail(writeError(this.#path, error));
      return false;
    }
  }

  /** Runs what a disk may refuse; a failure is kept for the next one who waits. */
  async #durably(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#fail(writeError(this.#path, error));
    }
  }

  #receive(reply: SinkReply): void {
    switch (reply.kind) {
      case "written":
        this.#free.push(reply.slot);
        break;
      case "finished":
        this.#sha256 = reply.sha256;
        this.#isThreadDone = true;
        break;
      case "marked":
        break;
      case "failed":
        this.#isThreadDone = true;
        this.#fail(writeError(this.#path, reply.message, reply.code));
    }
    this.#wake();
  }

  #send(request: SinkRequest): void {
    this.#worker.postMessage(request);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }

  async #until(isDone: () => boolean): Promise<void> {
    while (!isDone() && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}
