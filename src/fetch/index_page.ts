// SPDX-License-Identifier: MIT
/**
 * The page of HTML that lists a directory: of a mirror, and of what is served. It has no script, and
 * needs nothing but itself.
 *
 * @module
 */

import { escapeHtml, formatBytes } from "../text.ts";

/** A line of the page. */
export interface IndexEntry {
  readonly name: string;
  /** Relative to the page, already encoded for a URL. */
  readonly href: string;
  readonly sizeBytes?: number | undefined;
  /** Lower-case hex. */
  readonly sha256?: string | undefined;
  readonly isDirectory?: boolean | undefined;
}

/** What is shown, in its order. */
export interface IndexContent {
  readonly title: string;
  readonly entries: readonly IndexEntry[];
}

const STYLE = `:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .15rem .75rem .15rem 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
.size { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.sum { font: .8rem/1.8 ui-monospace, monospace; overflow-wrap: anywhere; opacity: .75; }
a { overflow-wrap: anywhere; }
@media (max-width: 60rem) {
  thead { display: none; }
  tr, td.sum { display: block; }
  td { display: inline-block; }
}`;

/** Returns the page. */
export function indexPage({ title, entries }: IndexContent): string {
  const hasSums = entries.some(({ sha256 }) => sha256 !== undefined);
  const sum = (text: string) => hasSums ? text : "";
  const rows = entries.map(({ name, href, sizeBytes, sha256, isDirectory }) => {
    const shown = `${escapeHtml(name)}${isDirectory ? "/" : ""}`;
    const size = sizeBytes === undefined ? "" : formatBytes(sizeBytes);
    return `<tr><td><a href="${escapeHtml(href)}">${shown}</a></td>` +
      `<td class="size">${size}</td>${
        sum(`<td class="sum">${escapeHtml(sha256 ?? "")}</td>`)
      }</tr>`;
  });
  return [
    "<!DOCTYPE html>",
    '<html lang="en">',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width">',
    `<title>${escapeHtml(title)}</title>`,
    `<style>\n${STYLE}\n</style>`,
    `<h1>${escapeHtml(title)}</h1>`,
    "<table>",
    `<thead><tr><th>Name</th><th class="size">Size</th>${sum("<th>SHA-256</th>")}</tr></thead>`,
    "<tbody>",
    ...rows,
    "</tbody>",
    "</table>",
    "</html>",
    "",
  ].join("\n");
}

/** Returns a relative reference to a file beside the page, whatever its name. */
export function hrefOf(name: string): string {
  // Without "./", a name with a colon would begin like a URL.
  return `./${encodeURIComponent(name.toWellFormed())}`;
}
