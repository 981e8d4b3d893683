// SPDX-License-Identifier: MIT
/**
 * The files that segments are written to, each byte at its offset, in any order and by several
 * threads: one file, or parts of one size.
 *
 * @module
 */

import { closeSync, constants, fdatasync, fsync, ftruncateSync, openSync, readSync } from "node:fs";
import type { FileRun } from "../format/segment.ts";
import { MIB } from "../format/segment.ts";
import { PIECE_BYTES, writeAll } from "../hash/piece.ts";
import { reading, writeError, writing } from "../refused.ts";

const { O_NOFOLLOW, O_RDWR } = constants;

/** Bytes between two syncs while writing, so that the last sync has less to do. */
const SYNC_BYTES = 32 * MIB;

/** Where to write. */
export interface OutputPlaces {
  /** Returns the path of a file by its number, from 1 on; it must not exist. */
  readonly pathOf: (number: number) => string;
  /** Size of each file but the last; Infinity for a single one. */
  readonly partBytes: number;
  /** Size of all files together. */
  readonly sizeBytes: number;
}

/** Returns the files in order; also what has no byte is one. */
export function outputFiles(
  { pathOf, partBytes, sizeBytes }: OutputPlaces,
): { readonly path: string; readonly sizeBytes: number }[] {
  const count = Math.max(1, Math.ceil(sizeBytes / partBytes));
  return Array.from({ length: count }, (_, index) => ({
    path: pathOf(index + 1),
    sizeBytes: index === 0 && count === 1
      ? sizeBytes
      : Math.min(partBytes, sizeBytes - index * partBytes),
  }));
}

/** New files of known sizes, which read as zeros until they are written. */
export class Outputs {
  readonly #places: OutputPlaces;
  /** A descriptor of the file that was used last, and its path. */
  #open: { readonly path: string; readonly file: number } | undefined;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * Makes the files.
   *
   * @throws {UserError} "target" where one exists, or cannot be made.
   */
  constructor(places: OutputPlaces) {
    this.#places = places;
    for (const { path, sizeBytes } of outputFiles(this.#places)) {
      writing(path, () => {
        const file = openSync(path, "wx", 0o666);
        try {
          ftruncateSync(file, sizeBytes);
        } finally {
          closeSync(file);
        }
      });
    }
  }

  /** Returns where a run of bytes goes. */
  runsAt(offsetBytes: number, sizeBytes: number): FileRun[] {
    const { pathOf, partBytes } = this.#places;
    const runs: FileRun[] = [];
    for (let done = 0; done < sizeBytes;) {
      const at = offsetBytes + done;
      const part = Number.isFinite(partBytes) ? Math.floor(at / partBytes) : 0;
      const inPart = part === 0 ? at : at - part * partBytes;
      const size = Math.min(sizeBytes - done, partBytes - inPart);
      runs.push({ path: pathOf(part + 1), offsetBytes: inPart, sizeBytes: size });
      done += size;
    }
    return runs;
  }

  /** Writes bytes at an offset. */
  write(bytes: Uint8Array, offsetBytes: number): void {
    this.#throwIfFailed();
    let done = 0;
    for (const { path, offsetBytes: at, sizeBytes } of this.runsAt(offsetBytes, bytes.length)) {
      const part = bytes.subarray(done, done + sizeBytes);
      writing(path, () => writeAll(this.#fileOf(path), part, at));
      done += sizeBytes;
    }
  }

  /** Reads back what was written, in parts that are valid until the next one. */
  *read(offsetBytes: number, sizeBytes: number): Generator<Uint8Array, void, undefined> {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (const { path, offsetBytes: at, sizeBytes: size } of this.runsAt(offsetBytes, sizeBytes)) {
      for (let done = 0; done < size;) {
        const most = Math.min(buffer.length, size - done);
        const read = reading(path, () => readSync(this.#fileOf(path), buffer, 0, most, at + done));
        if (read === 0) throw new Error(`${path} ends at ${at + done}`);
        yield buffer.subarray(0, read);
        done += read;
      }
    }
  }

  /** Is told that so many bytes were written by other threads, the last ones at an offset. */
  noteWritten(bytes: number, offsetBytes: number): void {
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < SYNC_BYTES || this.#syncing !== undefined) return;
    this.#unsyncedBytes = 0;
    const [run] = this.runsAt(offsetBytes, 1);
    this.#syncing = syncFile(run!.path, fdatasync)
      .catch((error: unknown) => void (this.#failure ??= { error }))
      .finally(() => this.#syncing = undefined);
  }

  /**
   * Syncs all files.
   *
   * @throws {UserError} "target"
   */
  async finish(): Promise<void> {
    await this.close();
    this.#throwIfFailed();
    for (const { path } of outputFiles(this.#places)) await syncFile(path, fsync);
  }

  /** Closes what is open, also after an error. */
  async close(): Promise<void> {
    await this.#syncing;
    if (this.#open !== undefined) closeSync(this.#open.file);
    this.#open = undefined;
  }

  #fileOf(path: string): number {
    if (this.#open?.path !== path) {
      if (this.#open !== undefined) closeSync(this.#open.file);
      this.#open = undefined;
      this.#open = { path, file: openSync(path, O_RDWR | O_NOFOLLOW) };
    }
    return this.#open.file;
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Syncs a file by a descriptor of its own, while others write to it. */
async function syncFile(path: string, sync: typeof fsync): Promise<void> {
  const file = writing(path, () => openSync(path, O_RDWR | O_NOFOLLOW));
  try {
    await new Promise<void>((done, fail) =>
      sync(file, (error) => error === null ? done() : fail(writeError(path, error)))
    );
  } finally {
    closeSync(file);
  }
}
