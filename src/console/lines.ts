// SPDX-License-Identifier: MIT
/**
 * The lines of a console, without what is meant for a terminal.
 *
 * @module
 */

/** A longer line is cut here: nothing that is recognised is as long. */
const MAX_LINE_CHARS = 4096;

/** ESC sequences: CSI with its parameters, OSC up to BEL or ST, and those of two or three bytes. */
// deno-lint-ignore no-control-regex -- it is what a terminal obeys
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g;

/** Cuts a stream of bytes, however it comes, into lines of text. */
export class LineReader {
  readonly #decoder = new TextDecoder("latin1");
  #rest = "";
  #isCut = false;

  /** The lines that end within a chunk. */
  push(chunk: Uint8Array): string[] {
    // builder-hex0, Fiwix and Linux end lines with CR LF, and some in between with LF alone.
    const lines = (this.#rest + this.#decoder.decode(chunk)).split("\n");
    this.#rest = lines.pop()!;
    const whole = lines.map((line, index) => index === 0 && this.#isCut ? undefined : plain(line));
    if (lines.length > 0) this.#isCut = false;
    const cut = this.#rest.length > MAX_LINE_CHARS && !this.#isCut
      ? plain(this.#rest.slice(0, MAX_LINE_CHARS))
      : undefined;
    if (this.#rest.length > MAX_LINE_CHARS) {
      this.#rest = "";
      this.#isCut = true;
    }
    return [...whole, cut].filter((line) => line !== undefined);
  }

  /** The last line, where it has no end; none if it is empty. */
  end(): string[] {
    const rest = this.#isCut ? "" : plain(this.#rest);
    this.#rest = "";
    return rest === "" ? [] : [rest];
  }
}

function plain(line: string): string {
  return line.replace(ESCAPES, "").replace(/\r/g, "").trimEnd();
}
