// SPDX-License-Identifier: MIT
/**
 * Where an image goes on a device: the first MiB is cleared before anything else and filled when
 * everything else is there, durable and read back, so that nothing half-written can boot.
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

/** More leave the cache of the processor, and take longer (measured: 3 are faster than 8). */
const SLOTS = 3;
/** What is cleared first and written last. */
const FRONT_BYTES = MIB;
/** Shorter runs of zeros are written, longer ones are left to the device. */
const HOLE_BYTES = MIB;
/** Each so many bytes have a checksum of their own, so that a fault can be placed. */
const CHECK_BYTES = 256 * 1024;

export interface DeviceSinkOptions {
  /** Size of the image. */
  readonly sizeBytes: number;
  /**
   * When SHA-256 is computed: it is what takes longest, so only once. What is read back is compared
   * by CRC-32 anyway.
   */
  readonly digests: "writing" | "reading back" | "never";
  /** Whether zeros between data are part of the digest: slow where they are many. */
  readonly hashesHoles: boolean;
  /** Told the bytes of each piece that is on the device, or was read back. */
  readonly onDone: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** SHA-256 of an image. */
export interface Digest {
  /** Lower-case hex. */
  readonly sha256: string;
  /** Whether every byte up to the last of the data counts; otherwise holes were left out. */
  readonly isWhole: boolean;
}

/** A run of the image as it was written; data of at most a slot. */
type Piece =
  | {
    readonly kind: "data";
    readonly offsetBytes: number;
    readonly sizeBytes: number;
    /** Less than its length where the image ends in it. */
    readonly hashedBytes: number;
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
  /** Of the first byte in the current slot. */
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
   * Begins: clears the first MiB.
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

  /** Makes the first MiB zeros, durably. */
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
   * Writes what is left, and zeros up to the size of the image; makes all but the first MiB durable.
   *
   * @returns The digest, where it is computed while writing.
   * @throws {UserError} "target"
   */
  async finish(): Promise<Digest | undefined> {
    const { sizeBytes } = this.#options;
    // Whole units are written; what is behind the data in the last one is zeros of the image.
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
   * Reads everything but the first MiB back and compares it with what was written.
   *
   * @returns The digest, where it is computed while reading back.
   * @throws {UserError} "verify" with the place of the fault, "target" for what cannot be read.
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
        const reading = this.#readBehindFront(view, offsetBytes);
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

  /** Writes the first MiB, durably, and reads it back where that is wanted. */
  async seal(isVerified: boolean): Promise<void> {
    await this.#out.write(this.#front, 0);
    await this.#out.sync();
    if (!isVerified) return;
    const back = alignedBytes(this.#out.libc, this.#front.length);
    await this.#out.read(back, 0);
    if (back.some((byte, at) => byte !== this.#front[at])) {
      throw this.#differs(0, back.length);
    }
  }

  /** Waits for what is on its way and ends the thread, whatever happened. */
  async close(): Promise<void> {
    await Promise.all(this.#running);
    await this.#digest?.close();
  }

  /** Sends the current slot on its way, `sizeBytes` bytes of it. */
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
      await Promise.all([adding, this.#writeBehindFront(view, offsetBytes)]);
      onDone(sizeBytes);
    }, slot);
  }

  /** Leaves a run of zeros to the device. */
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

  async #writeBehindFront(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    const inFront = this.#inFront(bytes, offsetBytes);
    this.#front.set(bytes.subarray(0, inFront), Math.min(offsetBytes, this.#front.length));
    await this.#out.write(bytes.subarray(inFront), offsetBytes + inFront);
  }

  /** Likewise; the first MiB is not there yet. */
  async #readBehindFront(into: Uint8Array, offsetBytes: number): Promise<void> {
    const inFront = this.#inFront(into, offsetBytes);
    into.set(this.#front.subarray(offsetBytes, offsetBytes + inFront));
    await this.#out.read(into.subarray(inFront), offsetBytes + inFront);
  }

  #inFront(bytes: Uint8Array, offsetBytes: number): number {
    return Math.max(0, Math.min(bytes.length, this.#front.length - offsetBytes));
  }

  /** Runs something whose failure is for the next one who waits; gives a slot back behind it. */
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
        hint: "The device corrupts data, silently: use another one, or another port or cable",
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
