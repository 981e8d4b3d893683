// SPDX-License-Identifier: MIT
/**
 * The digest of a disk that is mostly zeros: SHA-256 over the offset and content of each block that
 * is not zero.
 *
 *   digest = SHA-256( ( offset byte{4096} )* size )   offset, size: u64 little-endian, in bytes
 *
 * A block has 4,096 bytes; the last one of a disk may be shorter. The digest is the same whether a
 * disk is written with holes or with zeros, and it only takes time for the data, not for the 16 GiB
 * around it.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { isZero } from "../bytes.ts";
import type { ByteSource } from "./reader.ts";
import { MIB } from "./segment.ts";

/** Length of a block. */
export const BLOCK_BYTES = 4096;

/** A run of bytes. */
export interface ByteRange {
  readonly offset: number;
  readonly size: number;
}

/**
 * Computes the digest of a disk.
 *
 * Holes of the source are not read.
 *
 * @param ranges Ranges that may have bytes other than zero, in order, at multiples of a block; by
 * default the whole disk.
 * @param onBytes Called with the number of bytes read since the last call.
 * @returns Lower-case hex.
 */
export async function blocksDigest(
  source: ByteSource,
  ranges: readonly ByteRange[] = [{ offset: 0, size: source.sizeBytes }],
  onBytes: (bytes: number) => Promise<void> | void = () => {},
): Promise<string> {
  const digest = new BlocksDigest();
  const buffer = new Uint8Array(MIB);
  for (const { offset, size } of ranges) {
    for (let done = 0; done < size; done += buffer.length) {
      const data = source.nextData?.(offset + done) ?? offset + done;
      // A hole may end within a block.
      done = Math.max(done, data - data % BLOCK_BYTES - offset);
      if (done >= size) break;
      const rest = Math.min(size, source.sizeBytes - offset) - done;
      const part = buffer.subarray(0, Math.max(0, Math.min(buffer.length, rest)));
      const read = source.read(offset + done, part);
      digest.skip(offset + done - digest.sizeBytes);
      digest.add(part.subarray(0, read));
      await onBytes(read);
    }
  }
  digest.skip(source.sizeBytes - digest.sizeBytes);
  return digest.end();
}

/** Computes the digest of a disk whose bytes come from its first to its last, cut anywhere. */
export class BlocksDigest {
  readonly #hash = createHash("sha256");
  /** The beginning of a block that is not over. */
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #sizeBytes = 0;

  /** Number of bytes so far. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Adds bytes. */
  add(bytes: Uint8Array): void {
    let at = 0;
    const filled = this.#sizeBytes % BLOCK_BYTES;
    if (filled > 0) {
      at = Math.min(bytes.length, BLOCK_BYTES - filled);
      this.#block.set(bytes.subarray(0, at), filled);
      this.#sizeBytes += at;
      if (filled + at < BLOCK_BYTES) return;
      this.#take(this.#sizeBytes - BLOCK_BYTES, this.#block);
    }
    const rest = (bytes.length - at) % BLOCK_BYTES;
    const end = bytes.length - rest;
    if (!isZero(bytes.subarray(at, end))) {
      for (let from = at; from < end; from += BLOCK_BYTES) {
        this.#take(this.#sizeBytes + from - at, bytes.subarray(from, from + BLOCK_BYTES));
      }
    }
    this.#block.set(bytes.subarray(end));
    this.#sizeBytes += bytes.length - at;
  }

  /** Adds zeros; it takes no time, however many there are. */
  skip(sizeBytes: number): void {
    const lead = Math.min(sizeBytes, (BLOCK_BYTES - this.#sizeBytes % BLOCK_BYTES) % BLOCK_BYTES);
    this.add(new Uint8Array(lead));
    const rest = (sizeBytes - lead) % BLOCK_BYTES;
    this.#sizeBytes += sizeBytes - lead - rest;
    this.add(new Uint8Array(rest));
  }

  /** Returns the digest of the disk, which ends here, in lower-case hex. */
  end(): string {
    const filled = this.#sizeBytes % BLOCK_BYTES;
    this.#take(this.#sizeBytes - filled, this.#block.subarray(0, filled));
    return this.#hash.update(u64(this.#sizeBytes)).digest("hex");
  }

  #take(offset: number, block: Uint8Array): void {
    if (!isZero(block)) this.#hash.update(u64(offset)).update(block);
  }
}

function u64(value: number): Uint8Array {
  const number = new DataView(new ArrayBuffer(8));
  number.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(number.buffer);
}
