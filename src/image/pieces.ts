// SPDX-License-Identifier: MIT
/**
 * The pieces of a boot or payload image, or of that of a container, with their digests: see
 * `format/pieces.ts`.
 *
 * @module
 */

import { cutAt } from "../format/pieces.ts";
import type { ByteSource } from "../format/reader.ts";
import { digestRanges, type EntryOptions, type NamedRange } from "./digests.ts";
import { readImage } from "./linear.ts";
import type { LinearKind, ViewEntry } from "./types.ts";

/** A run of bytes of an image: the content of a file, or what is between files. */
export interface ImagePiece {
  readonly offset: number;
  readonly size: number;
  /** The file; absent for what is between files. */
  readonly file?: ViewEntry;
}

/**
 * Cuts an image into its pieces.
 *
 * @param dataBytes Where its data ends.
 * @throws {UserError} "format" for an image that cannot be read.
 */
export function* piecesOfImage(
  source: ByteSource,
  kind: LinearKind,
  dataBytes: number,
): Generator<ImagePiece, void> {
  const files = function* () {
    for (const entry of readImage(source, kind)) {
      if (entry.kind === "command" || entry.dataOffset === undefined) continue;
      yield { offset: entry.dataOffset, size: entry.size, entry };
    }
  };
  for (const { offset, size, file } of cutAt(files(), dataBytes)) {
    yield { offset, size, ...(file && { file: file.entry }) };
  }
}

/**
 * Computes the digest of each piece of an image, on every core.
 *
 * @returns The pieces in order; one that the image ends within has no digest.
 * @throws {UserError} "format" and "target" for an image that cannot be read; "interrupt".
 */
export async function* digestPieces(
  source: ByteSource,
  kind: LinearKind,
  dataBytes: number,
  options: EntryOptions = {},
): AsyncGenerator<ImagePiece & { readonly sha256: string | undefined }, void, undefined> {
  // Those that were cut and not returned yet.
  const cut: ImagePiece[] = [];
  const ranges = function* (): Generator<NamedRange> {
    for (const piece of piecesOfImage(source, kind, dataBytes)) {
      cut.push(piece);
      const { offset, size, file } = piece;
      yield { name: file?.path ?? source.name, offset, size };
    }
  };
  for await (const sha256 of digestRanges(source, ranges(), options)) {
    yield { ...cut.shift()!, sha256 };
  }
}
