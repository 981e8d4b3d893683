// SPDX-License-Identifier: MIT
/**
 * Shows the progress of long work: one line that is redrawn on a terminal, plain lines elsewhere.
 *
 * @module
 */

import process from "node:process";
import { printable } from "../text.ts";
import { formatBytes } from "./output.ts";

/** Time between two redraws, and between two plain lines. */
const REDRAW_MS = 100;
const PLAIN_MS = 5000;
/** How long the work runs before a rate is shown. */
const STEADY_SECONDS = 0.5;

/** Shows the progress of one piece of work on standard error. */
export class Progress {
  readonly #title: string;
  readonly #isTerminal = process.stderr.isTTY === true;
  readonly #start = performance.now();
  #last: number;
  #isDrawn = false;

  constructor(title: string) {
    this.#title = title;
    // Work that ends within the first interval prints no plain line.
    this.#last = this.#isTerminal ? 0 : this.#start;
  }

  /** Reports how many bytes are done; the total may be unknown. */
  update(done: number, total: number | undefined, detail = ""): void {
    const now = performance.now();
    if (now - this.#last < (this.#isTerminal ? REDRAW_MS : PLAIN_MS)) return;
    this.#last = now;
    const line = printable(this.#line(done, total, detail));
    if (this.#isTerminal) {
      const columns = process.stderr.columns || 80;
      process.stderr.write(`\r\x1b[K${line.slice(0, columns - 1)}`);
      this.#isDrawn = true;
    } else {
      process.stderr.write(`${line}\n`);
    }
  }

  /** Erases the line, so that something else can be printed. */
  clear(): void {
    if (this.#isDrawn) process.stderr.write("\r\x1b[K");
    this.#isDrawn = false;
  }

  #line(done: number, total: number | undefined, detail: string): string {
    const seconds = (performance.now() - this.#start) / 1000;
    // Before that, the rate is mostly that of the first chunk.
    const isSteady = seconds >= STEADY_SECONDS;
    const rate = isSteady ? `${formatBytes(done / seconds)}/s` : "";
    const share = total ? `${String(Math.floor(100 * done / total)).padStart(3)} %  ` : "";
    const left = isSteady && total && done > 0
      ? formatSeconds(seconds * (total - done) / done)
      : "";
    const of = total ? ` of ${formatBytes(total)}` : "";
    return `${this.#title}  ${share}${formatBytes(done)}${of}  ${rate}  ${left}  ${detail}`
      .trimEnd();
  }
}

/** Formats the time that is left: `2 min 05 s left`. */
function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s left`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s left`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min left`;
}
