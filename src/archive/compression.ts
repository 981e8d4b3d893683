// SPDX-License-Identifier: MIT
/**
 * How an archive is compressed, told by its first bytes and never by its name.
 *
 * @module
 */

import { isZero } from "../bytes.ts";
import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { isTarHeader, TAR_BLOCK_BYTES } from "../format/tar.ts";

/** How an archive is compressed. */
export type Compression = "none" | "gzip" | "bzip2" | "xz" | "zstd";

const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
];

/**
 * Says how an archive is compressed.
 *
 * @throws {UserError} "format" for what is no tar archive and begins like none of the compressions.
 */
export function detectCompression(source: ByteSource): Compression {
  const block = new Uint8Array(TAR_BLOCK_BYTES);
  const bytes = block.subarray(0, source.read(0, block));
  for (const [compression, magic] of MAGIC) {
    if (magic.every((byte, index) => bytes[index] === byte)) return compression;
  }
  // A skippable frame may come ahead of the first one that holds data.
  if (bytes.length >= 4 && isSkippable(bytes)) return "zstd";
  // A header, or the zeros that end an archive without members.
  if (
    bytes.length === TAR_BLOCK_BYTES && (isTarHeader(bytes) || isZero(bytes))
  ) {
    return "none";
  }
  throw new UserError("format", `Cannot read archive ${source.name}: it is no tar archive`, {
    where: `${source.name}, offset 0`,
    hint: "Archives are tar, or tar compressed with gzip, bzip2, xz or zstd",
  });
}

/** Whether a zstd frame, at its first bytes, is one to be skipped: 50 to 5F, then 2A 4D 18. */
export function isSkippable(bytes: Uint8Array): boolean {
  return (bytes[0]! & 0xf0) === 0x50 && bytes[1] === 0x2a && bytes[2] === 0x4d && bytes[3] === 0x18;
}
