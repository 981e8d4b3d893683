// SPDX-License-Identifier: MIT
/**
 * Restores files in a root in which a bootstrap has run.
 *
 * @module
 */

import { readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { type FileSegment, fileSegment } from "../format/segment.ts";
import { digestEach } from "../hash/pool.ts";
import { removeFile } from "../runtime/remove.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { makeDirectory } from "./directory.ts";
import { DigestMismatch } from "./writer.ts";
import { writing } from "../refused.ts";

/**
 * A number follows. Short, as the name of a file may be as long as one can be; no distfile begins
 * with it.
 */
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
  const places = files.map(({ name, body }) => ({ place: join(dir, name), body }));
  const wrong: Placement[] = [];
  const placed = function* () {
    for (const { place, body: { sizeBytes } } of places) {
      const stat = writing(place, () => lstatIfThere(place));
      const isThere = stat?.isFile() && stat.size === sizeBytes;
      const segment = fileSegment({ path: place, sizeBytes });
      yield isThere ? { segment, kind: "target" } as const : undefined;
    }
  };
  let seen = 0;
  for await (const sha256 of digestEach(placed(), { signal })) {
    const file = places[seen++]!;
    if (sha256 !== file.body.sha256) wrong.push(file);
  }
  const parts = wrong.map((_, index) => join(dir, `${PART}${index}`));
  // Left by a killed process, or another file of that name.
  for (const name of writing(dir, () => readdirSync(dir))) {
    const place = join(dir, name);
    if (name.startsWith(PART)) writing(place, () => removeFile(place));
  }
  const copies = function* () {
    for (const [index, { body }] of wrong.entries()) {
      const to = { kind: "file", path: parts[index]!, mode: 0o644 } as const;
      yield { segment: body, kind: "tree", to } as const;
    }
  };
  try {
    let done = 0;
    for await (const sha256 of digestEach(copies(), { signal })) {
      const { place, body } = wrong[done]!;
      if (sha256 !== body.sha256) throw DigestMismatch.of(body, sha256!);
      const part = parts[done++]!;
      writing(place, () => renameSync(part, place));
    }
  } finally {
    for (const part of parts) removeFile(part);
  }
}

/** A file, and where it must be. */
interface Placement {
  readonly place: string;
  readonly body: FileSegment;
}
