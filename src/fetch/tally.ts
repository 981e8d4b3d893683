// SPDX-License-Identifier: MIT
/**
 * The events of a fetch added up: how many files and bytes are done, and how many are to come.
 *
 * @module
 */
import type { FetchEvent } from "./types.ts";

/** What is being received of a file. */
interface Body {
  /** Bytes that were in the store before. */
  readonly startBytes: number;
  bytes: number;
  readonly total: number | undefined;
}

/** Sizes of so many files, or of a tenth of them, tell enough about the others. */
const TELLING_FILES = 8;

/** Adds up the events of one fetch. */
export class FetchTally {
  /** How many files are wanted, and how many of them are whole. */
  files = 0;
  filesDone = 0;
  /** Bytes of the files that are whole, and of what is there of others. */
  #doneBytes = 0;
  /** Bytes that came from servers in this fetch, also those that were of no use. */
  #receivedBytes = 0;
  readonly #current = new Map<string, Body>();

  add(event: FetchEvent): void {
    switch (event.kind) {
      case "begin":
        this.files = event.files;
        break;
      case "start":
        this.#leave(event.name);
        this.#current.set(event.name, {
          startBytes: event.bytes,
          bytes: event.bytes,
          total: event.total,
        });
        break;
      case "bytes": {
        const body = this.#current.get(event.name);
        if (body !== undefined) body.bytes = event.bytes;
        break;
      }
      case "failed-attempt":
        this.#leave(event.name);
        break;
      case "done":
        this.#leave(event.name);
        this.filesDone++;
        this.#doneBytes += event.bytes;
        break;
      case "retry":
      case "wait":
      case "end":
        break;
    }
  }

  /** The files that are being received, those that began first at the front. */
  get current(): {
    readonly name: string;
    readonly bytes: number;
    readonly total: number | undefined;
  }[] {
    return [...this.#current].map(([name, { bytes, total }]) => ({ name, bytes, total }));
  }

  /** Names of the files that are being received, those that began first at the front. */
  get names(): string[] {
    return [...this.#current.keys()];
  }

  get doneBytes(): number {
    return this.#doneBytes + this.#sum(({ bytes }) => bytes);
  }

  get receivedBytes(): number {
    return this.#receivedBytes + this.#sum(({ bytes, startBytes }) => bytes - startBytes);
  }

  /**
   * The size of all files: known only where all have begun, estimated by those that have before.
   *
   * @returns undefined while too few have begun to say.
   */
  get totalBytes(): { readonly bytes: number; readonly isExact: boolean } | undefined {
    const sized = [...this.#current.values()].filter(({ total }) => total !== undefined);
    const known = this.filesDone + sized.length;
    const bytes = this.#doneBytes + sized.reduce((sum, { total }) => sum + total!, 0);
    if (known === 0 || known < Math.min(TELLING_FILES, this.files / 10)) return undefined;
    return { bytes: Math.round(bytes * this.files / known), isExact: known === this.files };
  }

  #leave(name: string): void {
    const body = this.#current.get(name);
    if (body !== undefined) this.#receivedBytes += body.bytes - body.startBytes;
    this.#current.delete(name);
  }

  #sum(bytesOf: (body: Body) => number): number {
    return [...this.#current.values()].reduce((sum, body) => sum + bytesOf(body), 0);
  }
}
