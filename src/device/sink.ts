// SPDX-License-Identifier: MIT
/**
 * Writes an image to a device. The first MiB is cleared before all other writes, and written after
 * the rest is synced and read back, its first block at the very end, so that a device with an
 * incomplete image does not boot.
 *
 * @module
 */

import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { isZero } from "../bytes.ts";
import { type BlockFile, TRANSFER_BYTES } from "./block_file.ts";
import { DigestThread } from "./digest_thread.ts";
import { alignedBytes, ALIGNMENT_BYTES, Ring } from "./ring.ts";

/** More slots do not fit the cache of the processor (measured: 3 are faster than 8). */
const SLOTS = 3;
/** Size of the front, which is cleared first and written last. */
const FRONT_BYTES = MIB;
/** Shorter runs of zeros are written, longer ones are zeroed by the device. */
const HOLE_BYTES = MIB;
/** Size of the blocks that each have a checksum, which locates a fault. */
const CHECK_BYTES = 256 * 1024;

export interface DeviceSinkOptions {
  /** Size of the image. */
  readonly sizeBytes: number;
  /** Called with the size of each run that was written, or read back. */
  readonly onDone: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A run of the image as it was written; data is at most a slot. */
interface Run {
  readonly kind: "data" | "zeros";
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** CRC-32 of each {@link CHECK_BYTES} of data. */
  readonly checks: readonly number[];
}

/** Takes the bytes of an image from its start to its end. */
export class DeviceSink {
  readonly #out: BlockFile;
  readonly #options: DeviceSinkOptions;
  readonly #ring: Ring;
  readonly #front: Uint8Array;
  readonly #written: Run[] = [];
  /** The thread that hashes pieces, once there is one. */
  #digest: DigestThread | undefined;
  /** While a piece is hashed: up to where the current slot was given to the thread. */
  #hashedTo: number | undefined;
  /** What the thread has to do with the current slot. */
  #hashing: Promise<void>[] = [];
  #slot: number | undefined;
  #filledBytes = 0;
  /** Offset of the current slot in the image. */
  #offsetBytes = 0;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  private constructor(out: BlockFile, options: DeviceSinkOptions) {
    this.#out = out;
    this.#options = options;
    this.#ring = new Ring({ slots: SLOTS, slotBytes: TRANSFER_BYTES, libc: out.libc });
    this.#front = alignedBytes(out.libc, Math.min(FRONT_BYTES, options.sizeBytes));
  }

  /**
   * Makes a sink, and clears the first MiB.
   *
   * @throws {UserError} "target"
   */
  static async begin(out: BlockFile, options: DeviceSinkOptions): Promise<DeviceSink> {
    const sink = new DeviceSink(out, options);
    try {
      await sink.clear();
      return sink;
    } catch (error) {
      await sink.close();
      throw error;
    }
  }

  /** Zeroes the first MiB, and syncs it. */
  async clear(): Promise<void> {
    await this.#out.write(alignedBytes(this.#out.libc, this.#front.length), 0);
    await this.#out.sync();
  }

