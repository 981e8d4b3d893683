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
import { printable, printableJson } from "../text.ts";
import { makeRoomFor } from "./status.ts";

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

/** Writes to one of our streams: on a terminal what is shown of the progress goes first. */
export function writeOut(stream: NodeJS.WriteStream, text: string | Uint8Array): boolean {
  if (stream.isTTY) makeRoomFor(text);
  return stream.write(text);
}

/** Prints a line of a result. What is not fit for a terminal in it is escaped, newlines too. */
export function print(line: Line = ""): void {
  writeOut(process.stdout, `${rendered(line, process.stdout)}\n`);
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

/** Prints a line that is not part of a result, escaped as {@link print} does. */
export function note(line: Line): void {
  writeOut(process.stderr, `${rendered(line, process.stderr)}\n`);
}

/** Prints a warning, which may have several lines; the work goes on. */
export function warn(text: string): void {
  noteLines(paint("yellow", "seedstrap:"), text);
}

/** Prints a text of several lines after a title. */
function noteLines(title: Painted, text: string): void {
  text.split("\n").forEach((line, index) => note(index === 0 ? [title, " ", line] : line));
}

/** Prints a value as JSON, for scripts; what is not fit for a terminal is escaped. */
export function printJson(value: unknown, indent = 2): void {
  writeOut(process.stdout, `${printableJson(JSON.stringify(value, null, indent))}\n`);
}

/** Prints an error: a {@link UserError} with its location and hint, a bug with its stack. */
export function printError(error: unknown): void {
  const isExpected = error instanceof UserError;
  noteLines(paint("red", "seedstrap:"), isExpected ? error.message : `bug: ${messageOf(error)}`);
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

/** Writes what a guest prints to a stream; a terminal gets no control sequences. */
export function guestWriter(stream: NodeJS.WriteStream): (chunk: Uint8Array) => void {
  const plain = new PlainOutput();
  return (chunk) => void writeOut(stream, stream.isTTY ? plain.push(chunk) : chunk);
}

/** Formats a number of bytes: `1.41 GiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

/** Formats a number with commas between its thousands, whatever the locale. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * Formats rows as lines of a table, with aligned columns and two spaces between. Cells are escaped
 * first, as that changes their width.
 *
 * @param given The cells of each row.
 * @param align One letter a column: `l` left, `r` right.
 */
export function formatTable(given: readonly (readonly string[])[], align: string): string[] {
  const rows = given.map((row) => row.map(printable));
  const widths = [...align].map((_, column) =>
    Math.max(0, ...rows.map((row) => row[column]?.length ?? 0))
  );
  return rows.map((row) =>
    row.map((cell, column) =>
      align[column] === "r" ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
    ).join("  ").trimEnd()
  );
}
