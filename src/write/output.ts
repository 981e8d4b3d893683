// SPDX-License-Identifier: MIT
/**
 * Writes a directory or a file under a temporary name, which becomes its own when it is whole.
 *
 * @module
 */

import { chmodSync, readdirSync, readSync, realpathSync, renameSync, type Stats } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { systemCode, UserError } from "../errors.ts";
import { syncDirectory, writeNewFile } from "../runtime/durable.ts";
import { underUmask } from "../runtime/umask.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { openRegular } from "../read.ts";
import { writeError, writing } from "../refused.ts";
import { checkOutput } from "./output_parts.ts";
import { makeScratch, removeScratch, SCRATCH_PREFIX } from "../runtime/scratch.ts";

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

/**
 * Writes a file under a temporary name, and renames it when it is on the disk. One that is there is
 * replaced only if it is such a file.
 *
 * @param begin The first bytes of every such file, in ASCII.
 * @param what What such a file is, for the error, such as "a report".
 * @throws {UserError} "target" where another file is there, or it cannot be written; nothing is
 * left then.
 */
export function writeOutputFile(
  path: string,
  text: string,
  { begin, what }: { readonly begin: string; readonly what: string },
): void {
  const place = resolve(path);
  const parent = dirname(place);
  const stat = writing(place, () => lstatIfThere(place));
  if (stat !== undefined && !beginsWith(place, stat, begin)) {
    throw new UserError("target", `Cannot write ${place}: it exists, and is not ${what}`, {
      where: place,
      hint: "Move it away, or name another file with --output",
    });
  }
  const work = writing(parent, () => makeScratch(join(parent, SCRATCH_PREFIX)), "--output");
  try {
    const part = join(work, basename(place));
    writing(place, () => {
      writeNewFile(part, text, 0o666);
      renameSync(part, place);
      syncDirectory(parent);
    }, "--output");
  } finally {
    removeScratch(work);
  }
}

/**
 * Writes a new file under a temporary name, and renames it when it is on the disk.
 *
 * @param write Writes and syncs the file at a path, which is not there.
 * @throws {UserError} "target" where there is a file, or it cannot be written; nothing is left then.
 */
export async function withOutputFile<T>(
  path: string,
  write: (path: string) => Promise<T>,
): Promise<T> {
  checkOutput(path);
  const place = resolve(path);
  const parent = dirname(place);
  const work = writing(parent, () => makeScratch(join(parent, SCRATCH_PREFIX)), "--output");
  try {
    const part = join(work, basename(place));
    const result = await write(part).catch((error: unknown) => {
      throw systemCode(error) === undefined ? error : writeError(place, error, "--output");
    });
    writing(place, () => {
      // Checked again, as a rename would replace a file that appeared meanwhile.
      checkOutput(path);
      renameSync(part, place);
      syncDirectory(parent);
    }, "--output");
    return result;
  } finally {
    removeScratch(work);
  }
}

function beginsWith(path: string, stat: Stats, begin: string): boolean {
  if (!stat.isFile() || stat.size < begin.length) return false;
  const opened = openRegular(path, { followsLink: false });
  try {
    const bytes = new Uint8Array(begin.length);
    const read = readSync(opened.file, bytes, 0, bytes.length, 0);
    return read === bytes.length && new TextDecoder("latin1").decode(bytes) === begin;
  } finally {
    opened.close();
  }
}
