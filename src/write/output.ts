// SPDX-License-Identifier: MIT
/**
 * Writes a directory atomically.
 *
 * @module
 */

import { chmodSync, readdirSync, realpathSync, renameSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { underUmask } from "../runtime/umask.ts";
import { statIfThere } from "../runtime/stat.ts";
import { writing } from "../refused.ts";
import { makeScratch, removeScratch, SCRATCH_PREFIX } from "../runtime/scratch.ts";
import { syncDirectory } from "./target.ts";

/**
 * Writes a directory under a temporary name, and renames it when it is complete.
 *
 * @param dir The directory, which must be missing or empty.
 * @param write Fills the directory whose path it gets, which only the owner can enter.
 * @returns The result of `write`.
 * @throws {UserError} "target" where `dir` is not empty, or cannot be made.
 * @throws Every exception of `write`; nothing is left then.
 */
export async function writeOutputDirectory<T>(
  dir: string,
  write: (part: string) => Promise<T>,
): Promise<T> {
  const place = checkPlace(dir);
  const parent = dirname(place);
  const part = writing(parent, () => makeScratch(join(parent, SCRATCH_PREFIX)));
  try {
    const result = await write(part);
    writing(parent, () => {
      chmodSync(part, underUmask(0o777));
      syncDirectory(part);
      renameSync(part, place);
      syncDirectory(parent);
    });
    return result;
  } catch (error) {
    removeScratch(part);
    throw error;
  }
}

function checkPlace(dir: string): string {
  const stat = writing(dir, () => statIfThere(dir));
  if (stat === undefined) return resolve(dir);
  if (!stat.isDirectory() || writing(dir, () => readdirSync(dir)).length > 0) {
    throw new UserError(
      "target",
      `Cannot write to ${dir}: it ${stat.isDirectory() ? "is not empty" : "is not a directory"}`,
      { where: dir, hint: "Name a new or an empty directory" },
    );
  }
  // A link to an empty directory stays, the directory is replaced.
  return realpathSync(dir);
}
