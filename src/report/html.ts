// SPDX-License-Identifier: MIT
/**
 * HTML made of templates. Whatever is put into a template is escaped by {@link escapeHtml}, unless
 * it is itself the result of one.
 *
 * @module
 */

import { escapeHtml } from "../text.ts";

/** A piece of HTML, as {@link markup} makes it. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What a template takes; undefined and false are nothing. */
export type Fragment = string | number | Html | undefined | false | readonly Fragment[];

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
