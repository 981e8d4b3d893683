// SPDX-License-Identifier: MIT
/**
 * The mount points of this process, as Linux reports them.
 *
 * @module
 */

import { readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../errors.ts";

/**
 * Returns the mount points at a directory or below it, in the order in which they were mounted:
 * unmount the last one first.
 *
 * @param dir Absolute; it may contain symbolic links, and need not exist.
 * @returns Absolute paths; none where the system does not report them.
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
 * Parses the mount points of a mountinfo table.
 *
 * @param text Lines of proc_pid_mountinfo(5). The fifth word is the mount point, in which spaces,
 * tabs, newlines and backslashes are written as a backslash and three octal digits.
 */
export function parseMountPoints(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const place = line.split(" ")[4];
    if (place === undefined) return [];
    return [unescapeName(place)];
  });
}

/** Decodes a name from a table in /proc: a backslash and three octal digits are one character. */
export function unescapeName(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
