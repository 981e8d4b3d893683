// SPDX-License-Identifier: MIT
/**
 * Expands gzip and zstd with the zlib of the runtime.
 *
 * zlib finds the members of a gzip file itself, but silently stops at a zero byte after one. Of
 * zstd, Deno expands the first frame only, and neither runtime detects a truncated file. So the
 * frames are found here, by the sizes in the headers of their blocks, and expanded one by one.
 *
 * Sources: RFC 1952; RFC 8878, section 3.1.
 *
 * @module
 */

import { pipeline, Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { messageOf, UserError } from "../errors.ts";
import { type ByteSource, firstNonZero } from "../format/reader.ts";
import { isSkippable } from "./compression.ts";
import { ENDS_EARLY, expandError, piecesOf, takeCompressed, TRAILING_BYTES } from "./fault.ts";

const OUTPUT_BYTES = 256 * 1024;

/**
 * Expands a gzip file of any number of members. Zeros after the last one are padding, as for
 * gzip(1).
 *
 * @throws {UserError} "format"
 */
export async function* gunzip(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  const stream = createGunzip({ chunkSize: OUTPUT_BYTES });
  yield* expandWith(stream, source, 0, source.sizeBytes);
  // The bytes that it consumed, which may be fewer than it was given.
  const end = stream.bytesWritten;
  const stray = firstNonZero(source, end);
  if (stray >= 0) throw expandError(source, stray, TRAILING_BYTES);
}

/**
 * Expands a zstd file of any number of frames.
 *
 * @throws {UserError} "format"
 */
export async function* unzstd(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  for (let offset = 0; offset < source.sizeBytes;) {
    const { end, isData } = frameAt(source, offset);
    if (isData) {
      yield* expandWith(
        createZstdDecompress({ chunkSize: OUTPUT_BYTES }),
        source,
        offset,
        end - offset,
      );
    }
    offset = end;
  }
}

/** Streams a run of a file through zlib, and always destroys the stream. */
async function* expandWith(
  stream: Transform & { readonly bytesWritten: number },
  source: ByteSource,
  offset: number,
  size: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  // The reader of the stream gets every failure, so the callback has nothing to do.
  pipeline(Readable.from(piecesOf(source, offset, size), { highWaterMark: 2 }), stream, () => {});
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    if (error instanceof UserError) throw error;
    // Deno and Bun put different prefixes before the message of zstd.
    const said = messageOf(error).replace(/^Zstd decompress error: /, "");
    const what = said === "unexpected end of file" ? ENDS_EARLY : said;
    throw expandError(source, offset + stream.bytesWritten, what, { cause: error });
  } finally {
    stream.destroy();
  }
}

const ZSTD_MAGIC = 0xfd2fb528;
/** Size in bytes of a dictionary id and of a content size, by their two-bit codes. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_BYTES = [0, 2, 4, 8] as const;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** Returns the end of a frame, and whether it contains data. */
function frameAt(source: ByteSource, offset: number): { end: number; isData: boolean } {
  const left = source.sizeBytes - offset;
  const head = takeCompressed(source, offset, Math.min(8, left));
  const view = new DataView(head.buffer);
  if (left < 4) throw expandError(source, offset, TRAILING_BYTES);
  if (isSkippable(head)) {
    if (left < 8) throw expandError(source, source.sizeBytes, ENDS_EARLY);
    return { end: within(source, offset + 8 + view.getUint32(4, true)), isData: false };
  }
  if (view.getUint32(0, true) !== ZSTD_MAGIC) throw expandError(source, offset, TRAILING_BYTES);
  if (left < 5) throw expandError(source, source.sizeBytes, ENDS_EARLY);
  const descriptor = head[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentCode = descriptor >> 6;
  const contentBytes = contentCode === 0 && isSingleSegment ? 1 : CONTENT_BYTES[contentCode]!;
  const headerBytes = 5 + (isSingleSegment ? 0 : 1) + DICTIONARY_BYTES[descriptor & 3]! +
    contentBytes;
  const block = new Uint8Array(3);
  for (let at = offset + headerBytes;;) {
    takeCompressed(source, at, block);
    const header = block[0]! + block[1]! * 0x100 + block[2]! * 0x10000;
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) throw expandError(source, at, "a block is of a reserved type");
    at = within(source, at + 3 + (type === RLE_BLOCK ? 1 : header >> 3));
    if ((header & 1) === 0) continue;
    const hasChecksum = (descriptor & 4) !== 0;
    return { end: within(source, at + (hasChecksum ? 4 : 0)), isData: true };
  }
}

function within(source: ByteSource, end: number): number {
  if (end > source.sizeBytes) throw expandError(source, source.sizeBytes, ENDS_EARLY);
  return end;
}
