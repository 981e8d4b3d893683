// SPDX-License-Identifier: MIT
/**
 * Errors about archives that cannot be used.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { type ByteSource, readExactly } from "../format/reader.ts";

/**
 * Makes a "format" error about compressed bytes.
 *
 * @param offset In the compressed file, in bytes.
 */
export function expandError(
  source: ByteSource,
  offset: number,
  what: string,
  detail: { readonly hint?: string; readonly cause?: unknown } = {},
): UserError {
  return new UserError("format", `Cannot expand ${source.name}: ${what}`, {
    where: `${source.name}, offset ${offset}`,
    hint: "The archive is damaged or truncated: create or fetch it again",
    ...detail,
  });
}

/** The error for an archive that is truncated. */
export const ENDS_EARLY = "it ends too early";
/** The error for an archive that is followed by other data. */
export const TRAILING_BYTES = "something else follows its end";

/**
 * Fills `into` with the bytes from an offset on.
 *
 * @throws {UserError} "format" if the file ends before.
 */
export function takeCompressed(
  source: ByteSource,
  offset: number,
  into: Uint8Array | number,
): Uint8Array {
  const bytes = readExactly(source, offset, into);
  if (bytes === undefined) throw expandError(source, source.sizeBytes, ENDS_EARLY);
  return bytes;
}

const PIECE_BYTES = 256 * 1024;

/** Reads a run of a file in new chunks, for streams that keep them. */
export function* piecesOf(
  source: ByteSource,
  offset: number,
  size: number,
): Generator<Uint8Array, void, undefined> {
  for (let done = 0; done < size;) {
    const piece = takeCompressed(source, offset + done, Math.min(PIECE_BYTES, size - done));
    yield piece;
    done += piece.length;
  }
}
