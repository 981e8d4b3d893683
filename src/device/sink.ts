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
import { alignedBytes, ALIGNMENT_BYTES, Ring } from "../write/ring.ts";
import type { ImageSink } from "../write/sink.ts";
import { SinkThread } from "../write/sink_thread.ts";
import { writeBytes } from "../write/writer.ts";
import { type BlockFile, TRANSFER_BYTES } from "./block_file.ts";

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
  /**
   * When SHA-256 is computed: at most once, as it takes most of the time. Bytes that are read back
   * are always compared by CRC-32.
   */
  readonly digests: "writing" | "reading back" | "never";
  /** Whether holes between data are part of the digest; slow where they are large. */
  readonly hashesHoles: boolean;
  /** Called with the size of each piece that was written, or read back. */
  readonly onDone: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** SHA-256 of an image. */
export interface Digest {
  /** Lower-case hex. */
  readonly sha256: string;
  /** Whether it covers every byte up to the end of the data; otherwise it leaves out holes. */
  readonly isWhole: boolean;
}

/** A run of the image as it was written; data is at most a slot. */
type Piece =
  | {
    readonly kind: "data";
    readonly offsetBytes: number;
    readonly sizeBytes: number;
    /** Less than `sizeBytes` where the data ends in it. */
    readonly hashedBytes: number;
    /** CRC-32 of each {@link CHECK_BYTES}. */
    readonly checks: readonly number[];
  }
  | {
    readonly kind: "zeros";
    readonly offsetBytes: number;
    readonly sizeBytes: number;
    readonly isHashed: boolean;
  };

