// SPDX-License-Identifier: MIT
/**
 * Shows how far long work is: lines that are redrawn on a terminal, now and then a line elsewhere.
 *
 * @module
 */

import { clearInterval, setInterval } from "node:timers";
import type { Progress } from "../progress.ts";
import { formatBytes, note } from "./output.ts";
import { canRedraw, columnsOf, drawStatus, eraseStatus, terminalColumns } from "./status.ts";

/** Time from the beginning of work to the first drawing, and between two of them. */
const FIRST_MS = 500;
const REDRAW_MS = 100;
/** Work that stands still is drawn again so often: its time goes on. */
const TICK_MS = 500;
/** Time to the first plain line; from one to the next it doubles. */
const PLAIN_MS = 5000;
const MOST_PLAIN_MS = 60_000;
/** How long a stage runs before a rate is shown: it is mostly that of the first chunk before. */
const STEADY_SECONDS = 0.5;

/** Something that can be shown while it goes on. */
export interface Shown {
  /** The lines for a terminal of a width. */
  lines(columns: number): string[];
  /** The line for everything else. */
  plain(): string;
}

/** Shows one piece of work at a time on standard error. */
export class Display implements Progress {
  #shown: Shown | undefined;
  #stage: Stage | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** When something may be shown next, and how long it is from there to the next time. */
  #nextMs = 0;
  #intervalMs = 0;

  begin(what: string, totalBytes?: number): void {
    this.#stage = new Stage(what, totalBytes);
    this.show(this.#stage);
  }

  add(bytes: number): void {
    this.#stage?.add(bytes);
    this.update();
  }

  /** Shows something of its own until the next stage begins, or the end. */
  show(shown: Shown): void {
    if (shown !== this.#stage) this.#stage = undefined;
    this.#shown = shown;
    if (this.#timer === undefined) {
      this.#intervalMs = canRedraw() ? REDRAW_MS : PLAIN_MS;
      this.#nextMs = performance.now() + (canRedraw() ? FIRST_MS : PLAIN_MS);
      this.#timer = setInterval(() => this.update(), TICK_MS).unref();
    }
    this.update();
  }

  /** Draws again, unless that was done just now. */
  update(): void {
    const now = performance.now();
    if (this.#shown === undefined || now < this.#nextMs) return;
    this.#nextMs = now + this.#intervalMs;
    if (canRedraw()) drawStatus(this.#shown.lines(terminalColumns() - 1));
    else {
      note(this.#shown.plain());
      this.#intervalMs = Math.min(2 * this.#intervalMs, MOST_PLAIN_MS);
    }
  }

  /** Erases what is shown: the work has ended. */
  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#shown = this.#stage = undefined;
    eraseStatus();
  }
}

/** The one display: two would draw over one another. */
export const display = new Display();

/** Runs work that is shown, and erases what was shown at its end. */
export async function withProgress<T>(work: (progress: Display) => Promise<T> | T): Promise<T> {
  try {
    return await work(display);
  } finally {
    display.end();
  }
}

/** A stage of work, of which bytes are done. */
class Stage implements Shown {
  readonly #what: string;
  readonly #totalBytes: number | undefined;
  readonly #startMs = performance.now();
  #doneBytes = 0;

  constructor(what: string, totalBytes: number | undefined) {
    this.#what = what;
    this.#totalBytes = totalBytes;
  }

  add(bytes: number): void {
    this.#doneBytes += bytes;
  }

  lines(columns: number): string[] {
    return [fitting(this.#parts(), columns, "  ")];
  }

  plain(): string {
    const [what, ...others] = this.#parts().map(({ text }) => text);
    return `${what}: ${others.join(", ")}`;
  }

  #parts(): Part[] {
    const seconds = (performance.now() - this.#startMs) / 1000;
    const total = this.#totalBytes;
    const done = Math.min(this.#doneBytes, total ?? Infinity);
    const what = { text: this.#what, rank: 0 };
    const sinceStart = { text: formatSeconds(seconds), rank: 1 };
    if (done === 0) return [what, sinceStart];
    const rate = { text: `${formatBytes(done / seconds)}/s`, rank: 6 };
    const isSteady = seconds >= STEADY_SECONDS;
    if (total === undefined) {
      return [what, { text: formatBytes(done), rank: 2 }, ...(isSteady ? [rate] : []), sinceStart];
    }
    // What is left to do takes time too: syncing, hashing what is not counted.
    if (done === total) return [what, { text: "finishing", rank: 2 }, sinceStart];
    return [
      what,
      { text: `${Math.floor(100 * done / total)} %`, rank: 1 },
      { text: `${formatBytes(done)} of ${formatBytes(total)}`, rank: 5, short: formatBytes(done) },
      ...(isSteady ? [rate, timeLeft(seconds * (total - done) / done)] : []),
    ];
  }
}

/** A part of a line; the higher its rank, the earlier it is left out. */
export interface Part {
  readonly text: string;
  readonly rank: number;
  /** What is left of it then. */
  readonly short?: string;
}

/** How long it will take, as a part of a line. */
export function timeLeft(seconds: number): Part {
  return { text: `${formatSeconds(seconds)} left`, rank: 2 };
}

/** Joins parts; those of the highest ranks are left out, or shortened, where they do not fit. */
export function fitting(parts: readonly Part[], columns: number, separator: string): string {
  const line = parts.map(({ text }) => text).join(separator);
  const most = Math.max(...parts.map(({ rank }) => rank));
  if (columnsOf(line) <= columns || most === 0) return line;
  const less = parts.flatMap((part) =>
    part.rank < most ? [part] : part.short === undefined ? [] : [{ text: part.short, rank: 3 }]
  );
  return fitting(less, columns, separator);
}

/** Formats a time: `2 min 05 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
