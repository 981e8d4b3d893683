// SPDX-License-Identifier: MIT
/**
 * Files that are put again into a directory that a bootstrap has worked in.
 *
 * @module
 */

import { renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { throwIfInterrupted, UserError } from "../errors.ts";
import type { FileSegment } from "../format/segment.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { digestPlaced, putFile } from "./copy.ts";
import { makeDirectory } from "./directory.ts";
import { writing } from "../refused.ts";

/** A file that has to lie in a directory. */
export interface WantedFile {
  readonly name: string;
  /** Where it is on this machine, with the SHA-256 that it has to have. */
  readonly body: FileSegment;
}

/**
 * Puts files into a directory that something else has worked in: those that are there and right
 * stay, others are replaced, each when it is whole.
 *
 * @param root The root, absolute.
 * @param below Directories down from it; missing ones are made, and none may be a link.
 * @throws {UserError} as `writeDirectory()`
 */
export async function putAgain(
  root: string,
  below: readonly string[],
  files: readonly WantedFile[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let dir = root;
  for (const name of below) {
    dir = join(dir, name);
    const stat = lstatIfThere(dir);
    if (stat?.isDirectory()) continue;
    if (stat !== undefined) {
      throw new UserError("target", `Cannot put files into ${dir}: it is no directory`, {
        where: dir,
        hint: "Begin again in another --target",
      });
    }
    writing(dir, () => makeDirectory(dir));
  }
  for (const { name, body } of files) {
    const place = join(dir, name);
    const stat = writing(place, () => lstatIfThere(place));
    const isRight = stat?.isFile() && stat.size === body.size &&
      await digestPlaced(place, body, signal) === body.sha256;
    if (!isRight) {
      const part = join(dir, `.${name}.part`);
      // One that a run has left that was killed, or whatever else has that name.
      writing(part, () => rmSync(part, { force: true }));
      try {
        await putFile(part, body, 0o644, signal);
        writing(place, () => renameSync(part, place));
      } finally {
        rmSync(part, { force: true });
      }
    }
    await setImmediate();
    throwIfInterrupted(signal);
  }
}
