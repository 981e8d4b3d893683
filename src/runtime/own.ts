// SPDX-License-Identifier: MIT
/**
 * Work directories inside directories that may come from anywhere, such as a target that was
 * copied, or a store that others write to.
 *
 * A link in place of one would lead every write and every removal to another directory. So each is
 * made here, or is looked at before it is used: a real directory.
 *
 * @module
 */

import { lstatSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { systemCode, UserError } from "../errors.ts";
import { lstatIfThere } from "./stat.ts";

/** The directory of a target that is not an output: its lock, unfinished outputs and runs. */
export const WORK_DIR = ".seedstrap";

/** Other processes cause a few failed rounds. */
const MOST_ROUNDS = 1000;

/** How {@link makeOwnDirectory} and {@link hasOwnDirectory} work. */
export interface OwnDirectoryOptions {
  /** Whether no other user may have made it, except root and the owner of its parent. */
  readonly isPrivate?: boolean;
}

/**
 * Makes a work directory where there is none. Its parent must exist.
 *
 * @throws {UserError} "target" for a link, anything else that is no directory, and with `isPrivate`
 * for the directory of another user.
 * @throws The system's error where it cannot be made.
 */
export function makeOwnDirectory(path: string, options: OwnDirectoryOptions = {}): void {
  for (let round = 1;; round++) {
    try {
      mkdirSync(path, { mode: options.isPrivate ? 0o700 : 0o777 });
    } catch (error) {
      if (systemCode(error) !== "EEXIST" || round === MOST_ROUNDS) throw error;
    }
    // Another process may have removed it since.
    if (hasOwnDirectory(path, options)) return;
  }
}

/**
 * Reports whether there is a work directory.
 *
 * @throws as {@link makeOwnDirectory}
 */
export function hasOwnDirectory(
  path: string,
  { isPrivate = false }: OwnDirectoryOptions = {},
): boolean {
  const stat = lstatIfThere(path);
  if (stat === undefined) return false;
  if (!stat.isDirectory()) {
    throw notOwn(path, stat.isSymbolicLink() ? "it is a symbolic link" : "it is no directory");
  }
  const isOurs = () => [process.geteuid?.(), 0, lstatSync(dirname(path)).uid].includes(stat.uid);
  if (isPrivate && !isOurs()) throw notOwn(path, "it belongs to another user");
  return true;
}

function notOwn(path: string, why: string): UserError {
  return new UserError("target", `Cannot use ${path} as a work directory: ${why}`, {
    where: path,
    hint: "seedstrap did not make it: move it away",
  });
}
