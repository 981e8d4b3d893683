// SPDX-License-Identifier: MIT
/**
 * An image file as segments, holes apart, so that copying takes as long as its data.
 *
 * @module
 */

import { closeSync, openSync } from "node:fs";
import { MIB, type Segment } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { libc } from "../runtime/libc.ts";

/** Shorter holes count as data: there may be very many. */
const HOLE_BYTES = MIB;

/** A run of a file that the file system has data for. */
export interface DataExtent {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/**
 * Finds the runs of a file that are no long holes; everything, where that cannot be asked.
 *
 * @throws {UserError} "target" where it cannot be read.
 */
export function readExtents(path: string, sizeBytes: number): DataExtent[] {
  const calls = libc();
  if (calls === undefined) return sizeBytes === 0 ? [] : [{ offsetBytes: 0, sizeBytes }];
  return reading(path, () => {
    const file = openSync(path, "r");
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
 * The first `dataBytes` of a file as segments: its extents, and zeros between them.
 *
 * @param dataBytes Nothing behind is in the segments, whether it is data or not.
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
    if (start > at) segments.push({ kind: "zeros", size: start - at });
    if (end > start) {
      segments.push({ kind: "file", path, offset: start, size: end - start, isPart: true });
    }
    at = Math.max(at, end);
  }
  if (at < dataBytes) segments.push({ kind: "zeros", size: dataBytes - at });
  return segments;
}
