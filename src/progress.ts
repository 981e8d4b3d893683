// SPDX-License-Identifier: MIT
/**
 * How far long work is, as the work itself tells it. What becomes of that is the caller's matter.
 *
 * @module
 */

/** Is told how far work is: one stage after the other, each with the bytes that are done of it. */
export interface Progress {
  /**
   * A stage begins, and the one before has ended.
   *
   * @param what What is done, as in "writing" or "making the file system".
   * @param totalBytes How many bytes it will take; absent where that is not known.
   */
  begin(what: string, totalBytes?: number): void;
  /** So many more bytes of the stage are done. */
  add(bytes: number): void;
}

/** For work that nobody watches. */
export const UNWATCHED: Progress = { begin() {}, add() {} };
