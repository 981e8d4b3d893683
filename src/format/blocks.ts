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
  const hash = createHash("sha256");
  const buffer = new Uint8Array(MIB);
  const number = new DataView(new ArrayBuffer(8));
  const u64 = (value: number) => {
    number.setBigUint64(0, BigInt(value), true);
    return new Uint8Array(number.buffer);
  };
  for (const { offset, size } of ranges) {
    for (let done = 0; done < size; done += buffer.length) {
      const data = source.nextData?.(offset + done) ?? offset + done;
      // A hole may end within a block.
      done = Math.max(done, data - data % BLOCK_BYTES - offset);
      if (done >= size) break;
      const rest = Math.min(size, source.sizeBytes - offset) - done;
      const part = buffer.subarray(0, Math.max(0, Math.min(buffer.length, rest)));
      const read = source.read(offset + done, part);
      const from = isZero(part.subarray(0, read)) ? read : 0;
      for (let at = from; at < read; at += BLOCK_BYTES) {
        const block = buffer.subarray(at, Math.min(at + BLOCK_BYTES, read));
        if (isZero(block)) continue;
        hash.update(u64(offset + done + at));
        hash.update(block);
      }
      await onBytes(read);
    }
  }
  return hash.update(u64(source.sizeBytes)).digest("hex");
}
