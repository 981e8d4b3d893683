// SPDX-License-Identifier: MIT
/**
 * Small files and renames that survive a power cut.
 *
 * @module
 */

import { closeSync, fsyncSync, openSync, writeFileSync } from "node:fs";

/** Writes a new file, which must not exist, and syncs it. */
export function writeNewFile(path: string, text: string, mode: number): void {
  const file = openSync(path, "wx", mode);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Syncs a directory, so that renames in it are durable. */
export function syncDirectory(dir: string): void {
  const file = openSync(dir, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
