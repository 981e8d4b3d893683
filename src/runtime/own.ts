// SPDX-License-Identifier: MIT
/**
 * Directories of our own in places that may come from a stranger.
 *
 * @module
 */

import { mkdirSync } from "node:fs";
import { systemCode, UserError } from "../errors.ts";
import { lstatIfThere } from "./stat.ts";

/**
 * Makes a directory where there is none. A link is refused, whatever it leads to: what we write to
 * and remove from such a directory must not be elsewhere.
 *
 * @param mode Of a new directory.
 * @throws {UserError} "target" for a link, and for what is not a directory.
 */
export function makeOwnDirectory(path: string, mode = 0o700): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
  }
  if (lstatIfThere(path)?.isDirectory() === true) return;
  throw new UserError("target", `Cannot use ${path}: it is not a directory of seedstrap's own`, {
    where: path,
    hint: "Move it away, or name another --target",
  });
}
