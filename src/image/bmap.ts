// SPDX-License-Identifier: MIT
/**
 * Makes the bmap of an image.
 *
 * @module
 */

import type { ByteRange } from "../format/blocks.ts";
import { formatBmap, type MappedRange, mappedRanges } from "../format/bmap.ts";
import { type ByteSource, formatError } from "../format/reader.ts";
import { UNWATCHED } from "../progress.ts";
import { digestRanges, type EntryOptions, type NamedRange } from "./digests.ts";

/**
 * Returns the text of the bmap of an image, which is the same wherever the image is.
 *
 * @throws {UserError} "format" for an empty image, "target" for one that cannot be read;
 * "interrupt".
 */
export async function makeBmap(
  source: ByteSource,
  { progress = UNWATCHED, signal }: EntryOptions = {},
): Promise<string> {
  const { sizeBytes } = source;
  if (sizeBytes === 0) throw formatError(source, 0, "it is empty");
  // Those whose digests are not there yet.
  const pending: ByteRange[] = [];
  const named = function* (): Generator<NamedRange> {
    let at = 0;
    for (const range of mappedRanges(source)) {
      progress.add(range.offset - at);
      at = range.offset + range.size;
      pending.push(range);
      yield { name: `bytes ${range.offset} to ${at}`, ...range };
    }
    progress.add(sizeBytes - at);
  };
  const ranges: MappedRange[] = [];
  for await (const sha256 of digestRanges(source, named(), { progress, signal })) {
    const { offset, size } = pending.shift()!;
    ranges.push({ offsetBytes: offset, sizeBytes: size, sha256: sha256! });
  }
  return formatBmap({ sizeBytes, ranges });
}
