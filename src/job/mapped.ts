// SPDX-License-Identifier: MIT
/**
 * An image that is written by its bmap.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { BMAP_SUFFIX, MAX_BMAP_BYTES, readBmap } from "../format/bmap.ts";
import { type ByteSource, firstNonZero } from "../format/reader.ts";
import { type Segment, totalSize } from "../format/segment.ts";
import { readWhole } from "../read.ts";
import { RECORD_NAME } from "../record/types.ts";
import { statIfThere } from "../runtime/stat.ts";

/** Returns the path of the bmap beside an image; undefined if there is none. */
export function bmapBeside(path: string): string | undefined {
  const bmap = `${path}${BMAP_SUFFIX}`;
  return statIfThere(bmap) === undefined ? undefined : bmap;
}

/**
 * Reads the bmap of an image, and checks that it fits.
 *
 * @param path Of the bmap.
 * @returns A segment with its digest for every range, and zeros between, but not at the end. What the
 * bmap leaves out is zeros in the image too, so that the copy is the image to the last byte.
 * @throws {UserError} "verify" for the bmap of another image, or one that leaves out data; as
 * `readBmap()`; "target" for one that cannot be read.
 */
export function mappedContent(
  source: ByteSource,
  path: string,
): { readonly segments: readonly Segment[]; readonly dataBytes: number } {
  const { sizeBytes, ranges } = readBmap(readWhole(path, { limitBytes: MAX_BMAP_BYTES }), path);
  if (sizeBytes !== source.sizeBytes) {
    throw notItsBmap(source, path, `it is of ${sizeBytes} bytes, not ${source.sizeBytes}`);
  }
  const segments: Segment[] = [];
  let at = 0;
  const leaveOut = (end: number) => {
    const data = firstNonZero(source, at, end);
    if (data >= 0) throw notItsBmap(source, path, `it leaves out data at offset ${data}`);
  };
  for (const range of ranges) {
    const { offsetBytes } = range;
    if (offsetBytes > at) {
      leaveOut(offsetBytes);
      segments.push({ kind: "zeros", sizeBytes: offsetBytes - at });
    }
    segments.push({ kind: "file", path: source.name, ...range, isPart: true });
    at = offsetBytes + range.sizeBytes;
  }
  leaveOut(sizeBytes);
  return { segments, dataBytes: totalSize(segments) };
}

/** The error for a bmap that is named for an image of which the record has more. */
export function needsNoBmap(path: string): UserError {
  return new UserError("usage", `Cannot use --bmap for ${path}: ${RECORD_NAME} is beside it`, {
    where: path,
    hint: "Leave it out: the record has the digests of every byte",
  });
}

function notItsBmap({ name }: ByteSource, path: string, what: string): UserError {
  return new UserError("verify", `Cannot write ${name} by ${path}: ${what}`, {
    where: path,
    hint: "Is the bmap that of this image? Copy both again",
  });
}
