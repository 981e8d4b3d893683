// SPDX-License-Identifier: MIT
/**
 * The screen of a terminal, as far as seedstrap uses one: what a user sees of what was printed.
 *
 * @module
 */

/** A screen without scrolling: its rows only grow. */
export class Screen {
  readonly #columns: number;
  readonly #rows: string[] = [""];
  #row = 0;
  #column = 0;
  /** How often a text went over the right edge. */
  wraps = 0;

  constructor(columns: number) {
    this.#columns = columns;
  }

  /** The rows down to the last one that is not empty. */
  get rows(): string[] {
    const last = this.#rows.findLastIndex((row) => row !== "");
    return this.#rows.slice(0, last + 1);
  }

  /** Prints text; a sequence that seedstrap does not use is an error. */
  write(text: string): void {
    // deno-lint-ignore no-control-regex -- it is what a terminal obeys
    for (const [token] of text.matchAll(/\x1b\[[\d;]*[A-Za-z]|[\s\S]/gu)) {
      // deno-lint-ignore no-control-regex -- likewise
      const sequence = /^\x1b\[([\d;]*)([A-Za-z])$/.exec(token);
      if (sequence !== null) this.#obey(sequence[2]!, Number(sequence[1]));
      else if (token === "\n") this.#goDown();
      else if (token === "\r") this.#column = 0;
      else this.#put(token);
    }
  }

  #obey(letter: string, count: number): void {
    const rest = this.#rows[this.#row]!.slice(0, this.#column);
    if (letter === "m") return;
    if (letter === "A") this.#row = Math.max(0, this.#row - count);
    else if (letter === "K" || letter === "J") {
      this.#rows[this.#row] = rest;
      if (letter === "J") this.#rows.length = this.#row + 1;
    } else throw new Error(`a terminal was told ESC [ ${count} ${letter}`);
  }

  #put(char: string): void {
    if (this.#column >= this.#columns) {
      this.wraps++;
      this.#goDown();
      this.#column = 0;
    }
    const row = this.#rows[this.#row]!.padEnd(this.#column);
    this.#rows[this.#row] = row.slice(0, this.#column) + char + row.slice(this.#column + 1);
    this.#column++;
  }

  #goDown(): void {
    this.#row++;
    if (this.#row === this.#rows.length) this.#rows.push("");
  }
}
