// SPDX-License-Identifier: MIT
/**
 * A byte source that tells how much of it was read.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import type { Progress } from "../progress.ts";

/** Returns the same source; what is read, and every hole that is passed over, counts as done. */
export function watched<Source extends ByteSource>(source: Source, progress: Progress): Source {
  const { nextData } = source;
  return {
    ...source,
    read(offset: number, into: Uint8Array) {
      const read = source.read(offset, into);
      progress.add(read);
      return read;
    },
    ...(nextData && {
      nextData(offset: number) {
        const next = nextData(offset);
        progress.add(next - offset);
        return next;
      },
    }),
  };
}
