// SPDX-License-Identifier: MIT
/**
 * What a guest prints, passed on to a reader that may be slow, or stop reading. The guest does not
 * wait for it, as QEMU drops what a serial port cannot pass on. At most a MiB waits in memory; the
 * rest is read from the log, which has every byte, when the reader goes on.
 *
 * @module
 */

import { readSync } from "node:fs";
import { UserError } from "../errors.ts";
import { openRegular } from "../read.ts";
import { guestWriter, warn } from "./output.ts";

/** So much waits in memory at most. */
const MOST_WAITING_BYTES = 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;

/** Writes what a guest prints to one of our streams; a terminal gets no control sequences. */
export class GuestOutput {
  readonly #stream: NodeJS.WriteStream;
  readonly #write: (chunk: Uint8Array) => boolean;
  #logPath: string | undefined;
  #waitingBytes = 0;
  #isFull = false;
  /** Where in the log that begins which was left out; undefined while nothing is. */
  #missedBytes: number | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#write = guestWriter(stream);
  }

  /** Names the log, in which everything is before it is pushed here. Without it nothing is left out. */
  logged(path: string): void {
    this.#logPath = path;
  }

  push(chunk: Uint8Array): void {
    if (this.#missedBytes !== undefined) return;
    if (this.#waitingBytes + chunk.length > MOST_WAITING_BYTES && this.#isFull) {
      const sizeBytes = this.#logSize();
      if (sizeBytes !== undefined) {
        this.#missedBytes = sizeBytes - chunk.length;
        return;
      }
    }
    this.#pass(chunk);
  }

  #pass(chunk: Uint8Array): void {
    if (this.#write(chunk)) return;
    this.#waitingBytes += chunk.length;
    if (this.#isFull) return;
    this.#isFull = true;
    this.#stream.once("drain", () => {
      this.#isFull = false;
      this.#waitingBytes = 0;
      this.#catchUp();
    });
  }

  /** Passes on what was left out, until the stream is full again or there is no more. */
  #catchUp(): void {
    if (this.#missedBytes === undefined) return;
    const opened = this.#open();
    try {
      const buffer = new Uint8Array(CHUNK_BYTES);
      while (opened !== undefined && !this.#isFull) {
        const length = readSync(opened.file, buffer, 0, buffer.length, this.#missedBytes);
        if (length === 0) break;
        this.#missedBytes += length;
        this.#pass(buffer.slice(0, length));
      }
    } finally {
      opened?.close();
    }
    // Nothing comes between the end of the log and what is pushed next.
    if (!this.#isFull) this.#missedBytes = undefined;
  }

  #logSize(): number | undefined {
    const opened = this.#open();
    opened?.close();
    return opened?.stat.size;
  }

  #open(): ReturnType<typeof openRegular> | undefined {
    if (this.#logPath === undefined) return undefined;
    try {
      return openRegular(this.#logPath, { followsLink: false });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      warn(`what the guest has printed is left out here: ${error.message}`);
      this.#logPath = undefined;
      return undefined;
    }
  }
}
