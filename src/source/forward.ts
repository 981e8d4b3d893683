// SPDX-License-Identifier: MIT
/**
 * What can only be read from its beginning on, as a source of bytes.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";

/** Bytes of a file from its beginning to its end, in parts that are valid until the next one. */
export type ReadBytes = () => Generator<Uint8Array, void, undefined>;

/**
 * Random access to what can only be read from its beginning on: going back begins again, so that it
 * is fast where it is mostly read forward.
 */
export function forwardSource(name: string, size: number, read: ReadBytes): ByteSource {
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
    size,
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
