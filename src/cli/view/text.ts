// SPDX-License-Identifier: MIT
/**
 * The console of a guest as lines, as a terminal would show them: what is printed over is gone, and
 * nothing is left that a terminal obeys.
 *
 * @module
 */

import { PlainOutput } from "../../console/plain.ts";

/** A longer line goes on in the next one. */
const MOST_CHARS = 4096;
const TAB_COLUMNS = 8;

/** Cuts the output of a guest into lines. */
export class ConsoleText {
  readonly #plain = new PlainOutput();
  #line = "";
  #at = 0;

  /** The line that has not ended yet. */
  get current(): string {
    return this.#line;
  }

  /** Takes output, cut anywhere, and returns the lines that end in it. */
  push(chunk: Uint8Array): string[] {
    const ended: string[] = [];
    const end = () => {
      ended.push(this.#line);
      this.#line = "";
      this.#at = 0;
    };
    for (const piece of this.#plain.push(chunk).split(/([\n\r\t\b])/)) {
      if (piece === "\n") end();
      else if (piece === "\r") this.#at = 0;
      else if (piece === "\b") this.#at = Math.max(0, this.#at - 1);
      else if (piece === "\t") this.#put(" ".repeat(TAB_COLUMNS - this.#at % TAB_COLUMNS));
      else this.#put(piece);
      if (this.#line.length > MOST_CHARS) end();
    }
    return ended;
  }

  #put(text: string): void {
    const after = this.#line.slice(this.#at + text.length);
    this.#line = this.#line.slice(0, this.#at).padEnd(this.#at) + text + after;
    this.#at += text.length;
  }
}
