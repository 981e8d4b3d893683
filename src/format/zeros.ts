// SPDX-License-Identifier: MIT
/**
 * Runs of zeros.
 *
 * @module
 */

import { Buffer } from "node:buffer";

const ZEROS = Buffer.alloc(64 * 1024);

/** Whether bytes are all zero. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length);
    if (ZEROS.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}
