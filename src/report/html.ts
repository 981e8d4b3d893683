// SPDX-License-Identifier: MIT
/**
 * HTML made of templates. Whatever is put into a template is escaped by {@link escapeHtml}, unless
 * it is itself the result of one.
 *
 * @module
 */

import { printable } from "../text.ts";

/** A piece of HTML, as {@link markup} makes it. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What a template takes; undefined and false are nothing. */
export type Fragment = string | number | Html | undefined | false | readonly Fragment[];

/** No text of a report is longer: a line of a checkout may have megabytes. */
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

/** Makes a piece of HTML; attributes have to be in double quotes. */
export function markup(parts: TemplateStringsArray, ...values: readonly Fragment[]): Html {
  let text = parts[0]!;
  values.forEach((value, index) => text += rendered(value) + parts[index + 1]!);
  return new Html(text);
}

function rendered(value: Fragment): string {
  if (value === undefined || value === false) return "";
  if (value instanceof Html) return value.text;
  if (typeof value === "object") return value.map(rendered).join("");
  return escapeHtml(String(value));
}

/** A text of our own that is HTML already, or stands where nothing is escaped: style and script. */
export function raw(text: string): Html {
  return new Html(text);
}
