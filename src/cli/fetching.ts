// SPDX-License-Identifier: MIT
/**
 * Shows a fetch: one view of all files, and a line for each thing that goes wrong. What goes wrong
 * with one file after the other is said once, and counted.
 *
 * @module
 */

import process from "node:process";
import { hostOf } from "../fetch/failure.ts";
import { FetchTally } from "../fetch/tally.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { counted, formatBytes, formatCount, note } from "./output.ts";
import { canRedraw } from "./status.ts";
import {
  type Display,
  fitting,
  formatSeconds,
  type Part,
  type Shown,
  timeLeft,
} from "./progress.ts";

/** How many kinds of failures of one host are shown, and of all hosts together. */
const MOST_OF_HOST = 3;
const MOST_OF_ALL = 8;
const BAR_COLUMNS = 20;

/** How a fetch is shown. */
export interface ShownFetch {
  /** Whether each file has a bar on a terminal while it comes, and a line elsewhere when it is here. */
  readonly namesFiles?: boolean;
}

/** Returns a handler for the events of fetches. */
export function fetchPrinter(
  display: Display,
  { namesFiles = false }: ShownFetch = {},
): (event: FetchEvent) => void {
  let fetching = new Fetching(namesFiles);
  return (event) => {
    if (event.kind === "begin") {
      fetching = new Fetching(namesFiles);
      display.show(fetching);
    }
    for (const line of fetching.add(event)) note(line);
    if (event.kind === "end") display.end();
    else display.update();
  };
}

/** One fetch. */
class Fetching implements Shown {
  readonly #tally = new FetchTally();
  readonly #startMs = performance.now();
  readonly #hosts = new Map<string, HostFailures>();
  #shownFailures = 0;
  /** Where files came from, other than the store. */
  readonly #sources = new Set<string>();
  #fetchedFiles = 0;
  #fetchedBytes = 0;
  readonly #namesFiles: boolean;

  constructor(namesFiles: boolean) {
    this.#namesFiles = namesFiles;
  }

  /** Adds an event, and returns the lines that are to be printed. */
  add(event: FetchEvent): string[] {
    this.#tally.add(event);
    switch (event.kind) {
      case "failed-attempt":
        return this.#failure(event);
      case "wait":
        return [`${event.name}: waiting for process ${event.pid}, which is fetching it`];
      case "done":
        if (!event.url.startsWith("file:")) {
          this.#sources.add(hostOf(event.url));
          this.#fetchedFiles++;
          this.#fetchedBytes += event.bytes;
          if (this.#namesFiles && !canRedraw()) {
            return [`${event.name}: ${formatBytes(event.bytes)} from ${hostOf(event.url)}`];
          }
        }
        return [];
      case "end":
        return this.#summary();
      default:
        return [];
    }
  }

  lines(columns: number): string[] {
    const line = fitting(this.#parts(), columns, "  ");
    if (this.#namesFiles) return [line, ...this.#bars(columns)];
    const names = this.#tally.names.join(", ");
    return names === "" ? [line] : [line, `  ${names}`];
  }

  /** A line with a bar for each file that comes, as many as there is room for. */
  #bars(columns: number): string[] {
    const most = Math.max(0, (process.stderr.rows || 24) - 4);
    const files = this.#tally.current;
    const shown = files.slice(0, most).map(({ name, bytes, total }) => {
      const part = total === undefined || total === 0 ? undefined : Math.min(1, bytes / total);
      const percent = part === undefined ? "" : `${Math.floor(part * 100)} %`;
      const full = part === undefined ? 0 : Math.round(part * BAR_COLUMNS);
      const bar = `[${"#".repeat(full)}${".".repeat(BAR_COLUMNS - full)}]`;
      return fitting(
        [
          { text: `  ${bar}`, rank: 7 },
          { text: percent.padStart(5), rank: 1 },
          { text: formatBytes(bytes).padStart(9), rank: 5 },
          { text: name, rank: 0 },
        ],
        columns,
        "  ",
      );
    });
    const more = files.length - shown.length;
    return more <= 0 ? shown : [...shown, `  and ${more} more`];
  }

  plain(): string {
    const [what, ...others] = this.#parts().map(({ text }) => text);
    return `${what}: ${others.join(", ")}`;
  }

  #parts(): Part[] {
    const { files, filesDone, doneBytes, receivedBytes, totalBytes } = this.#tally;
    const seconds = this.#seconds();
    const done = formatBytes(doneBytes);
    const rate = receivedBytes / seconds;
    const left = totalBytes === undefined || rate === 0
      ? [{ text: formatSeconds(seconds), rank: 2 }]
      : [timeLeft(Math.max(0, totalBytes.bytes - doneBytes) / rate)];
    return [
      { text: "fetching", rank: 0 },
      { text: `${formatCount(filesDone)} of ${counted(files, "file")}`, rank: 0 },
      totalBytes === undefined ? { text: done, rank: 3 } : {
        text: `${done} of ${totalBytes.isExact ? "" : "~"}${formatBytes(totalBytes.bytes)}`,
        rank: 5,
        short: done,
      },
      ...(receivedBytes === 0 ? [] : [{ text: `${formatBytes(rate)}/s`, rank: 6 }]),
      ...left,
    ];
  }

  /** A dead host is one line; of others some kinds of failures are shown. */
  #failure(event: Extract<FetchEvent, { kind: "failed-attempt" }>): string[] {
    const { name, url, answer, fault } = event;
    // A directory need not have every file, and what nothing has is in the report at the end.
    if (url.startsWith("file:")) return [];
    if (fault === "digest") return [`${name}: ${url}: ${answer}`];
    const host = hostOf(url);
    const known = this.#hosts.get(host) ?? { answers: new Set(), unseen: new Set() };
    this.#hosts.set(host, known);
    const kind = fault === "host" ? "" : answer;
    const most = fault === "host" ? Infinity : MOST_OF_HOST;
    if (known.answers.has(kind) || known.answers.size >= most) {
      if (fault !== "host") known.unseen.add(name);
      return [];
    }
    known.answers.add(kind);
    if (this.#shownFailures++ >= MOST_OF_ALL) return [];
    return [fault === "host" ? `${host}: ${answer}` : `${name}: ${url}: ${answer}`];
  }

  #summary(): string[] {
    const lines = [...this.#hosts].flatMap(([host, { unseen }]) =>
      unseen.size === 0 ? [] : [`${host}: the same for ${counted(unseen.size, "file")} more`]
    );
    const more = this.#shownFailures - MOST_OF_ALL;
    if (more > 0) lines.push(`${formatCount(more)} more hosts or answers are not shown`);
    if (this.#fetchedFiles === 0) return lines;
    const [first, ...others] = this.#sources;
    return [
      ...lines,
      `fetched ${counted(this.#fetchedFiles, "file")}, ${formatBytes(this.#fetchedBytes)}, in ${
        formatSeconds(this.#seconds())
      } from ${first}${others.length === 0 ? "" : ` and ${others.length} more`}`,
    ];
  }

  #seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }
}

interface HostFailures {
  /** What was shown of it. */
  readonly answers: Set<string>;
  /** Files with a failure that was not shown. */
  readonly unseen: Set<string>;
}
