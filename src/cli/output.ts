// SPDX-License-Identifier: MIT
/**
 * Prints for people: numbers, tables, errors. Results go to standard output, everything else to
 * standard error.
 *
 * @module
 */

import { once } from "node:events";
import process from "node:process";
import { styleText } from "node:util";
import { messageOf, UserError } from "../errors.ts";

/** Prints a line of a result. */
export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** Prints any number of lines of a result, no faster than they are read. */
export async function printAll(lines: Iterable<string>): Promise<void> {
  let block = "";
  const write = async () => {
    if (!process.stdout.write(block)) await once(process.stdout, "drain");
    block = "";
  };
  for (const line of lines) {
    block += `${line}\n`;
    if (block.length >= 64 * 1024) await write();
  }
  if (block !== "") await write();
}

/** Prints a line that is not part of a result. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Prints a warning; the work goes on. */
export function warn(text: string): void {
  note(`${paint("yellow", "seedstrap:")} ${text}`);
}

/** Prints a value as JSON, for scripts. */
export function printJson(value: unknown, indent = 2): void {
  // JSON.stringify() does not escape U+007F to U+009F, which a terminal may obey.
  const text = JSON.stringify(value, null, indent);
  print(text.replace(/[\x7f-\x9f]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`));
}

/** Prints an error: a {@link UserError} with its location and hint, a bug with its stack. */
export function printError(error: unknown): void {
  const isExpected = error instanceof UserError;
  const message = isExpected ? error.message : `bug: ${messageOf(error)}`;
  note(`${paint("red", "seedstrap:")} ${message.split("\n").map(printable).join("\n")}`);
  if (isExpected) {
    if (error.where !== undefined) note(`  at ${printable(error.where)}`);
    if (error.hint !== undefined) note(`  ${paint("cyan", "hint:")} ${printable(error.hint)}`);
  } else if (error instanceof Error && error.stack !== undefined) {
    note(error.stack);
  }
}

/** Colours a text where standard error is a terminal and NO_COLOR allows it. */
export function paint(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stderr });
}

/** Colours a text where standard output is a terminal and NO_COLOR allows it. */
export function paintResult(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stdout });
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
 * Formats rows as lines of a table, with aligned columns and two spaces between.
 *
 * @param align One letter a column: `l` left, `r` right.
 */
export function formatTable(rows: readonly (readonly string[])[], align: string): string[] {
  const widths = [...align].map((_, column) =>
    Math.max(0, ...rows.map((row) => row[column]?.length ?? 0))
  );
  return rows.map((row) =>
    row.map((cell, column) =>
      align[column] === "r" ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
    ).join("  ").trimEnd()
  );
}

/** Escapes control characters: text from a checkout, an image or a server may hold some. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
