// SPDX-License-Identifier: MIT
/**
 * The lines at the bottom of a terminal that say what goes on. Whoever prints anything else there
 * erases them first.
 *
 * @module
 */

import process from "node:process";
import { styleText } from "node:util";
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

/** A line in a colour, where the terminal has any. */
export interface StyledLine {
  readonly text: string;
  readonly style: Parameters<typeof styleText>[0];
}

/**
 * Replaces the lines; each is cut where the terminal ends. Nothing is drawn after a line that has
 * not ended yet, as a guest prints them.
 *
 * @param above Whole lines to print before them, fit for a terminal.
 * @param isAtBottom Whether they are to be the last rows of the terminal, wherever the cursor is.
 * @returns False where the terminal is slower than what it was given: "drain" of standard error says
 * that it takes more.
 */
export function drawStatus(
  lines: readonly (string | StyledLine)[],
  above = "",
  isAtBottom = false,
): boolean {
  if (above !== "") isAtStart = true;
  if (!isAtStart || (above === "" && lines.length === 0 && drawn.length === 0)) return true;
  const erased = erasure();
  const shown = lines.map(fitted);
  const place = isAtBottom ? toBottom(shown.length) : "";
  drawn = shown.map(({ columns }) => columns);
  const text = shown.map(({ text }) => text).join("\n");
  return process.stderr.write(`${erased}${above}${place}${text}`);
}

/** The last column is left free: some terminals go to the next line after it, some do not. */
function fitted(line: string | StyledLine): { readonly text: string; readonly columns: number } {
  const { text, style } = typeof line === "string" ? { text: line, style: undefined } : line;
  const cut = cutTo(printable(text), terminalColumns() - 1);
  const painted = style === undefined ? cut : styleText(style, cut, { stream: process.stderr });
  return { text: painted, columns: columnsOf(cut) };
}

/** Makes room for lines, which scrolls where there is none, and goes where they are the last ones. */
function toBottom(rows: number): string {
  if (rows < 2) return "\x1b[999B\r";
  return `${"\n".repeat(rows - 1)}\x1b[999B\x1b[${rows - 1}A\r`;
}

/**
 * Draws the whole screen again, as that is the only thing that helps after its size has changed:
 * terminals differ in what they then do with what is on it.
 *
 * @param body Lines before the status lines, fit for a terminal; the last ones are shown, as many as
 * there is room for.
 */
export function redrawScreen(
  body: readonly string[],
  lines: readonly (string | StyledLine)[],
): void {
  const rows = process.stderr.rows || 24;
  const shown = lines.map(fitted);
  const room = Math.max(0, rows - shown.length);
  const last = body.slice(-room).flatMap((line) => wrapRows(line, terminalColumns() - 1));
  const rest = last.slice(Math.max(0, last.length - room));
  const blank = Array.from({ length: room - rest.length }, () => "");
  // What was on the screen before is not ours: it goes to where the terminal keeps what it scrolls.
  const saved = blank.length > 0 ? `\x1b[999B${"\n".repeat(rows)}` : "";
  const all = [...blank, ...rest, ...shown.map(({ text }) => text)];
  process.stderr.write(`${saved}\x1b[H${all.map((row) => `\x1b[2K${row}`).join("\r\n")}`);
  drawn = shown.map(({ columns }) => columns);
  isAtStart = true;
  if (drawn.length === 0) process.stderr.write("\r\n");
}

/** Cuts a line into rows, as a terminal of that width does. */
function wrapRows(line: string, columns: number): string[] {
  const rows: string[] = [];
  let [row, left] = ["", columns];
  for (const char of line) {
    const width = columnsOf(char);
    if (width > left && row !== "") {
      rows.push(row);
      [row, left] = ["", columns];
    }
    row += char;
    left -= width;
  }
  return [...rows, row];
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
