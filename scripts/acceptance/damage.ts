// SPDX-License-Identifier: MIT
/**
 * Damages the last checkpoint of a target.
 *
 * @module
 */

import { closeSync, fstatSync, openSync, readSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { listCheckpoints } from "../../src/record/checkpoints.ts";

/** Flips the lowest bit of a byte in the middle of its memory, and returns its number. */
export function flip(target: string): number {
  const { number, path } = memoryOf(target);
  const file = openSync(path, "r+");
  const at = Math.floor(fstatSync(file).size / 2);
  const byte = new Uint8Array(1);
  readSync(file, byte, 0, 1, at);
  byte[0]! ^= 1;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
  return number;
}

/** Cuts its memory in half, and returns its number. */
export function cut(target: string): number {
  const { number, path, sizeBytes } = memoryOf(target);
  truncateSync(path, Math.floor(sizeBytes / 2));
  return number;
}

function memoryOf(target: string): { number: number; path: string; sizeBytes: number } {
  const read = listCheckpoints(target).flatMap(({ read }) => typeof read === "string" ? [] : read)
    .sort((a, b) => a.number - b.number).at(-1);
  if (read === undefined) throw new Error(`${target} has no checkpoint`);
  const { number, memory } = read;
  const path = join(target, ".seedstrap/checkpoints", memory.name);
  return { number, path, sizeBytes: memory.sizeBytes };
}
