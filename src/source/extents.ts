// SPDX-License-Identifier: MIT
/**
 * An image file as data and holes, so that the time of a copy or a check depends on its data only.
 *
 * @module
 */

import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { KIB, MIB, type Segment } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { type Libc, libc } from "../runtime/libc.ts";

/** Shorter holes count as data: a file may have a great number of them. */
const HOLE_BYTES = MIB;

/** A run of a file for which the file system stores data. */
export interface DataExtent {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/**
 * Finds the data between the long holes of a file. Without a C library to ask, the whole file is
 * one extent.
 *
 * @throws {UserError} "target" where the file cannot be read.
 */
export function readExtents(path: string, sizeBytes: number): DataExtent[] {
  const calls = libc();
  if (calls === undefined) return sizeBytes === 0 ? [] : [{ offsetBytes: 0, sizeBytes }];
  return reading(path, () => {
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const extents: DataExtent[] = [];
      for (let at = 0; at < sizeBytes;) {
        const start = calls.nextData(file, at);
        if (start < 0) break;
        at = Math.min(calls.nextHole(file, start), sizeBytes);
        const last = extents.at(-1);
        const isShort = last !== undefined &&
          start - last.offsetBytes - last.sizeBytes < HOLE_BYTES;
        if (isShort) extents.pop();
        const offsetBytes = isShort ? last.offsetBytes : start;
        extents.push({ offsetBytes, sizeBytes: at - offsetBytes });
      }
      return extents;
    } finally {
      closeSync(file);
    }
  });
}

/**
 * Returns the first `dataBytes` bytes of a file as segments: its extents, and zeros between them.
 *
 * @param dataBytes Where the segments end, also in the middle of an extent.
 */
export function extentSegments(
  path: string,
  extents: readonly DataExtent[],
  dataBytes: number,
): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  for (const { offsetBytes, sizeBytes } of extents) {
    const start = Math.min(offsetBytes, dataBytes);
    const end = Math.min(offsetBytes + sizeBytes, dataBytes);
    if (start > at) segments.push({ kind: "zeros", sizeBytes: start - at });
    if (end > start) {
      segments.push({
        kind: "file",
        path,
        offsetBytes: start,
        sizeBytes: end - start,
        isPart: true,
      });
    }
    at = Math.max(at, end);
  }
  if (at < dataBytes) segments.push({ kind: "zeros", sizeBytes: dataBytes - at });
  return segments;
}

/** Shorter reads are made without asking for holes. */
const WORTH_ASKING_BYTES = 64 * KIB;

/** The holes of an open file, asked for as they are needed. */
export class Holes {
  readonly #file: number;
  readonly #sizeBytes: number;
  readonly #calls = libc();
  /** The run that was asked about last: a hole, and the data after it. */
  #hole = 0;
  #data = 0;
  #end = 0;

  /** @param file A descriptor of `node:fs`, which stays open. */
  constructor(file: number, sizeBytes: number) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
  }

  /** As `nextData()` of a source: where there is no C library to ask, everything is data. */
  nextData(offset: number): number {
    if (this.#calls === undefined || offset >= this.#sizeBytes) return offset;
    if (offset < this.#hole || offset >= this.#end) this.#ask(this.#calls, offset);
    return Math.max(offset, this.#data);
  }

  /** Fills a buffer with zeros if all of its bytes are in a hole, which need not be read then. */
  fill(offset: number, into: Uint8Array): boolean {
    const end = offset + into.length;
    if (into.length < WORTH_ASKING_BYTES || end > this.#sizeBytes) return false;
    if (this.nextData(offset) < end) return false;
    into.fill(0);
    return true;
  }

  #ask(calls: Libc, offset: number): void {
    this.#hole = offset;
    const data = calls.nextData(this.#file, offset);
    if (data >= 0) {
      this.#data = Math.min(data, this.#sizeBytes);
      this.#end = Math.min(calls.nextHole(this.#file, data), this.#sizeBytes);
      return;
    }
    // After the end of a file that was cut meanwhile is no hole: it has to be read to be noticed.
    const isCut = fstatSync(this.#file).size < this.#sizeBytes;
    this.#data = isCut ? offset : this.#sizeBytes;
    this.#end = this.#sizeBytes;
  }
}
