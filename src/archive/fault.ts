// SPDX-License-Identifier: MIT
/**
 * What is said of an archive that cannot be used.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { type ByteSource, readExactly } from "../format/reader.ts";

/**
 * A "format" error for compressed bytes.
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
    hint: "The archive is damaged or cut short: make or fetch it again",
    ...detail,
  });
}

/** What all are told whose file ends inside something. */
export const ENDS_EARLY = "it ends too early";
/** What all are told whose file goes on behind its end. */
export const TRAILING_BYTES = "something else follows behind its end";

/**
 * Bytes from an offset on, as {@link readExactly} reads them.
 *
 * @throws {UserError} "format" where the file ends before.
 */
export function takeCompressed(
  source: ByteSource,
  offset: number,
  into: Uint8Array | number,
): Uint8Array {
  const bytes = readExactly(source, offset, into);
  if (bytes === undefined) throw expandError(source, source.size, ENDS_EARLY);
  return bytes;
}

const PIECE_BYTES = 256 * 1024;

/** A run of a file in pieces of their own, for streams that keep them. */
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
