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

import { lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { systemCode } from "../errors.ts";
import { isRunning, ownName } from "../runtime/lock.ts";

/**
 * The prefix beside an output. It is short, and has nothing of the name of the output, which may be
 * as long as a name can be.
 */
export const SCRATCH_PREFIX = ".seedstrap.part-";

/**
 * Makes a directory that only the owner can enter, and removes those of the same prefix that dead
 * processes of the same user left.
 *
 * @param prefix The start of its path.
 * @throws The system's error where it cannot be made.
 */
export function makeScratch(prefix: string): string {
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
      rmSync(path, { recursive: true, force: true });
    });
  }
  return mkdtempSync(`${prefix}${ownName()}-`);
}

function quietly<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
