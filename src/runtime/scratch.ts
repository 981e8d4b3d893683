// SPDX-License-Identifier: MIT
/**
 * Temporary directories, each named after the process that made it:
 *
 *   PREFIX PID-START "-" XXXXXX
 *
 * A killed process leaves its directory; the next process with the same prefix removes it.
 *
 * @module
 */

import { chmodSync, lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { systemCode } from "../errors.ts";
import { isRunning, ownName } from "./lock.ts";

/**
 * The prefix beside an output. It is short, and has nothing of the name of the output, which may be
 * as long as a name can be.
 */
export const SCRATCH_PREFIX = ".seedstrap.part-";

/**
 * Makes a directory that only the owner can enter, after {@link clearScratch}.
 *
 * @param prefix The start of its path.
 * @throws The system's error where it cannot be made.
 */
export function makeScratch(prefix: string): string {
  clearScratch(prefix);
  return mkdtempSync(`${prefix}${ownName()}-`);
}

/**
 * Removes the directories of a prefix that dead processes of the same user left.
 *
 * @param onLeft Called with the path of each before it is removed.
 */
export function clearScratch(prefix: string, onLeft: (dir: string) => void = () => {}): void {
  const dir = dirname(prefix);
  const start = basename(prefix);
  // Errors are ignored here: the clean-up is not what the user asked for.
  for (const name of quietly(() => readdirSync(dir)) ?? []) {
    if (!name.startsWith(start)) continue;
    const maker = /^(.*)-\w{6}$/s.exec(name.slice(start.length))?.[1];
    if (maker === undefined || isRunning(maker) !== false) continue;
    const path = join(dir, name);
    quietly(() => {
      const stat = lstatSync(path);
      if (!stat.isDirectory() || stat.uid !== process.getuid?.()) return;
      onLeft(path);
      removeScratch(path);
    });
  }
}

/**
 * Removes a directory that this user has filled, also where the modes of directories in it forbid
 * that.
 *
 * @throws The system's error where it cannot be removed.
 */
export function removeScratch(dir: string): void {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    if (!["EACCES", "EPERM"].includes(systemCode(error) ?? "")) throw error;
    unlock(dir);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Lets the owner change a directory and those in it. */
function unlock(dir: string): void {
  chmodSync(dir, 0o700);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) unlock(join(dir, entry.name));
  }
}

function quietly<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
