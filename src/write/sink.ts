// SPDX-License-Identifier: MIT
/**
 * A new file for an image, with the digest of all bytes that are written to it.
 *
 * Every byte of an image is hashed twice, as part of its file and as part of the image, so that
 * SHA-256 takes most of the time. Two threads share the work: the caller reads into a buffer and
 * verifies, `sink_worker.ts` hashes the buffer and writes it. If that thread is slower, the caller
 * writes too. The buffers are a ring of fixed size, so that memory is bounded.
 *
 * @module
 */

import { type FileHandle, open } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { systemCode } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { writeError } from "../refused.ts";
import { PIECE_BYTES, writeAll } from "../hash/piece.ts";
import { Ring } from "./ring.ts";
import { SinkThread } from "./sink_thread.ts";

const SLOTS = 16;
const SLOT_BYTES = MIB;
const SLOTS_PER_TASK = 4;
/** If more buffers than this are pending, the thread is the slower one, and the caller writes. */
const LAG_SLOTS = 4;
/** Bytes between two syncs while writing, so that the last sync has less to do. */
const SYNC_BYTES = 32 * MIB;

/** Takes the bytes of an image from its start to its end. */
export interface ImageSink {
  /** Returns the free part of the current buffer, at least one byte. */
  room(): Promise<Uint8Array>;
  /** Declares the first `sizeBytes` bytes of {@link room} as filled. */
  used(sizeBytes: number): void;
  /** Adds zeros, perhaps as a hole. */
  skip(sizeBytes: number): void | Promise<void>;
}

/** A file that is written from its start to its end. */
export class Sink implements ImageSink {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #ring = new Ring({ slots: SLOTS, slotBytes: SLOT_BYTES });
  readonly #thread: SinkThread;
  #slot: number | undefined;
  #filledBytes = 0;
  #sentSlots = 0;
  /** Offset of the current slot in the file. */
  #offsetBytes = 0;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.#thread = new SinkThread(this.#ring, path);
  }

  /**
   * Creates the file.
   *
   * @throws {UserError} "target" where it exists, or cannot be created.
   */
  static async open(path: string): Promise<Sink> {
    try {
      return new Sink(path, await open(path, "wx", 0o666));
    } catch (error) {
      throw writeError(path, error);
    }
  }

  /** Returns the free part of the current buffer, at least one byte. */
  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
      // Signals, finished syncs and replies of the thread are only seen between two tasks.
      if (this.#sentSlots % SLOTS_PER_TASK === 0) await setImmediate();
      this.#slot = await this.#ring.take();
    }
    this.#throwIfFailed();
    return this.#ring.view(this.#slot).subarray(this.#filledBytes);
  }

  /** Declares the first `sizeBytes` bytes of {@link room} as filled. */
  used(sizeBytes: number): void {
    this.#filledBytes += sizeBytes;
    if (this.#filledBytes === SLOT_BYTES) this.#flush();
  }

  /** Leaves a hole, which is hashed as zeros. */
  skip(sizeBytes: number): void {
    this.#flush();
    this.#thread.addZeros(sizeBytes);
    this.#offsetBytes += sizeBytes;
  }

  /**
   * Extends the file to its size and syncs it.
   *
   * @returns SHA-256 of all bytes and holes that were added, in lower-case hex.
   * @throws {UserError} "target"
   */
  async finish(sizeBytes: number): Promise<string> {
    this.#flush();
    let sha256 = "";
    await this.#guard(async () => void (sha256 = await this.#thread.finish()));
    await this.#syncing;
    this.#throwIfFailed();
    await this.#guard(async () => {
      await this.#file.truncate(sizeBytes);
      await this.#file.sync();
    });
    this.#throwIfFailed();
    return sha256;
  }

  /** Ends the thread and closes the file, also after an error. */
  async close(): Promise<void> {
    // The thread closes its own descriptor first, also if the caller has failed.
    await this.#thread.close();
    await this.#syncing;
    await this.#file.close();
  }

  #flush(): void {
    const slot = this.#slot;
    if (slot === undefined) return;
    this.#slot = undefined;
    const bytes = this.#ring.view(slot, this.#filledBytes);
    const isWritten = this.#thread.pendingSlots > LAG_SLOTS && this.#write(bytes);
    this.#sentSlots++;
    void this.#guard(() => this.#thread.add(slot, bytes.length, isWritten))
      .then(() => this.#ring.give(slot));
    this.#offsetBytes += bytes.length;
    this.#filledBytes = 0;
    this.#unsyncedBytes += bytes.length;
    if (this.#unsyncedBytes < SYNC_BYTES || this.#syncing !== undefined) return;
    this.#unsyncedBytes = 0;
    this.#syncing = this.#guard(() => this.#file.datasync())
      .finally(() => this.#syncing = undefined);
  }

  /** Writes the current buffer from this thread, and reports whether that succeeded. */
  #write(bytes: Uint8Array): boolean {
    try {
      for (let done = 0; done < bytes.length; done += PIECE_BYTES) {
        writeAll(this.#file.fd, bytes.subarray(done, done + PIECE_BYTES), this.#offsetBytes + done);
      }
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  /** Runs an operation on the file; an error is kept for the next call that can throw it. */
  async #guard(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const isRefused = systemCode(error) !== undefined;
    this.#failure ??= { error: isRefused ? writeError(this.#path, error) : error };
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