  /** Returns the free part of the current buffer, at least one byte. */
  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
      // Signals and finished writes are only seen between two tasks.
      await setImmediate();
      this.#slot = await this.#ring.take();
      this.#throwIfFailed();
    }
    return this.#ring.view(this.#slot).subarray(this.#filledBytes);
  }

  /** Declares the first `sizeBytes` bytes of {@link room} as filled. */
  used(sizeBytes: number): void {
    this.#filledBytes += sizeBytes;
    if (this.#filledBytes === TRANSFER_BYTES) this.#send(TRANSFER_BYTES);
  }

  /** Begins to hash: from here to {@link endPiece}. */
  beginPiece(): void {
    this.#digest ??= new DigestThread(this.#ring);
    this.#hashedTo = this.#filledBytes;
  }

  /**
   * Ends a piece.
   *
   * @returns Its SHA-256, in lower-case hex, when that is known. It need not be waited for.
   */
  endPiece(): Promise<string> {
    if (this.#digest === undefined) throw new Error("no piece was begun");
    this.#hash();
    this.#hashedTo = undefined;
    const sha256 = this.#digest.end();
    sha256.catch((error: unknown) => void (this.#failure ??= { error }));
    return sha256;
  }

  /** Gives the thread what is new in the current slot. */
  #hash(): void {
    const [slot, from, to] = [this.#slot, this.#hashedTo, this.#filledBytes];
    if (slot === undefined || from === undefined || from === to) return;
    this.#hashedTo = to;
    const adding = this.#digest!.add(slot, from, to);
    adding.catch((error: unknown) => void (this.#failure ??= { error }));
    this.#hashing.push(adding);
  }

  /** Adds zeros, where there are many as a hole. */
  async skip(sizeBytes: number): Promise<void> {
    const at = this.#offsetBytes + this.#filledBytes;
    const lead = (ALIGNMENT_BYTES - at % ALIGNMENT_BYTES) % ALIGNMENT_BYTES;
    if (sizeBytes < HOLE_BYTES + lead) return await writeBytes(this, new Uint8Array(sizeBytes));
    const rest = (sizeBytes - lead) % ALIGNMENT_BYTES;
    await writeBytes(this, new Uint8Array(lead));
    this.#send(this.#filledBytes);
    await this.#zero(sizeBytes - lead - rest);
    await writeBytes(this, new Uint8Array(rest));
  }

  /**
   * Writes the current slot, and zeros up to the size of the image; syncs all but the first MiB.
   *
   * @throws {UserError} "target"
   */
  async finish(): Promise<void> {
    const { sizeBytes } = this.#options;
    // Writes have whole blocks; after the data, the last block has zeros of the image.
    const end = Math.min(
      sizeBytes,
      Math.ceil((this.#offsetBytes + this.#filledBytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES,
    );
    const padded = end - this.#offsetBytes;
    if (this.#slot !== undefined) this.#ring.view(this.#slot, padded).fill(0, this.#filledBytes);
    this.#send(padded);
    await this.#zero(sizeBytes - this.#offsetBytes);
    await Promise.all(this.#running);
    this.#throwIfFailed();
    await this.#out.sync();
  }

  /**
   * Reads all but the first MiB back, and compares it with what was written.
   *
   * @throws {UserError} "verify" with the offset of the fault, "target" for a failed read.
   */
  async readBack(): Promise<void> {
    const { onDone, signal } = this.#options;
    let order: Promise<void> = Promise.resolve();
    for (const run of this.#written) {
      for (let done = 0; done < run.sizeBytes; done += TRANSFER_BYTES) {
        const slot = await this.#ring.take();
        this.#throwIfFailed();
        throwIfInterrupted(signal);
        const offsetBytes = run.offsetBytes + done;
        const view = this.#ring.view(slot, Math.min(TRANSFER_BYTES, run.sizeBytes - done));
        const reading = this.#readPastFront(view, offsetBytes);
        const before = order;
        order = this.#track(async () => {
          await Promise.all([reading, before]);
          if (run.kind === "data") this.#compare(view, run.checks, offsetBytes);
          else if (!isZero(view)) throw this.#differs(offsetBytes, offsetBytes + view.length);
          onDone(view.length);
        }, slot);
      }
    }
    await order;
    this.#throwIfFailed();
  }

  /**
   * Writes and syncs the first MiB, and reads it back if `isVerified`. Its first block, without which
   * nothing boots, is last: a write of more is cut short by a kill.
   */
  async seal(isVerified: boolean): Promise<void> {
    await this.#out.write(this.#front.subarray(ALIGNMENT_BYTES), ALIGNMENT_BYTES);
    await this.#out.sync();
    await this.#out.write(this.#front.subarray(0, ALIGNMENT_BYTES), 0);
    await this.#out.sync();
    if (!isVerified) return;
    const back = alignedBytes(this.#out.libc, this.#front.length);
    await this.#out.read(back, 0);
    if (back.some((byte, at) => byte !== this.#front[at])) {
      throw this.#differs(0, back.length);
    }
  }

  /** Waits for pending operations, and ends the thread, also after an error. */
  async close(): Promise<void> {
    this.#digest?.close();
    await Promise.all(this.#running);
  }

  /** Starts to write the first `sizeBytes` bytes of the current slot. */
  #send(sizeBytes: number): void {
    const slot = this.#slot;
    if (slot === undefined) return;
    this.#hash();
    this.#slot = undefined;
    const hashing = this.#hashing;
    this.#hashing = [];
    if (this.#hashedTo !== undefined) this.#hashedTo = 0;
    const offsetBytes = this.#offsetBytes;
    this.#filledBytes = 0;
    this.#offsetBytes += sizeBytes;
    if (sizeBytes === 0) return this.#ring.give(slot);
    const view = this.#ring.view(slot, sizeBytes);
    this.#written.push({ kind: "data", offsetBytes, sizeBytes, checks: checksOf(view) });
    this.#track(async () => {
      await Promise.all([...hashing, this.#writePastFront(view, offsetBytes)]);
      this.#options.onDone(sizeBytes);
    }, slot);
  }

  /** Adds a run of zeros, and lets the device zero it. */
  async #zero(sizeBytes: number): Promise<void> {
    if (sizeBytes === 0) return;
    this.#throwIfFailed();
    const { onDone, signal } = this.#options;
    const offsetBytes = this.#offsetBytes;
    this.#written.push({ kind: "zeros", offsetBytes, sizeBytes, checks: [] });
    if (this.#hashedTo !== undefined) this.#digest?.addZeros(sizeBytes);
    const inFront = Math.max(0, Math.min(sizeBytes, FRONT_BYTES - offsetBytes));
    onDone(inFront);
    await this.#out.zero(offsetBytes + inFront, sizeBytes - inFront, onDone, signal);
    this.#offsetBytes += sizeBytes;
  }

  /** Writes bytes; those of the first MiB are only kept in memory. */
  async #writePastFront(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    const inFront = this.#inFront(bytes, offsetBytes);
    this.#front.set(bytes.subarray(0, inFront), Math.min(offsetBytes, this.#front.length));
    await this.#out.write(bytes.subarray(inFront), offsetBytes + inFront);
  }

  /** Reads bytes; those of the first MiB come from memory, as they are not written yet. */
  async #readPastFront(into: Uint8Array, offsetBytes: number): Promise<void> {
    const inFront = this.#inFront(into, offsetBytes);
    into.set(this.#front.subarray(offsetBytes, offsetBytes + inFront));
    await this.#out.read(into.subarray(inFront), offsetBytes + inFront);
  }

  #inFront(bytes: Uint8Array, offsetBytes: number): number {
    return Math.max(0, Math.min(bytes.length, this.#front.length - offsetBytes));
  }

  /** Runs an operation, keeps its failure for the next call that can throw, and frees its slot. */
  #track(run: () => Promise<void>, slot?: number): Promise<void> {
    const running: Promise<void> = run()
      .catch((error: unknown) => void (this.#failure ??= { error }))
      .finally(() => {
        this.#running.delete(running);
        if (slot !== undefined) this.#ring.give(slot);
      });
    this.#running.add(running);
    return running;
  }

  #compare(bytes: Uint8Array, checks: readonly number[], offsetBytes: number): void {
    const index = checksOf(bytes).findIndex((check, index) => check !== checks[index]);
    if (index < 0) return;
    const from = offsetBytes + index * CHECK_BYTES;
    throw this.#differs(from, Math.min(from + CHECK_BYTES, offsetBytes + bytes.length));
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #differs(from: number, to: number): UserError {
    return new UserError(
      "verify",
      `Cannot trust ${this.#out.path}: what it reads back is not what was written`,
      {
        where: `${this.#out.path}, between offset ${from} and ${to}`,
        hint: "The device silently corrupts data: use another one, or another port or cable",
      },
    );
  }
}

/** Copies bytes into a sink. */
export async function writeBytes(
  sink: Pick<DeviceSink, "room" | "used">,
  bytes: Uint8Array,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const room = await sink.room();
    const part = bytes.subarray(done, done + room.length);
    room.set(part);
    sink.used(part.length);
    done += part.length;
  }
}

function checksOf(bytes: Uint8Array): number[] {
  const checks: number[] = [];
  for (let at = 0; at < bytes.length; at += CHECK_BYTES) {
    checks.push(crc32(bytes.subarray(at, at + CHECK_BYTES)));
  }
  return checks;
}
