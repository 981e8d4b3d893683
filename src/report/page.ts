// SPDX-License-Identifier: MIT
/**
 * The report of a target as one HTML page, which needs nothing but itself: no network, no other
 * file. Its policy lets a browser run the style sheet and the script in it, and nothing else. Pure:
 * the same target gives the same page.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { TargetRecord } from "../record/types.ts";
import { counted, formatBytes, formatCount } from "../text.ts";
import { type Content, contentsOf } from "./contents.ts";
import { filesOf } from "./files.ts";
import { type Html, markup, raw } from "./html.ts";
import { limitsNote, limitsOf } from "./limits.ts";
import { mapOf } from "./map.ts";
import { checksumsOf, environmentOf, modeText } from "./origins.ts";
import { Placement } from "./places.ts";
import { durationMs, explanation, type ReportedRun, runStories, verdictBadge } from "./runs.ts";
import { sourcesNote, sourcesOf } from "./sources.ts";
import { badge, formatMs, type Section, section } from "./words.ts";
import style from "./page.css" with { type: "text" };
import script from "./page.js" with { type: "text" };

/** The first bytes of every report. */
export const REPORT_BEGIN = "<!doctype html>\n<!-- seedstrap report -->\n";

/** What a report is made of. */
export interface ReportInput {
  /** Name of the target. */
  readonly name: string;
  readonly record: TargetRecord;
  /** Its runs that are recorded, in any order. */
  readonly runs: readonly ReportedRun[];
}

/** Makes the page. */
export function reportPage(input: ReportInput): string {
  const places = new Placement();
  const { name } = input;
  const sections = sectionsOf(input, places);
  const body = markup`${head(input)}<nav class="top" aria-label="Sections"><ul>${
    sections.map(({ id, title }) => markup`<li><a href="#${id}">${title}</a></li>`)
  }</ul></nav><main>${
    sections.map(section)
  }</main><footer><p>Made by seedstrap from the record of the target. It needs no network: everything is in this file.</p></footer>`;
  const css = style + places.css;
  const policy =
    `default-src 'none'; style-src '${hashOf(css)}'; script-src '${hashOf(script)}'; ` +
    "base-uri 'none'; form-action 'none'";
  return REPORT_BEGIN +
    markup`<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${
      raw(policy)
    }"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark"><title>${name}: seedstrap report</title><style>${
      raw(css)
    }</style></head><body><a class="skip" href="#contents">Skip to the contents</a>${body}<script>${
      raw(script)
    }</script></body></html>`.text;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function lastRun(runs: readonly ReportedRun[]): ReportedRun | undefined {
  return runs.toSorted((a, b) => b.number - a.number)[0];
}

function head({ name, record, runs }: ReportInput): Html {
  const { options, images, files, distfiles, checkout, seedstrap } = record;
  const last = lastRun(runs);
  const commit = checkout.commits.find(({ path }) => path === ".")?.commit;
  const fileCount = images.reduce((sum, image) => sum + image.files.length, files.length);
  // Without the holes of a disk.
  const bytes = contentsOf(record)
    .reduce((sum, { fileBytes, otherBytes }) => sum + fileBytes + otherBytes, 0);
  const tookMs = last === undefined ? undefined : durationMs(last.run);
  const tile = (value: string | Html, what: string) =>
    markup`<li><strong>${value}</strong><span>${what}</span></li>`;
  return markup`<header><p class="kind">seedstrap report</p><h1>${name} ${
    last === undefined ? badge("plain", "never run") : verdictBadge(last.run)
  }</h1><p class="lead">live-bootstrap for ${modeText(options)}, ${options.arch}${
    commit !== undefined &&
    markup`, commit <code>${commit.slice(0, 12)}</code>`
  }, built by seedstrap ${seedstrap}</p>${
    last !== undefined && last.run.verdict !== "done" &&
    explanation(last.run, markup` <a href="#runs">More on run ${last.number}</a>`)
  }<ul class="tiles">${
    tile(
      formatBytes(bytes),
      images.length === 0 ? "in a directory" : `in ${counted(images.length, "image")}`,
    )
  }${tile(formatCount(fileCount), "files")}${tile(formatCount(distfiles.length), "distfiles")}${
    record.limits.length > 0 && tile(limitsNote(record.limits), "limits")
  }${
    last === undefined ? tile("none", "runs") : tile(
      tookMs === undefined ? "–" : formatMs(tookMs),
      `last run, of ${counted(runs.length, "run")}`,
    )
  }</ul></header>`;
}

function sectionsOf({ record, runs }: ReportInput, places: Placement): Section[] {
  const { limits, distfiles, warnings } = record;
  const contents = contentsOf(record);
  const isDirectory = record.images.length === 0;
  return [
    {
      id: "contents",
      title: "Contents",
      note: contentsNote(contents),
      body: markup`${mapOf(contents, places)}<h3>The same as tables</h3>${filesOf(contents)}`,
    },
    ...(limits.length === 0 ? [] : [{
      id: "limits",
      title: "Limits",
      note: limitsNote(limits),
      body: limitsOf(limits, places),
    }]),
    ...(warnings.length === 0 ? [] : [{
      id: "warnings",
      title: "Warnings",
      note: String(warnings.length),
      body: markup`<ul class="warnings">${warnings.map((text) => markup`<li>${text}</li>`)}</ul>`,
    }]),
    {
      id: "runs",
      title: "Runs",
      note: runs.length === 0 ? "none" : counted(runs.length, "run"),
      body: runStories(runs, places),
    },
    {
      id: "sources",
      title: "Sources",
      note: sourcesNote(distfiles),
      body: sourcesOf(distfiles, isDirectory),
    },
    { id: "checksums", title: "Checksums", body: checksumsOf(record) },
    { id: "environment", title: "Environment", body: environmentOf(record) },
  ];
}

function contentsNote(contents: readonly Content[]): string {
  const files = contents.reduce((sum, { fileCount }) => sum + fileCount, 0);
  const bytes = contents.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  return `${counted(files, "file")}, ${formatBytes(bytes)}`;
}
