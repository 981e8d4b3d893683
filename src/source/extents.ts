// SPDX-License-Identifier: MIT
/**
 * An image file as segments of data and holes, so that the time of a copy depends on its data only.
 *
 * @module
 */

import { type ByteSource, firstNonZero } from "../format/reader.ts";
import { closeSync, constants, openSync } from "node:fs";
import { MIB, type Segment } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { libc } from "../runtime/libc.ts";

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

/** Reports whether all data of a source from an offset on is zeros. */
export function isZeroAfter(
  source: ByteSource,
  extents: readonly DataExtent[],
  offsetBytes: number,
): boolean {
  return extents.every((extent) => {
    const start = Math.max(extent.offsetBytes, offsetBytes);
    const end = extent.offsetBytes + extent.sizeBytes;
    const read = (at: number, into: Uint8Array) =>
      source.read(at, into.subarray(0, Math.max(0, end - at)));
    return start >= end || firstNonZero({ ...source, sizeBytes: end, read }, start) < 0;
  });
}
