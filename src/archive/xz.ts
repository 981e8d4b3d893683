// SPDX-License-Identifier: MIT
/**
 * Expands xz with the package xz-decompress, which is xz-embedded as WebAssembly.
 *
 *   file   = { stream { 00 00 00 00 } }
 *   stream = header{12} { block } index footer{12}
 *   index  = 00 count { unpaddedSize size } 00* crc32
 *   footer = crc32 backwardSize{4} flags{2} "YZ"
 *
 * xz-embedded stops after the first stream and does not report its end. So the streams are found
 * from the end of the file, as `xz --list` does: the footer has the size of the index, and the
 * index has the sizes of the blocks. That also detects truncated or appended data.
 *
 * Source: "The .xz File Format", version 1.2.1, sections 2 to 4.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import xz from "xz-decompress";
import { messageOf } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { KIB, MIB } from "../format/segment.ts";
import { isZero } from "../bytes.ts";
import { ENDS_EARLY, expandError, piecesOf, takeCompressed } from "./fault.ts";

const HEADER_BYTES = 12;
const FOOTER_BYTES = 12;
const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
/** A longer index lists more blocks than any real file has: at least 1.6 million. */
const MAX_INDEX_BYTES = 16 * MIB;
/** More than any real file has. An empty stream takes only 32 bytes of it, but some memory here. */
const MAX_STREAMS = 100_000;
const SHA256_CHECK = 0x0a;
/** XZ_MEM_ERROR and XZ_MEMLIMIT_ERROR of xz-embedded. */
const NO_MEMORY = /error code [34]$/;
const HINT = "Compress it with the defaults: xz -dc ARCHIVE | xz >OTHER";

/** The position of a stream in a file, and its expanded size. */
interface XzStream {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly expandedBytes: number;
}

/**
 * Expands an xz file of any number of streams and blocks.
 *
 * A process expands only one stream at a time; the next one waits for the end of the last.
 *
 * @throws {UserError} "format", also for a check by SHA-256 and for filters other than LZMA2.
 */
export async function* unxz(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
  for (const stream of findStreams(source)) {
    let done = 0;
    for await (const chunk of expandStream(source, stream)) {
      if (chunk.length > 0) yield chunk;
      done += chunk.length;
    }
    if (done !== stream.expandedBytes) {
      throw expandError(
        source,
        stream.offset,
        `a stream has ${done} bytes, its index says ${stream.expandedBytes}`,
      );
    }
  }
}

async function* expandStream(
  source: ByteSource,
  { offset, sizeBytes }: XzStream,
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces = piecesOf(source, offset, sizeBytes);
  const input = new ReadableStream<Uint8Array>({
    pull(controller) {
      const { done, value } = pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  }, { highWaterMark: 0 });
  const reader = new xz.XzReadableStream(input).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (NO_MEMORY.test(messageOf(error))) {
          const what = "its dictionary takes too much memory, more than 64 MiB";
          throw expandError(source, offset, what, { hint: HINT, cause: error });
        }
        throw expandError(source, offset, `xz-decompress refuses it (${messageOf(error)})`, {
          hint: `It is damaged, or made with filters. ${HINT}`,
          cause: error,
        });
      });
      if (done) return;
      yield value;
    }
  } finally {
    // Releases the one decoder. It has no effect after the end of the stream.
    await reader.cancel().catch(() => {});
  }
}

/** Finds the streams of a file from its end; returns them in the order of the file. */
function findStreams(file: ByteSource): XzStream[] {
  const source = readBackwards(file);
  const streams: XzStream[] = [];
  let end = source.sizeBytes;
  while (end > 0) {
    end = paddingStart(source, end);
    const stream = streamBefore(source, end);
    streams.push(stream);
    if (streams.length > MAX_STREAMS) {
      throw expandError(source, stream.offset, `it has more than ${MAX_STREAMS} streams`);
    }
    end = stream.offset;
  }
  return streams.reverse();
}

