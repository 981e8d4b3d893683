// SPDX-License-Identifier: MIT
/**
 * stat for paths that may not exist. `throwIfNoEntry: false` is not enough: Bun still throws if a
 * parent of the path is a file.
 *
 * @module
 */

import { lstatSync, type Stats, statSync } from "node:fs";
import { systemCode } from "../errors.ts";
import { reading, type RefusalOptions } from "../refused.ts";

/**
 * Returns the status of a path, following symbolic links, or undefined if nothing is there.
 *
 * @throws {UserError} of the kind, where that cannot be found out: a directory may not be entered,
 * the name is too long, links lead in a circle.
 */
export function statIfThere(path: string, options?: RefusalOptions): Stats | undefined {
  return reading(path, () => ifThere(() => statSync(path)), options);
}

/**
 * Returns the status of a path, not following a symbolic link at its end.
 *
 * @throws {UserError} as {@link statIfThere}
 */
export function lstatIfThere(path: string, options?: RefusalOptions): Stats | undefined {
  return reading(path, () => ifThere(() => lstatSync(path)), options);
}

function ifThere(stat: () => Stats): Stats | undefined {
  try {
    return stat();
  } catch (error) {
    const code = systemCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
