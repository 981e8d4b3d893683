// SPDX-License-Identifier: MIT
/**
 * Where an image goes: a new file, with the digest of all that is written to it.
 *
 * Every byte of an image is hashed twice, as part of its file and as part of the image, so that
 * SHA-256 takes most of the time. Three threads share it: the caller reads into a buffer and
 * verifies, `hash_worker.ts` digests the buffer, and the runtime's own threads write it. Buffers
 * come from a ring of fixed size: memory does not grow with the data.
 *
 * @module
 */

import { type FileHandle, open } from "node:fs/promises";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { startHashWorker } from "../runtime/worker.ts";
import type { HashReply, HashRequest } from "./hash_worker.ts";

const SLOTS = 16;
const SLOT_BYTES = MIB;
/** After so many bytes the kernel is asked to begin with its writing, to have less to do last. */
const SYNC_BYTES = 128 * MIB;

/** A file that is being written from its beginning to its end. */
export class Sink {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #worker: Worker;
  readonly #ring = new SharedArrayBuffer(SLOTS * SLOT_BYTES);
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, slot) => slot);
  /** For each slot, how many of its two users (the digest and the file) are not done with it. */
  readonly #users: number[] = new Array(SLOTS).fill(0);
  #slot: number | undefined;
  #filled = 0;
  #position = 0;
  #unsynced = 0;
  #syncing: Promise<void> | undefined;
  #sha256: string | undefined;
  #failure: unknown;
  #wake: () => void = () => {};

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.#worker = startHashWorker();
    this.#worker.onmessage = ({ data }: MessageEvent<HashReply>) => {
      if (data.kind === "digest") this.#sha256 = data.sha256;
      else this.#release(data.slot);
      this.#wake();
    };
    this.#worker.onerror = (event) => {
      this.#fail(new Error(`the hashing thread failed: ${event.message}`));
    };
    this.#send({ kind: "ring", ring: this.#ring, slotBytes: SLOT_BYTES });
  }

  /**
   * Creates the file.
   *
   * @throws {UserError} "target" where that is not possible, or where it exists.
   */
  static async open(path: string): Promise<Sink> {
    let file: FileHandle;
    try {
      file = await open(path, "wx", 0o644);
    } catch (error) {
      throw writeError(path, error);
    }
    return new Sink(path, file);
  }

  /** The free part of the current buffer, at least one byte. */
  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
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

  /** Writes bytes that are in memory already. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const room = await this.room();
      const part = bytes.subarray(done, done + room.length);
      room.set(part);
      this.used(part.length);
      done += part.length;
    }
  }

  /** Leaves a hole, which counts as zeros. */
  skip(size: number): void {
    this.#flush();
    this.#send({ kind: "zeros", size });
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
    await this.#until(() => this.#free.length === SLOTS && this.#sha256 !== undefined);
    await this.#syncing;
    try {
      await this.#file.truncate(sizeBytes);
      await this.#file.sync();
    } catch (error) {
      throw writeError(this.#path, error);
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#sha256!;
  }

  /** Ends the thread and closes the file, whatever happened. */
  async close(): Promise<void> {
    this.#worker.terminate();
    // The file must not be closed under a write that is on its way.
    while (this.#users.some((users, slot) => users > 0 && this.#writing.has(slot))) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    await this.#syncing;
    await this.#file.close();
  }

  /** Slots that the runtime's threads are writing. */
  readonly #writing = new Set<number>();

  #flush(): void {
    if (this.#slot === undefined) return;
    const slot = this.#slot;
    const length = this.#filled;
    this.#slot = undefined;
    this.#users[slot] = 2;
    this.#send({ kind: "slot", slot, length });
    this.#writing.add(slot);
    this.#writeSlot(slot, length, this.#position)
      .catch((error) => this.#fail(writeError(this.#path, error)))
      .finally(() => {
        this.#writing.delete(slot);
        this.#release(slot);
        this.#wake();
      });
    this.#position += length;
  }

  async #writeSlot(slot: number, length: number, position: number): Promise<void> {
    const bytes = new Uint8Array(this.#ring, slot * SLOT_BYTES, length);
    for (let done = 0; done < length;) {
      const { bytesWritten } = await this.#file.write(bytes, done, length - done, position + done);
      done += bytesWritten;
    }
    this.#unsynced += length;
    if (this.#unsynced < SYNC_BYTES || this.#syncing !== undefined) return;
    this.#unsynced = 0;
    this.#syncing = this.#file.datasync()
      .catch((error) => this.#fail(writeError(this.#path, error)))
      .finally(() => this.#syncing = undefined);
  }

  /** One of the two users of a slot is done with it. */
  #release(slot: number): void {
    this.#users[slot]!--;
    if (this.#users[slot] === 0) this.#free.push(slot);
  }

  #send(request: HashRequest): void {
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

function writeError(path: string, cause: unknown): UserError {
  const code = systemCode(cause);
  return new UserError("target", `Cannot write ${path}: ${messageOf(cause)}`, {
    where: path,
    hint: code === "ENOSPC" || code === "EDQUOT"
      ? "Free some space there, or name another --target"
      : code === "EFBIG"
      ? "The file system cannot hold a file of this size: use a smaller --target-size"
      : "Check the target directory and its permissions",
    cause,
  });
}
