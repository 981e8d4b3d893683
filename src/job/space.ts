// SPDX-License-Identifier: MIT
/**
 * How much space a disk has, and whether that is enough for a checkpoint.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import { UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";

/** So much is left to the guest, and to whatever else writes to that disk. */
const RESERVE_BYTES = 64 * MIB;
/** A guest whose disk was full goes on when there is as much. */
export const ENOUGH_BYTES = 64 * MIB;

/**
 * Checks that a directory can take so much more.
 *
 * @throws {UserError} "target" where it cannot.
 */
export async function checkFree(place: string, sizeBytes: number): Promise<void> {
  const free = await freeBytes(place);
  const needed = sizeBytes + RESERVE_BYTES;
  if (free >= needed) return;
  throw new UserError(
    "target",
    `${mebibytes(free)} are free in ${place}, and it takes ${mebibytes(needed)}`,
  );
}

export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

export function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / MIB)} MiB`;
}
