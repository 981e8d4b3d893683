// SPDX-License-Identifier: MIT
/**
 * Prints for people: numbers, tables, errors. Results go to standard output, everything else to
 * standard error. What is printed is escaped here, and only here.
 *
 * @module
 */

import { once } from "node:events";
import process from "node:process";
import { styleText } from "node:util";
import { PlainOutput } from "../console/plain.ts";
import { messageOf, UserError } from "../errors.ts";
import { printable } from "../text.ts";
import { makeRoomFor } from "./status.ts";

export { counted, formatBytes, formatCount } from "../text.ts";

/** Text of our own in a colour, for {@link print} and its like; in a template it has none. */
export class Painted {
  readonly #style: Style;
  readonly #text: string;

  constructor(style: Style, text: string) {
    this.#style = style;
    this.#text = text;
  }

  /** The text with the sequences of the colour, where the stream is a terminal that wants them. */
  render(stream: NodeJS.WritableStream): string {
    return styleText(this.#style, printable(this.#text), { stream });
  }

  toString(): string {
    return this.#text;
  }
}

type Style = Parameters<typeof styleText>[0];

/** A line to print: text, or text with parts in a colour. */
export type Line = string | Painted | readonly (string | Painted)[];

/** Marks a text as coloured. */
export function paint(style: Style, text: string): Painted {
  return new Painted(style, text);
}

/**
 * Makes a line fit for a terminal: whatever is in it was not looked at before, as names and texts
 * come from checkouts, images and servers.
 */
function rendered(line: Line, stream: NodeJS.WritableStream): string {
  const parts = typeof line === "string" || line instanceof Painted ? [line] : line;
  return parts.map((part) => typeof part === "string" ? printable(part) : part.render(stream)).join(
    "",
  );
}

/** Returns a line without colours. */
export function plainLine(line: Line): string {
  return typeof line === "string" || line instanceof Painted ? String(line) : line.join("");
}

/** Streams of ours that have taken more than they could pass on. Bun does not tell which they are. */
const full = new Set<NodeJS.WriteStream>();

/** Writes to one of our streams: on a terminal what is shown of the progress goes first. */
export function writeOut(stream: NodeJS.WriteStream, text: string | Uint8Array): boolean {
  if (stream.isTTY) makeRoomFor(text);
  const isTaken = stream.write(text);
  if (!isTaken && !full.has(stream)) {
    full.add(stream);
    stream.once("drain", () => full.delete(stream));
  }
  return isTaken;
}

/** Waits until what was written is gone, or the signal is raised. */
export async function drained(signal: AbortSignal): Promise<void> {
  const gone = [...full].map((stream) => once(stream, "drain", { signal }));
  // Where nobody reads any more, all work is ended, see main.ts.
  await Promise.allSettled(gone);
}

/** Where results are printed. */
let results: NodeJS.WriteStream = process.stdout;

let isCut = false;

/**
 * Reports whether the bytes on standard output are incomplete: what its reader has not taken is not
 * worth waiting for.
 */
export function isStdoutCut(): boolean {
  return isCut;
}

/**
 * Takes standard output for bytes; from now on results are printed to standard error.
 *
 * @param option What asks for it, for the message.
 * @throws {UserError} "usage" where it is a terminal
 */
export function takeStdout(option: string, signal: AbortSignal): WritableStream<Uint8Array> {
  const { stdout } = process;
  if (stdout.isTTY) {
    throw new UserError("usage", `Cannot use ${option}: standard output is a terminal`, {
      hint: "Redirect it to a program or a file: | ssh HOST 'dd of=/dev/sdX bs=4M'",
    });
  }
  results = process.stderr;
  return new WritableStream<Uint8Array>({
    async write(chunk) {
      // Until the chunk is gone: a stream whose write fails is not aborted.
      isCut = true;
      if (!writeOut(stdout, chunk)) await once(stdout, "drain", { signal });
      isCut = false;
    },
    // Nothing says that an image was written before it is.
    close: () => new Promise((done) => stdout.write("", () => done())),
    abort: () => void (isCut = true),
  });
}

/** Prints a line of a result. What is not fit for a terminal in it is escaped, newlines too. */
export function print(line: Line = ""): void {
  writeOut(results, `${rendered(line, results)}\n`);
}

/**
 * Prints a line that programs read: to anything but a terminal as it is, but for newlines in it.
 */
export function printExact(line: string): void {
  const isShown = process.stdout.isTTY === true;
  writeOut(process.stdout, `${isShown ? printable(line) : line.replaceAll("\n", "\\x0a")}\n`);
}

/** Prints any number of lines of a result, no faster than they are read. */
export async function printAll(lines: Iterable<Line>): Promise<void> {
  let block = "";
  const write = async () => {
    if (!writeOut(process.stdout, block)) await once(process.stdout, "drain");
    block = "";
  };
  for (const line of lines) {
    block += `${rendered(line, process.stdout)}\n`;
    if (block.length >= 64 * 1024) await write();
  }
  if (block !== "") await write();
}

/** Returns a line with advice about a plan. */
export function adviceLine(advice: string): Line {
  return [paint("cyan", "note:"), ` ${advice}`];
}

/** Prints a line that is not part of a result, escaped as {@link print} does. */
export function note(line: Line): void {
  writeOut(process.stderr, `${rendered(line, process.stderr)}\n`);
}

/** Prints a warning, which may have several lines; the work goes on. */
export function warn(text: string): void {
  for (const line of warningLines(text)) note(line);
}

/** Returns a warning as lines. Every warning begins with the same word. */
export function warningLines(text: string): Line[] {
  return titled(paint("yellow", "warning:"), text);
}

/** Returns a text of several lines after a title. */
function titled(title: Painted, text: string): Line[] {
  return text.split("\n").map((line, index) => index === 0 ? [title, " ", line] : line);
}

/** Prints an error: a {@link UserError} with its location and hint, a bug with its stack. */
export function printError(error: unknown): void {
  const isExpected = error instanceof UserError;
  const message = isExpected ? error.message : `bug: ${messageOf(error)}`;
  for (const line of titled(paint("red", "seedstrap:"), message)) note(line);
  if (isExpected) {
    if (error.where !== undefined) note(`  at ${error.where}`);
    if (error.hint !== undefined) note(["  ", paint("cyan", "hint:"), ` ${error.hint}`]);
  } else if (error instanceof Error && error.stack !== undefined) {
    error.stack.split("\n").forEach((line) => note(line));
  }
}

/**
 * Makes a text of several lines fit for a terminal.
 *
 * @param also What is left as it is besides newlines.
 */
export function printableLines(text: string, also = ""): string {
  const kept = new RegExp(`([\n${also}])`);
  return text.split(kept).map((part) => kept.test(part) ? part : printable(part)).join("");
}

/**
 * Writes what a guest prints to a stream; a terminal gets no control sequences. What it returns is
 * false where the stream has to be waited for.
 */
export function guestWriter(stream: NodeJS.WriteStream): (chunk: Uint8Array) => boolean {
  const plain = new PlainOutput();
  return (chunk) => writeOut(stream, stream.isTTY ? plain.push(chunk) : chunk);
}

/** Width of the terminal that a stream is, or Infinity: what programs read is not wrapped. */
export function widthOf(stream: NodeJS.WriteStream): number {
  return stream.isTTY ? stream.columns || DEFAULT_COLUMNS : Infinity;
}

const DEFAULT_COLUMNS = 80;
/** No column of text is made narrower than this. */
const LEAST_COLUMNS = 8;

/**
 * Formats rows as lines of a table, with aligned columns and two spaces between. Cells are escaped
 * first, as that changes their width. In a table that is too wide the widest columns of text become
 * narrower, and their cells have several lines.
 *
 * @param given The cells of each row.
 * @param align One letter a column: `l` left, `r` right.
 * @param columns Width that it has to fit, see {@link widthOf}.
 */
export function formatTable(
  given: readonly (readonly string[])[],
  align: string,
  columns = Infinity,
): string[] {
  const rows = given.map((row) => row.map(printable));
  const widths = fittedWidths(rows, align, columns);
  return rows.flatMap((row) => {
    const cells = row.map((cell, column) =>
      align[column] === "r" ? [cell] : wrapped(cell, widths[column]!)
    );
    const height = Math.max(...cells.map(({ length }) => length));
    return Array.from({ length: height }, (_, line) =>
      cells.map((cell, column) => {
        const text = cell[line] ?? "";
        return align[column] === "r"
          ? text.padStart(widths[column]!)
          : text.padEnd(widths[column]!);
      }).join("  ").trimEnd());
  });
}

/** No line of a long list is shorter than this. */
const LONG_COLUMNS = 110;

/**
 * Formats a file of a long list. On a narrow terminal its digest and what is known of it have a
 * line of their own.
 *
 * @param facts Columns of a fixed width.
 * @param digest Undefined for what has none.
 * @param known A column of any width, or none.
 */
export function fileLines(
  facts: readonly string[],
  digest: string | undefined,
  known: string | undefined,
  path: string,
): string[] {
  const columns = widthOf(process.stdout);
  if (columns < LONG_COLUMNS) {
    const first = [...facts, path].join("  ");
    const isShort = first.length <= columns;
    const more = [isShort ? undefined : path, digest, known].filter((text) => text);
    return [isShort ? first : facts.join("  "), ...more.map((text) => `    ${text}`)];
  }
  const column = known === undefined ? [] : [(known || "-").padEnd(20)];
  return [[...facts, digest ?? "-".repeat(64), ...column, path].join("  ")];
}

/** The width of each column: that of its widest cell, or less of the widest ones. */
function fittedWidths(rows: readonly (readonly string[])[], align: string, columns: number) {
  const widths = [...align].map((_, column) =>
    Math.max(0, ...rows.map((row) => row[column]?.length ?? 0))
  );
  const total = () => widths.reduce((sum, width) => sum + width + 2, -2);
  while (total() > columns) {
    const widest = Math.max(...widths.filter((_, column) => align[column] === "l"));
    if (widest <= LEAST_COLUMNS) break;
    const column = widths.findIndex((width, at) => width === widest && align[at] === "l");
    widths[column] = widest - 1;
  }
  return widths;
}

/** Cuts a text into lines, between words where there is a space, and at least one. */
function wrapped(text: string, columns: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > columns) {
    const space = rest.lastIndexOf(" ", columns);
    const end = space > 0 ? space : columns;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return [...lines, rest];
}
