// SPDX-License-Identifier: MIT
/**
 * The output of a guest without what a terminal obeys: a guest must not turn off line wrap, move the
 * cursor, set the title or answer questions in the user's terminal.
 *
 * @module
 */

import { UNFIT_FOR_CONSOLE } from "../text.ts";

/** A sequence that is not over yet: ESC, and what may follow it up to its last character. */
// deno-lint-ignore no-control-regex -- it is what a terminal obeys
const OPEN = /\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?$/;
/** CSI with its parameters, OSC and other strings to their end, and sequences of two characters. */
const SEQUENCES =
  // deno-lint-ignore no-control-regex -- likewise
  /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])/g;
/** A sequence that does not end is given up after so many characters. */
const MAX_OPEN_CHARS = 4096;

/** Takes the control sequences out of a stream of bytes, however it is cut. */
export class PlainOutput {
  readonly #decoder = new TextDecoder();
  #open = "";

  /** The text of a chunk that is fit for a terminal. */
  push(chunk: Uint8Array): string {
    const text = this.#open + this.#decoder.decode(chunk, { stream: true });
    const at = OPEN.exec(text)?.index ?? text.length;
    this.#open = text.length - at > MAX_OPEN_CHARS ? "" : text.slice(at);
    return text.slice(0, at).replace(SEQUENCES, "").replace(UNFIT_FOR_CONSOLE, "");
  }
}
