// SPDX-License-Identifier: MIT
/**
 * stat for paths that may not exist. `throwIfNoEntry: false` is not enough: Bun still throws if a
 * parent of the path is a file.
 *
 * @module
 */

import { lstatSync, type Stats, statSync } from "node:fs";
import { systemCode } from "../errors.ts";

/** Returns the status of a path, following symbolic links, or undefined if nothing is there. */
export function statIfThere(path: string): Stats | undefined {
  return ifThere(() => statSync(path));
}

/** Returns the status of a path, not following a symbolic link at its end. */
export function lstatIfThere(path: string): Stats | undefined {
  return ifThere(() => lstatSync(path));
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