export class DeviceSink implements ImageSink {
  readonly #out: BlockFile;
  readonly #options: DeviceSinkOptions;
  readonly #ring: Ring;
  readonly #front: Uint8Array;
  readonly #pieces: Piece[] = [];
  readonly #digest: SinkThread | undefined;
  #slot: number | undefined;
  #filledBytes = 0;
  /** Offset of the current slot in the image. */
  #offsetBytes = 0;
  #isWhole = false;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  private constructor(out: BlockFile, options: DeviceSinkOptions) {
    this.#out = out;
    this.#options = options;
    this.#ring = new Ring({ slots: SLOTS, slotBytes: TRANSFER_BYTES, libc: out.libc });
    this.#front = alignedBytes(out.libc, Math.min(FRONT_BYTES, options.sizeBytes));
    if (options.digests !== "never") this.#digest = new SinkThread(this.#ring);
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

  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
      // Signals and finished writes are only seen between two tasks.
      await setImmediate();
      this.#slot = await this.#ring.take();
      this.#throwIfFailed();
    }
    return this.#ring.view(this.#slot).subarray(this.#filledBytes);
  }

  used(sizeBytes: number): void {
    this.#filledBytes += sizeBytes;
    if (this.#filledBytes === TRANSFER_BYTES) this.#send(TRANSFER_BYTES);
  }

  async skip(sizeBytes: number): Promise<void> {
    const at = this.#offsetBytes + this.#filledBytes;
    const lead = (ALIGNMENT_BYTES - at % ALIGNMENT_BYTES) % ALIGNMENT_BYTES;
    if (sizeBytes < HOLE_BYTES + lead) return await writeBytes(this, new Uint8Array(sizeBytes));
    const rest = (sizeBytes - lead) % ALIGNMENT_BYTES;
    await writeBytes(this, new Uint8Array(lead));
    this.#send(this.#filledBytes);
    await this.#zero(sizeBytes - lead - rest, this.#options.hashesHoles);
    await writeBytes(this, new Uint8Array(rest));
  }

  /**
   * Writes the current slot, and zeros up to the size of the image; syncs all but the first MiB.
   *
   * @returns The digest, where it is computed while writing.
   * @throws {UserError} "target"
   */
  async finish(): Promise<Digest | undefined> {
    const { sizeBytes } = this.#options;
    // Writes have whole blocks; after the data, the last block has zeros of the image.
    const end = Math.min(
      sizeBytes,
      Math.ceil((this.#offsetBytes + this.#filledBytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES,
    );
    const padded = end - this.#offsetBytes;
    if (this.#slot !== undefined) this.#ring.view(this.#slot, padded).fill(0, this.#filledBytes);
    this.#send(padded);
    this.#isWhole = this.#pieces.every((piece) => piece.kind === "data" || piece.isHashed);
    await this.#zero(sizeBytes - this.#offsetBytes, false);
    await Promise.all(this.#running);
    this.#throwIfFailed();
    await this.#out.sync();
    return this.#options.digests === "writing" ? await this.#digestSoFar() : undefined;
  }

  /**
   * Reads all but the first MiB back, and compares it with what was written.
   *
   * @returns The digest, where it is computed while reading back.
   * @throws {UserError} "verify" with the offset of the fault, "target" for a failed read.
   */
  async readBack(): Promise<Digest | undefined> {
    const { digests, onDone, signal } = this.#options;
    const digest = digests === "reading back" ? this.#digest : undefined;
    let order: Promise<void> = Promise.resolve();
    for (const piece of this.#pieces) {
      for (let done = 0; done < piece.sizeBytes; done += TRANSFER_BYTES) {
        const slot = await this.#ring.take();
        this.#throwIfFailed();
        throwIfInterrupted(signal);
        const offsetBytes = piece.offsetBytes + done;
        const view = this.#ring.view(slot, Math.min(TRANSFER_BYTES, piece.sizeBytes - done));
        const reading = this.#readPastFront(view, offsetBytes);
        const before = order;
        order = this.#track(async () => {
          await Promise.all([reading, before]);
          if (piece.kind === "zeros") {
            if (!isZero(view)) throw this.#differs(offsetBytes, offsetBytes + view.length);
            if (piece.isHashed) digest?.addZeros(view.length);
          } else {
            this.#compare(view, piece.checks, offsetBytes);
            await digest?.add(slot, piece.hashedBytes, true);
          }
          onDone(view.length);
        }, slot);
      }
    }
    await order;
    this.#throwIfFailed();
    return digest && await this.#digestSoFar();
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
    await Promise.all(this.#running);
    await this.#digest?.close();
  }

  /** Starts to write the first `sizeBytes` bytes of the current slot. */
  #send(sizeBytes: number): void {
    const slot = this.#slot;
    this.#slot = undefined;
    if (slot === undefined) return;
    const hashedBytes = this.#filledBytes;
    const offsetBytes = this.#offsetBytes;
    this.#filledBytes = 0;
    this.#offsetBytes += sizeBytes;
    if (sizeBytes === 0) return this.#ring.give(slot);
    const view = this.#ring.view(slot, sizeBytes);
    this.#pieces.push({
      kind: "data",
      offsetBytes,
      sizeBytes,
      hashedBytes,
      checks: checksOf(view),
    });
    const { digests, onDone } = this.#options;
    const adding = digests === "writing" ? this.#digest?.add(slot, hashedBytes, true) : undefined;
    this.#track(async () => {
      await Promise.all([adding, this.#writePastFront(view, offsetBytes)]);
      onDone(sizeBytes);
    }, slot);
  }

  /** Adds a run of zeros, and lets the device zero it. */
  async #zero(sizeBytes: number, isHashed: boolean): Promise<void> {
    if (sizeBytes === 0) return;
    this.#throwIfFailed();
    const { digests, onDone, signal } = this.#options;
    const offsetBytes = this.#offsetBytes;
    this.#pieces.push({ kind: "zeros", offsetBytes, sizeBytes, isHashed });
    if (isHashed && digests === "writing") this.#digest?.addZeros(sizeBytes);
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

  async #digestSoFar(): Promise<Digest | undefined> {
    const sha256 = await this.#digest?.digestSoFar();
    return sha256 === undefined ? undefined : { sha256, isWhole: this.#isWhole };
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

function checksOf(bytes: Uint8Array): number[] {
  const checks: number[] = [];
  for (let at = 0; at < bytes.length; at += CHECK_BYTES) {
    checks.push(crc32(bytes.subarray(at, at + CHECK_BYTES)));
  }
  return checks;
}
