// SPDX-License-Identifier: MIT
/**
 * A unified diff of two small texts.
 *
 * @module
 */

import { structuredPatch } from "diff";

/** Limits: texts with more lines or more changes take too much memory or time. */
const MAX_LINES = 20_000;
const MAX_EDITS = 1000;
/** Lines shown around a change. */
const CONTEXT = 3;

/**
 * Makes a unified diff, without the two lines of file names.
 *
 * @returns The lines of its hunks, none for equal texts; undefined where the texts are too long or
 * too different.
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

/** Formats a range of lines as diff does; an empty one has the number of the line before it. */
function range(start: number, count: number): string {
  return `${count === 0 ? start - 1 : start}${count === 1 ? "" : `,${count}`}`;
}
