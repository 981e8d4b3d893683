// SPDX-License-Identifier: MIT
/**
 * What is mounted where, as Linux tells.
 *
 * @module
 */

import { readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../errors.ts";

/**
 * Where something is mounted at a directory or below it, in the order in which it was mounted:
 * the last one is to be unmounted first.
 *
 * @param dir Absolute; it may lie behind symbolic links, and need not exist.
 * @returns Absolute paths; none where the system does not tell.
 */
export function mountsBelow(dir: string): string[] {
  try {
    const real = realpathSync(dir);
    return parseMountPoints(readFileSync("/proc/self/mountinfo", "utf8"))
      .filter((place) => place === real || place.startsWith(join(real, "/")));
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return [];
  }
}

/**
 * The mount points of a mountinfo table.
 *
 * @param text Lines of proc_pid_mountinfo(5): the fifth word is the mount point, in which a space
 * and the like stand as a backslash and three octal digits.
 */
export function parseMountPoints(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const place = line.split(" ")[4];
    if (place === undefined) return [];
    return [unescapeName(place)];
  });
}

/** A name from such a table: a space and the like stand there as a backslash and octal digits. */
export function unescapeName(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
