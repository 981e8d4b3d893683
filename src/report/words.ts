// SPDX-License-Identifier: MIT
/**
 * Small pieces of a report that several of its sections have.
 *
 * @module
 */

import { formatCount } from "../text.ts";
import { type Fragment, type Html, markup } from "./html.ts";

/** How something stands, which has a colour and a word. */
export type Tone = "good" | "warn" | "bad" | "plain";

/** A word in a coloured field; the word says it all. */
export function badge(tone: Tone, text: string): Html {
  return markup`<span class="badge ${tone}">${text}</span>`;
}

/** A SHA-256 or the like, which one click selects. */
export function digest(value: string): Html {
  return markup`<code class="digest">${value}</code>`;
}

/** A part of a whole as a percentage, or a dash where there is no whole. */
export function share(part: number, whole: number): string {
  if (whole === 0) return "–";
  const percent = 100 * part / whole;
  if (percent > 0 && percent < 0.01) return "< 0.01 %";
  return `${percent.toFixed(percent < 10 ? 2 : 1)} %`;
}

/** A time that something took: `12 ms`, `4.2 s`, `3:07 min`, `14:03 h`. */
export function formatMs(ms: number): string {
  if (ms > 0 && ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds > 0 && seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [minutes, two] = [Math.floor(seconds / 60), (n: number) => String(n).padStart(2, "0")];
  if (minutes < 60) return `${minutes}:${two(Math.floor(seconds) % 60)} min`;
  return `${formatCount(Math.floor(minutes / 60))}:${two(minutes % 60)} h`;
}

/** A time as `2026-11-26 19:40:00 UTC`; what is no time stays as it is. */
export function formatTime(time: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Names with their values; a row without a value is left out. */
export function facts(rows: readonly (readonly [name: string, value: Fragment])[]): Html {
  const there = rows.filter(([, value]) =>
    value !== undefined && value !== false && value !== "" &&
    !(Array.isArray(value) && value.length === 0)
  );
  return markup`<dl class="facts">${
    there.map(([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>`)
  }</dl>`;
}

/** A part of the page that can be closed. */
export interface Section {
  readonly id: string;
  readonly title: string;
  /** What it comes to, in a few words, beside the title. */
  readonly note?: string;
  readonly body: Fragment;
}

/** A heading that opens and closes what follows. */
export function section({ id, title, note, body }: Section): Html {
  return markup`<section id="${id}" aria-labelledby="${id}-title"><details open><summary><h2 id="${id}-title">${title}</h2>${
    note !== undefined &&
    markup`<span class="note">${note}</span>`
  }</summary><div class="body">${body}</div></details></section>`;
}

/** Something long, which is closed at first. */
export function folded(title: Fragment, body: Fragment, id?: string): Html {
  return markup`<details class="folded" ${
    id !== undefined && markup`id="${id}"`
  }><summary>${title}</summary>${body}</details>`;
}
