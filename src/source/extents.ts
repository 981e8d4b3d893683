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
  readonly offset: number;
  readonly size: number;
}

/**
 * Finds the runs of a file that are no long holes; everything, where that cannot be asked.
 *
 * @throws {UserError} "target" where it cannot be read.
 */
export function readExtents(path: string, sizeBytes: number): DataExtent[] {
  const calls = libc();
  if (calls === undefined) return sizeBytes === 0 ? [] : [{ offset: 0, size: sizeBytes }];
  return reading(path, () => {
    const file = openSync(path, "r");
    try {
      const extents: DataExtent[] = [];
      for (let at = 0; at < sizeBytes;) {
        const offset = calls.nextData(file, at);
        if (offset < 0) break;
        at = Math.min(calls.nextHole(file, offset), sizeBytes);
        const last = extents.at(-1);
        if (last !== undefined && offset - last.offset - last.size < HOLE_BYTES) {
          extents[extents.length - 1] = { offset: last.offset, size: at - last.offset };
        } else extents.push({ offset, size: at - offset });
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
  for (const { offset, size } of extents) {
    const start = Math.min(offset, dataBytes);
    const end = Math.min(offset + size, dataBytes);
    if (start > at) segments.push({ kind: "zeros", size: start - at });
    if (end > start) {
      segments.push({ kind: "file", path, offset: start, size: end - start, isPart: true });
    }
    at = Math.max(at, end);
  }
  if (at < dataBytes) segments.push({ kind: "zeros", size: dataBytes - at });
  return segments;
}
