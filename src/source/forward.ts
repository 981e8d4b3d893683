// SPDX-License-Identifier: MIT
/**
 * A byte source over a stream.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";

/** Streams the bytes of a file, in parts that are valid until the next one. */
export type ReadBytes = () => Generator<Uint8Array, void, undefined>;

/**
 * Returns a source over a stream. Reading at a lower offset starts the stream again, so it is fast
 * only where most reads go forward.
 */
export function forwardSource(name: string, sizeBytes: number, read: ReadBytes): ByteSource {
  let parts: ReturnType<ReadBytes> | undefined;
  let part: Uint8Array = new Uint8Array();
  /** Offset of the first byte of the part. */
  let start = 0;
  const next = (): boolean => {
    start += part.length;
    const { value } = parts!.next();
    part = value ?? new Uint8Array();
    return value !== undefined;
  };
  return {
    name,
    sizeBytes,
    read(offset, into) {
      if (parts === undefined || offset < start) {
        parts = read();
        part = new Uint8Array();
        start = 0;
      }
      let done = 0;
      while (done < into.length) {
        const at = offset + done - start;
        if (at >= part.length) {
          if (!next()) break;
          continue;
        }
        const piece = part.subarray(at, at + into.length - done);
        into.set(piece, done);
        done += piece.length;
      }
      return done;
    },
  };
}
