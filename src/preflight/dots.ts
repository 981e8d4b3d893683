// SPDX-License-Identifier: MIT
/**
 * Takes the dots that show what the preflight program has read out of what it prints.
 *
 *   line = "."{n} CR LF     one for each 8 MiB of the disks that was read
 *
 * Source: steps/preflight-1.0/README.md, "The report".
 *
 * @module
 */

import { MIB } from "../format/segment.ts";

/** Bytes that were read for each dot. */
const DOT_BYTES = 8 * MIB;

const [DOT, CR, LF] = [0x2e, 0x0d, 0x0a];

/** Splits a stream of bytes, however it is cut, into the text and what the dots say. */
export class Dots {
  /** Dots at the beginning of a line that may be one of dots, and whether its CR came, too. */
  #open = 0;
  #hasCr = false;
  #isAtStart = true;

  /** Returns the bytes that are no lines of dots, and how many bytes of the disks were read. */
  push(chunk: Uint8Array): { readonly text: Uint8Array; readonly readBytes: number } {
    const text: number[] = [];
    let dots = 0;
    for (const byte of chunk) {
      if (this.#isAtStart && byte === DOT && !this.#hasCr) {
        this.#open++;
        dots++;
      } else if (this.#open > 0 && byte === CR && !this.#hasCr) {
        this.#hasCr = true;
      } else if (this.#open > 0 && this.#hasCr && byte === LF) {
        this.#reset(true);
      } else {
        // A line that only begins with dots is text.
        for (let at = 0; at < this.#open; at++) text.push(DOT);
        if (this.#hasCr) text.push(CR);
        this.#reset(byte === LF);
        text.push(byte);
      }
    }
    return { text: Uint8Array.from(text), readBytes: dots * DOT_BYTES };
  }

  #reset(isAtStart: boolean): void {
    this.#open = 0;
    this.#hasCr = false;
    this.#isAtStart = isAtStart;
  }
}
