// SPDX-License-Identifier: MIT
/**
 * The lines at the bottom of a terminal that say what goes on. Whoever prints anything else there
 * erases them first.
 *
 * @module
 */

import process from "node:process";
import { printable } from "../text.ts";

/** Columns that each line took when it was drawn; none while nothing is drawn. */
let drawn: readonly number[] = [];

/** Whether the cursor is at the beginning of a line: what is on a line before it would be lost. */
let isAtStart = true;

/** Reports whether standard error is a terminal on which lines can be drawn again. */
export function canRedraw(): boolean {
  return process.stderr.isTTY === true && process.env["TERM"] !== "dumb";
}

/** Width of the terminal in columns. */
export function terminalColumns(): number {
  return process.stderr.columns || 80;
}

/**
 * Replaces the lines; each is cut where the terminal ends. Nothing is drawn after a line that has
 * not ended yet, as a guest prints them.
 */
export function drawStatus(lines: readonly string[]): void {
  if (!isAtStart) return;
  // The last column is left free: some terminals go to the next line after it, some do not.
  const shown = lines.map((line) => cutTo(printable(line), terminalColumns() - 1));
  process.stderr.write(`${erasure()}${shown.join("\n")}`);
  drawn = shown.map(columnsOf);
}

/** Erases the lines, and leaves the cursor where they began. */
export function eraseStatus(): void {
  if (drawn.length > 0) process.stderr.write(erasure());
  drawn = [];
}

/** Erases the lines, as something else is printed on the terminal. */
export function makeRoomFor(text: string | Uint8Array): void {
  eraseStatus();
  if (text.length > 0) isAtStart = text.at(-1) === "\n" || text.at(-1) === 0x0a;
}

/** A terminal that has become narrower has wrapped what was drawn: it takes more rows then. */
function erasure(): string {
  const rows = drawn.reduce(
    (sum, columns) => sum + Math.max(1, Math.ceil(columns / terminalColumns())),
    0,
  );
  return rows <= 1 ? "\r\x1b[K" : `\r\x1b[${rows - 1}A\x1b[J`;
}

/** Width of a text: outside of ASCII a character may take two columns, so it is taken for that. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const char of text) columns += char < "\x7f" ? 1 : 2;
  return columns;
}

/** Cuts a text to a number of columns, with an ellipsis where something is missing. */
export function cutTo(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let [cut, left] = ["", columns - 2];
  for (const char of text) {
    left -= columnsOf(char);
    if (left < 0) break;
    cut += char;
  }
  return columns < 2 ? "" : `${cut}…`;
}
