// SPDX-License-Identifier: MIT
/**
 * The umask of the user, which all follows that is no root of a machine.
 *
 * @module
 */

import process from "node:process";

/** Returns a mode without what the umask denies to group and others; the owner keeps all bits. */
export function underUmask(mode: number): number {
  return mode & ~(process.umask() & 0o077);
}

/**
 * Runs a function under the umask that a bootstrap expects, and that its files would show: it makes
 * a system for all users.
 */
export async function withRootUmask<T>(run: () => Promise<T>): Promise<T> {
  const before = process.umask(0o022);
  try {
    return await run();
  } finally {
    process.umask(before);
  }
}
