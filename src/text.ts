// SPDX-License-Identifier: MIT
/**
 * Text from outside, such as names in a checkout or the answer of a server, made fit for a
 * terminal, or for a page of HTML.
 *
 * @module
 */

/** What changes the direction of text, joins or separates letters unseen, or ends a line. */
const FORMAT = "\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff";

/** Characters that a terminal obeys or hides: C0, DEL, C1, and those that change the order of text. */
const UNFIT = new RegExp(`[\\x00-\\x1f\\x7f-\\x9f${FORMAT}]`, "g");

/** The same but for BS, HT, LF and CR, which a console prints with. */
export const UNFIT_FOR_CONSOLE = new RegExp(
  `[\\x00-\\x07\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f${FORMAT}]`,
  "g",
);

/** Characters with which the text of JSON would not be fit for a terminal; LF is between lines. */
const UNFIT_IN_JSON = new RegExp(`[\\x7f-\\x9f${FORMAT}]`, "g");

/** Escapes every character that is not fit for a terminal, as `\x1b` or `\u202e`; also newlines. */
export function printable(text: string): string {
  return text.replace(UNFIT, (char) => {
    const code = char.charCodeAt(0);
    return code < 0x100 ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`;
  });
}

/** No text of a page is longer: a line of a checkout may have megabytes. */
const MAX_TEXT_CHARS = 4096;

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Escapes a text for an element or an attribute in quotes. Control characters and those that change
 * the order of text are shown as `\x1b`, and a long text is cut.
 */
export function escapeHtml(text: string): string {
  const isLong = text.length > MAX_TEXT_CHARS;
  const shown = isLong ? `${text.slice(0, MAX_TEXT_CHARS - 1)}…` : text;
  return printable(shown.toWellFormed()).replace(/[&<>"']/g, (char) => ENTITIES[char]!);
}

/** Escapes such characters in the text of JSON, which stays equivalent. */
export function printableJson(json: string): string {
  return json.replace(UNFIT_IN_JSON, (char) => `\\u${hex(char.charCodeAt(0), 4)}`);
}

/** Longest text that a message quotes whole: a line of a checkout may have megabytes. */
const MAX_QUOTED_CHARS = 300;

/** Quotes a text from outside for a message, as JSON does; only the start of a long one. */
export function quoted(text: string): string {
  const isLong = text.length > MAX_QUOTED_CHARS;
  return JSON.stringify(isLong ? `${text.slice(0, MAX_QUOTED_CHARS - 3)}...` : text);
}

/** Replaces every run of such characters by a space. */
export function onOneLine(text: string): string {
  return text.replaceAll(new RegExp(`(?:${UNFIT.source}|\\p{Cf}|\\p{Zl}|\\p{Zp})+`, "gu"), " ");
}

/** Returns what a text has first of C0, DEL and C1, as `U+001B`, or undefined. */
export function controlIn(text: string): string | undefined {
  const found = /\p{Cc}/u.exec(text)?.[0];
  return found && `U+${hex(found.charCodeAt(0), 4).toUpperCase()}`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
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

/** Formats a count of things: `1 file`, `1,200 files`. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : several}`;
}
