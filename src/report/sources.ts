// SPDX-License-Identifier: MIT
/**
 * The distfiles of a target, and where each came from.
 *
 * @module
 */

import type { RecordedDistfile } from "../record/types.ts";
import type { Place } from "../plan/types.ts";
import { counted, formatBytes, formatCount } from "../text.ts";
import { finder } from "./files.ts";
import { type Html, markup } from "./html.ts";
import { digest, folded, share } from "./words.ts";

const PLACES: Readonly<Record<Place, string>> = {
  boot: "boot image",
  payload: "payload image",
  external: "second disk",
  network: "downloaded by the machine",
};

/** Most distfiles that are listed: live-bootstrap has some 300. */
const MAX_ROWS = 5000;
/** Most places that are counted one by one. */
const MAX_PLACES = 12;

/** What the distfiles come to, in a few words. */
export function sourcesNote(distfiles: readonly RecordedDistfile[]): string {
  const carried = distfiles.filter(({ place }) => place !== "network");
  const bytes = formatBytes(sizeOf(carried));
  const rest = distfiles.length - carried.length;
  return `${counted(carried.length, "distfile")}, ${bytes}` +
    (rest > 0 ? `; ${formatCount(rest)} more for the machine to download` : "");
}

/** The distfiles by where they came from, and one by one. */
export function sourcesOf(distfiles: readonly RecordedDistfile[], isDirectory: boolean): Html {
  if (distfiles.length === 0) return markup`<p class="empty">It has no distfiles.</p>`;
  const groups = [...Map.groupBy(distfiles, sourceOf)].map(([name, files]) => ({
    name,
    count: files.length,
    bytes: sizeOf(files),
  })).sort((a, b) => b.bytes - a.bytes || b.count - a.count || (a.name < b.name ? -1 : 1));
  const whole = sizeOf(distfiles);
  const others = groups.slice(MAX_PLACES);
  const rows = others.length === 0 ? groups : [...groups.slice(0, MAX_PLACES), {
    name: counted(others.length, "other place"),
    count: others.reduce((sum, { count }) => sum + count, 0),
    bytes: others.reduce((sum, { bytes }) => sum + bytes, 0),
  }];
  const left = distfiles.length - MAX_ROWS;
  return markup`<table class="origins"><caption class="unseen">Where the distfiles came from</caption><thead><tr><th scope="col">Came from</th><th scope="col" class="number">Distfiles</th><th scope="col" class="number">Size</th><th scope="col" class="number">Part</th></tr></thead><tbody>${
    rows.map(({ name, count, bytes }) =>
      markup`<tr><th scope="row">${name}</th><td class="number">${
        formatCount(count)
      }</td><td class="number">${formatBytes(bytes)}</td><td class="number">${
        share(bytes, whole)
      }</td></tr>`
    )
  }</tbody></table>${
    folded(
      markup`<strong>Every distfile</strong> <span class="note">${
        formatCount(distfiles.length)
      } in the order of the manifest</span>`,
      markup`${
        finder("distfiles", "name, step, URL or SHA-256")
      }<table class="sources" id="distfiles"><caption class="unseen">Distfiles</caption><thead><tr><th scope="col">Distfile</th><th scope="col">Came from</th><th scope="col">SHA-256</th><th scope="col" class="number">Size</th></tr></thead><tbody>${
        distfiles.slice(0, MAX_ROWS).map((distfile) => row(distfile, isDirectory))
      }</tbody></table>${
        left > 0 &&
        markup`<p class="note">${counted(left, "more is", "more are")} not listed.</p>`
      }`,
    )
  }`;
}

function sizeOf(distfiles: readonly RecordedDistfile[]): number {
  return distfiles.reduce((sum, { size }) => sum + (size ?? 0), 0);
}

/** Where a distfile came from, in a few words: the server for one that was downloaded. */
function sourceOf({ origin, place }: RecordedDistfile): string {
  if (place === "network") return "nowhere yet: the machine downloads it";
  switch (origin?.kind) {
    case "url":
      return URL.canParse(origin.url) ? new URL(origin.url).host : origin.url;
    case "mirror":
      return "a mirror directory";
    case "checkout":
      return "distfiles/ of the checkout";
    case "store":
      return "the store, which does not know from where";
    default:
      return "not recorded";
  }
}

function row(distfile: RecordedDistfile, isDirectory: boolean): Html {
  const { name, sha256, size, steps, urls, origin, place, why } = distfile;
  const [from, url] = origin?.kind === "url"
    ? [undefined, origin.redirectedTo ?? origin.url]
    : [sourceOf(distfile), undefined];
  const [first, ...others] = urls;
  const to = isDirectory && place === "boot" ? "directory" : PLACES[place];
  const size_ = size === null ? "?" : formatBytes(size);
  return markup`<tr><th scope="row" title="${why}">${name}<small class="more">${
    steps.length === 0 ? "no step" : steps.join(", ")
  } · ${to}</small></th><td class="from">${from}${url}${
    from !== undefined && first !== undefined &&
    markup`<small class="more">the checkout names ${first}</small>`
  }${
    others.length > 0 &&
    markup`<small class="more">and ${counted(others.length, "other URL")}</small>`
  }</td><td>${digest(sha256)}</td><td class="number">${size_}</td></tr>`;
}
