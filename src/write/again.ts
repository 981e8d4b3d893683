// SPDX-License-Identifier: MIT
/**
 * Restores files in a root in which a bootstrap has run.
 *
 * @module
 */

import { renameSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { throwIfInterrupted, UserError } from "../errors.ts";
import type { FileSegment } from "../format/segment.ts";
import { removeFile } from "../runtime/remove.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { digestPlaced, putFile } from "./copy.ts";
import { makeDirectory } from "./directory.ts";
import { writing } from "../refused.ts";

/** Short, as the name of a file may be as long as one can be; no distfile has it. */
const PART = ".seedstrap.part";

/** A file that a directory must have. */
export interface WantedFile {
  readonly name: string;
  /** The file on this machine, with the SHA-256 that it must have. */
  readonly body: FileSegment;
}

/**
 * Puts files into a directory that others may have written to. Files with the right content stay;
 * each other file is replaced atomically.
 *
 * @param root Absolute path of the root.
 * @param below Names of the nested directories from the root down to that of the files. Missing
 * ones are made, and none may be a link.
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
      throw new UserError("target", `Cannot put files into ${dir}: it is not a directory`, {
        where: dir,
        hint: "Start over in another --target",
      });
    }
    writing(dir, () => makeDirectory(dir));
  }
  for (const { name, body } of files) {
    const place = join(dir, name);
    const stat = writing(place, () => lstatIfThere(place));
    const isRight = stat?.isFile() && stat.size === body.sizeBytes &&
      await digestPlaced(place, body, signal) === body.sha256;
    if (!isRight) {
      const part = join(dir, PART);
      // Left by a killed process, or another file of that name.
      writing(part, () => removeFile(part));
      try {
        await putFile(part, body, 0o644, signal);
        writing(place, () => renameSync(part, place));
      } finally {
        removeFile(part);
      }
    }
    await setImmediate();
    throwIfInterrupted(signal);
  }
}
