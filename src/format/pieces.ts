// SPDX-License-Identifier: MIT
/**
 * The digest that pins a boot or payload image by its pieces, which are hashed on their own: each
 * file once, on whichever core is free.
 *
 * An image is cut into pieces, one after the other, from its first byte to the end of its data:
 * the content of each file that is not empty is a piece, and so is each run of bytes before,
 * between and after them that is not empty. Zeros after the data of a boot image are in none.
 *
 *   digest = SHA-256( ( size " " sha256 "\n" )* )   size: decimal, in bytes; sha256: lower-case hex
 *
 * Two images with the same digest have the same bytes, wherever they were cut: the sizes say where
 * each piece lies, and its SHA-256 says what is in it. And as an image says itself where its files
 * are, the same image is always cut in the same places.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** A run of bytes of an image. */
export interface Piece {
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** Returns the digest of an image, as lower-case hex. */
export function piecesDigest(pieces: Iterable<Piece>): string {
  const hash = createHash("sha256");
  for (const { sizeBytes, sha256 } of pieces) hash.update(`${sizeBytes} ${sha256}\n`);
  return hash.digest("hex");
}

/**
 * Cuts an image into pieces.
 *
 * @param files Where files lie, in order; empty ones are left out.
 * @param dataBytes Where the data ends.
 */
export function* cutAt<F extends { readonly offset: number; readonly size: number }>(
  files: Iterable<F>,
  dataBytes: number,
): Generator<{ readonly offset: number; readonly size: number; readonly file?: F }, void> {
  let end = 0;
  for (const file of files) {
    const { offset, size } = file;
    if (size === 0) continue;
    if (offset > end) yield { offset: end, size: offset - end };
    yield { offset, size, file };
    end = offset + size;
  }
  if (end < dataBytes) yield { offset: end, size: dataBytes - end };
}
