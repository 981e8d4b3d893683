// SPDX-License-Identifier: MIT
/**
 * Opens the file that a segment is read from, if it is still the one that was planned with.
 *
 * @module
 */

import { type ErrorKind, UserError } from "../errors.ts";
import type { BundledFile, FileRun, FileSegment } from "../format/segment.ts";
import { type OpenedFile, openRegular } from "../read.ts";

/**
 * Opens the file that a run of a segment is in: a regular one, with the size, and if it is known
 * the identity that it had when the segment was made.
 *
 * @param kind "target" for a file that was written, which is no link then.
 * @throws {UserError} of the kind for what is no regular file, cannot be opened, or is another file
 */
export function openRun(
  segment: FileSegment,
  run: FileRun,
  kind: "tree" | "target" = "tree",
): OpenedFile {
  const opened = openRegular(run.path, { kind, followsLink: kind === "tree" });
  try {
    const { identity } = segment;
    const { dev, ino, size } = opened.stat;
    if (identity !== undefined && (identity.dev !== dev || identity.ino !== ino)) {
      throw new UserError(
        kind,
        `Cannot use ${fileName(segment)}: another file is in its place now`,
        { where: segment.path, hint: unchangedHint(kind) },
      );
    }
    checkLength(segment, run, size, kind);
    return opened;
  } catch (error) {
    opened.close();
    throw error;
  }
}

/**
 * Checks that a file still has the size that it had when its segment was made.
 *
 * @param sizeBytes Size of the file that the run is in.
 * @throws {UserError} of the kind
 */
export function checkLength(
  segment: FileSegment,
  run: FileRun,
  sizeBytes: number,
  kind: ErrorKind = "tree",
): void {
  const isWhole = run.offsetBytes === 0 && segment.isPart !== true && segment.bundled === undefined;
  if (sizeBytes < run.offsetBytes + run.sizeBytes || (isWhole && sizeBytes !== run.sizeBytes)) {
    throw changedFile(segment, `it has ${sizeBytes} bytes`, kind);
  }
}

/** Returns the name of the file of a segment, for messages; of a bundle the parts that it is in. */
export function fileName({ path, bundled }: FileSegment): string {
  if (bundled === undefined) return path;
  return `${partsOf(path, bundled)} (${JSON.stringify(bundled.name)})`;
}

/**
 * Returns the parts of a bundle that a file is in, for messages.
 *
 * @param path Of the bundle.
 */
export function partsOf(path: string, { runs }: BundledFile): string {
  const parts = new Set(runs.map((run) => run.path));
  return parts.size === 0 ? path : [...parts].join(" and ");
}

function unchangedHint(kind: ErrorKind): string {
  return kind === "target"
    ? "Does a bootstrap run there? Wait for its end"
    : "Do not change files while a build or a write reads them";
}

/** The error for a file that is not as it was when it was planned with. */
export function changedFile(
  segment: FileSegment,
  what: string,
  kind: ErrorKind = "tree",
): UserError {
  return new UserError(
    kind,
    `Cannot use ${fileName(segment)}: it had ${segment.sizeBytes} bytes at the start, now ${what}`,
    { where: segment.path, hint: unchangedHint(kind) },
  );
}
