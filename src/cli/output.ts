// SPDX-License-Identifier: MIT
/**
 * What people read: numbers, tables, errors. Results go to standard output, everything else to
 * standard error.
 *
 * @module
 */

import process from "node:process";
import { styleText } from "node:util";
import { messageOf, UserError } from "../errors.ts";

/** Prints a line of a result. */
export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a line about what goes on. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Prints a line that somebody should see, though the work goes on. */
export function warn(text: string): void {
  note(`${paint("yellow", "seedstrap:")} ${text}`);
}

/** Prints a value for scripts. */
export function printJson(value: unknown, indent = 2): void {
  // JSON leaves DEL and the controls behind it as they are, and a terminal may obey these.
  const text = JSON.stringify(value, null, indent);
  print(text.replace(/[\x7f-\x9f]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`));
}

/** Prints a failure with place and hint, and what it was caused by. */
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

/** Colours a text of a result, likewise for standard output. */
export function paintResult(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Bytes for people: `1.41 GiB`, `512 B`. */
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

/** A number with its thousands apart, whatever the locale. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * A table with aligned columns and two spaces between.
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

/** Text from a checkout, an image or a server, made harmless for a terminal. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
