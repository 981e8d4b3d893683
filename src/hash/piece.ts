// SPDX-License-Identifier: MIT
/**
 * Writes files piece by piece.
 *
 * @module
 */

import { fchmodSync, fsyncSync, writeSync } from "node:fs";

/**
 * Size of a piece: it is still in the cache of a core when it is hashed after a read, or written
 * after it is hashed. And ext4 takes twice as long for writes of 1 MiB (measured on Linux 6.18).
 */
export const PIECE_BYTES = 256 * 1024;

/** Writes all bytes at an offset of a file, or at its current position. */
export function writeAll(file: number, bytes: Uint8Array, offsetBytes: number | null = null): void {
  for (let done = 0; done < bytes.length;) {
    const at = offsetBytes === null ? null : offsetBytes + done;
    done += writeSync(file, bytes, done, bytes.length - done, at);
  }
}

/** What a new file gets after its last byte. */
export interface Settled {
  /** The lowest 12 bits of its mode, under any umask. */
  readonly mode: number;
  /** Whether it is synced. */
  readonly isSynced?: boolean;
}

/** Does what comes after the last byte of a file: writing clears set-user-id bits. */
export function settle(file: number, { mode, isSynced }: Settled): void {
  fchmodSync(file, mode);
  if (isSynced) fsyncSync(file);
}