/**
 * Makes a source that is efficient for reads from its end to its beginning. It reads a MiB at a
 * time, as some sources start again from their beginning when they are read backwards.
 */
function readBackwards(source: ByteSource): ByteSource {
  let window: Uint8Array = new Uint8Array();
  let start = 0;
  return {
    name: source.name,
    sizeBytes: source.sizeBytes,
    read(offset, into) {
      const end = Math.min(offset + into.length, source.sizeBytes);
      if (offset < start || end > start + window.length) {
        start = Math.max(0, offset - MIB);
        window = takeCompressed(source, start, end - start);
      }
      const part = window.subarray(offset - start, end - start);
      into.set(part);
      return part.length;
    },
  };
}

/** Returns the start of the zeros before an offset, in words of four bytes. */
function paddingStart(source: ByteSource, end: number): number {
  let start = end;
  for (const size of [4 * KIB, 4]) {
    const bytes = new Uint8Array(size);
    while (start >= size && isZero(takeCompressed(source, start - size, bytes))) start -= size;
  }
  return start;
}

function streamBefore(source: ByteSource, end: number): XzStream {
  const indexEnd = end - FOOTER_BYTES;
  if (indexEnd < HEADER_BYTES) throw badEnd(source, end);
  const footer = takeCompressed(source, indexEnd, FOOTER_BYTES);
  const view = new DataView(footer.buffer);
  const isFooter = footer[10] === 0x59 && footer[11] === 0x5a &&
    view.getUint32(0, true) === crc32(footer.subarray(4, 10));
  if (!isFooter) throw badEnd(source, end);
  if (footer[9] === SHA256_CHECK) {
    throw expandError(source, end, "its check is SHA-256, which is not supported", { hint: HINT });
  }
  const indexBytes = (view.getUint32(4, true) + 1) * 4;
  const indexOffset = indexEnd - indexBytes;
  if (indexBytes > MAX_INDEX_BYTES || indexOffset < HEADER_BYTES) throw badEnd(source, end);
  const index = takeCompressed(source, indexOffset, indexBytes);
  const { blockBytes, expandedBytes } = readIndex(source, indexOffset, index);
  const offset = indexOffset - blockBytes - HEADER_BYTES;
  if (offset < 0) throw expandError(source, indexOffset, "its index lists more than the file has");
  const header = takeCompressed(source, offset, HEADER_BYTES);
  if (HEADER_MAGIC.some((byte, at) => header[at] !== byte)) {
    throw expandError(source, offset, "no stream begins where the index says");
  }
  return { offset, sizeBytes: end - offset, expandedBytes };
}

function badEnd(source: ByteSource, end: number) {
  return expandError(source, end, `${ENDS_EARLY}, or something else follows its end`);
}

/** Returns the sums of the sizes of the blocks in an index. */
function readIndex(
  source: ByteSource,
  offset: number,
  index: Uint8Array,
): { blockBytes: number; expandedBytes: number } {
  const view = new DataView(index.buffer);
  const body = index.subarray(0, -4);
  const damaged = () => expandError(source, offset, "its index is damaged");
  if (index[0] !== 0 || view.getUint32(body.length, true) !== crc32(body)) throw damaged();
  let at = 1;
  const integer = (): number => {
    let value = 0;
    for (let factor = 1; at < body.length; factor *= 128) {
      const byte = body[at++]!;
      value += (byte % 128) * factor;
      if (!Number.isSafeInteger(value)) break;
      if (byte < 128) return value;
    }
    throw damaged();
  };
  let blockBytes = 0;
  let expandedBytes = 0;
  for (let left = integer(); left > 0; left--) {
    blockBytes += Math.ceil(integer() / 4) * 4;
    expandedBytes += integer();
  }
  if (!Number.isSafeInteger(blockBytes) || !Number.isSafeInteger(expandedBytes)) throw damaged();
  return { blockBytes, expandedBytes };
}
