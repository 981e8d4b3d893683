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
  /** Whether the beginning of the line that goes on was a line already. */
  #isCut = false;

  /** The lines that end within a chunk. */
  push(chunk: Uint8Array): string[] {
    // builder-hex0, Fiwix and Linux end lines with CR LF, and some in between with LF alone.
    const lines = this.#decoder.decode(chunk).split("\n");
    const open = lines.pop()!;
    if (lines.length > 0) {
      const first = this.#rest + lines[0]!;
      const rest = this.#isCut ? lines.slice(1) : [first, ...lines.slice(1)];
      this.#rest = open;
      this.#isCut = false;
      return this.#withCut(rest.map(plain));
    }
    if (!this.#isCut) this.#rest += open;
    return this.#withCut([]);
  }

  /** Adds the beginning of a line that is too long already; its rest is left out. */
  #withCut(lines: string[]): string[] {
    if (this.#isCut || this.#rest.length <= MAX_LINE_CHARS) return lines;
    lines.push(plain(this.#rest));
    this.#rest = "";
    this.#isCut = true;
    return lines;
  }

  /** The last line, where it has no end; none if it is empty. */
  end(): string[] {
    const rest = this.#isCut ? "" : plain(this.#rest);
    this.#rest = "";
    return rest === "" ? [] : [rest];
  }
}

function plain(whole: string): string {
  // The same line, however many of its bytes have come when it is found to be too long.
  const line = whole.length > MAX_LINE_CHARS ? whole.slice(0, MAX_LINE_CHARS) : whole;
  const text = line.includes("\x1b") ? line.replace(ESCAPES, "") : line;
  return (text.includes("\r") ? text.replaceAll("\r", "") : text).trimEnd();
}
