// SPDX-License-Identifier: MIT
/**
 * Keeps the memory of dead buffers low.
 *
 * Bun gives each piece of a body a buffer of up to 512 KiB, and its collector looks at them too
 * seldom: with a fetch of any size they add up to a hundred megabytes.
 *
 * @module
 */

/** A collection takes some milliseconds, in which as much comes from the fastest server. */
const EVERY_BYTES = 48 * 1024 * 1024;

let sinceBytes = 0;

/** Notes that so many bytes were in buffers that are no longer used. */
export function noteDeadBytes(bytes: number): void {
  sinceBytes += bytes;
  if (sinceBytes < EVERY_BYTES) return;
  sinceBytes = 0;
  if ("Bun" in globalThis) Bun.gc(true);
}
