// SPDX-License-Identifier: MIT
/**
 * Detects the compression of an archive by its first bytes, never by its name.
 *
 * @module
 */

import { isZero } from "../bytes.ts";
import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { isTarHeader, TAR_BLOCK_BYTES } from "../format/tar.ts";

/** The compression of an archive. */
export type Compression = "none" | "gzip" | "bzip2" | "xz" | "zstd";

const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
];

/**
 * Detects the compression of an archive.
 *
 * @throws {UserError} "format" if it is neither a tar archive nor compressed in a known way.
 */
export function detectCompression(source: ByteSource): Compression {
  const block = new Uint8Array(TAR_BLOCK_BYTES);
  const bytes = block.subarray(0, source.read(0, block));
  for (const [compression, magic] of MAGIC) {
    if (magic.every((byte, index) => bytes[index] === byte)) return compression;
  }
  // A skippable frame may come before the first one with data.
  if (bytes.length >= 4 && isSkippable(bytes)) return "zstd";
  // A header, or the zeros at the end of an archive without members.
  if (
    bytes.length === TAR_BLOCK_BYTES && (isTarHeader(bytes) || isZero(bytes))
  ) {
    return "none";
  }
  throw new UserError("format", `Cannot read archive ${source.name}: it is not a tar archive`, {
    where: `${source.name}, offset 0`,
    hint: "Archives are tar, or tar compressed with gzip, bzip2, xz or zstd",
  });
}

/** Reports whether bytes begin a skippable frame of zstd: 50 to 5F, then 2A 4D 18. */
export function isSkippable(bytes: Uint8Array): boolean {
  return (bytes[0]! & 0xf0) === 0x50 && bytes[1] === 0x2a && bytes[2] === 0x4d && bytes[3] === 0x18;
}
