// SPDX-License-Identifier: MIT
/**
 * A gap between the runtimes: with `throwIfNoEntry: false`, Bun still throws where a parent of the
 * path is a file.
 *
 * @module
 */

import { lstatSync, type Stats, statSync } from "node:fs";
import { systemCode } from "../errors.ts";

/** What a path leads to, or undefined where there is nothing. */
export function statIfThere(path: string): Stats | undefined {
  return ifThere(() => statSync(path));
}

/** Likewise without following a link at its end. */
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
