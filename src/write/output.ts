// SPDX-License-Identifier: MIT
/**
 * A directory that appears only when it is whole.
 *
 * @module
 */

import { chmodSync, readdirSync, realpathSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { statIfThere } from "../runtime/stat.ts";
import { writing } from "../refused.ts";
import { makeScratch } from "./scratch.ts";
import { syncDirectory } from "./target.ts";

/**
 * Writes a directory under a temporary name beside it, and renames it.
 *
 * @param dir The directory: one that is not there, or an empty one.
 * @param write Fills the directory whose path it gets; nobody else can look into it.
 * @returns What `write` returned.
 * @throws {UserError} "target" where `dir` holds something already, or cannot be made.
 * @throws Whatever `write` threw; nothing is left then.
 */
export async function writeOutputDirectory<T>(
  dir: string,
  write: (part: string) => Promise<T>,
): Promise<T> {
  const place = checkPlace(dir);
  const parent = dirname(place);
  const part = writing(parent, () => makeScratch(join(parent, `.${basename(place)}.part-`)));
  try {
    const result = await write(part);
    writing(parent, () => {
      chmodSync(part, 0o755);
      syncDirectory(part);
      renameSync(part, place);
      syncDirectory(parent);
    });
    return result;
  } catch (error) {
    rmSync(part, { recursive: true, force: true });
    throw error;
  }
}

function checkPlace(dir: string): string {
  const stat = writing(dir, () => statIfThere(dir));
  if (stat === undefined) return resolve(dir);
  if (!stat.isDirectory() || writing(dir, () => readdirSync(dir)).length > 0) {
    throw new UserError(
      "target",
      `Cannot write to ${dir}: it ${stat.isDirectory() ? "is not empty" : "is no directory"}`,
      { where: dir, hint: "Name a directory that is not there, or an empty one" },
    );
  }
  // An empty directory is replaced, a link to one stays.
  return realpathSync(dir);
}
