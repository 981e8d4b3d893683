// SPDX-License-Identifier: MIT
/**
 * A unified diff of two small texts.
 *
 * @module
 */

import { structuredPatch } from "diff";

/** Texts of more lines, or with more changes, take too much memory or time. */
const MAX_LINES = 20_000;
const MAX_EDITS = 1000;
/** Lines shown around a change. */
const CONTEXT = 3;

/**
 * The hunks of a unified diff, with their `@@` lines and without the two lines of file names.
 *
 * @returns No lines for equal texts; undefined where they are too long or too different.
 */
export function diffText(a: string, b: string): string[] | undefined {
  if (Math.max(countLines(a), countLines(b)) > MAX_LINES) return undefined;
  const options = { context: CONTEXT, maxEditLength: MAX_EDITS };
  const patch = structuredPatch("", "", a, b, undefined, undefined, options);
  return patch?.hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines }) => [
    `@@ -${range(oldStart, oldLines)} +${range(newStart, newLines)} @@`,
    ...lines,
  ]);
}

function countLines(text: string): number {
  const count = text.split("\n").length;
  return text.endsWith("\n") || text === "" ? count - 1 : count;
}

/** First line and number of lines, as diff has them; no lines are after the line before them. */
function range(start: number, count: number): string {
  return `${count === 0 ? start - 1 : start}${count === 1 ? "" : `,${count}`}`;
}
