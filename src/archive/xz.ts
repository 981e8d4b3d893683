// SPDX-License-Identifier: MIT
/**
 * xz, expanded by xz-decompress: xz-embedded as WebAssembly.
 *
 *   file   = { stream { 00 00 00 00 } }
 *   stream = header{12} { block } index footer{12}
 *   index  = 00 count { unpaddedSize size } 00* crc32
 *   footer = crc32 backwardSize{4} flags{2} "YZ"
 *
 * xz-embedded ends with the first stream and does not say where that was. The streams are thus
 * found from the end of the file, as xz(1) does to list one: the footer tells where the index is,
 * and the index how long the blocks are. That also finds what was cut or appended.
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
/** An index this long lists more blocks than there is use for: 1.6 million at the least. */
const MAX_INDEX_BYTES = 16 * MIB;
/** What nobody has: an empty stream takes 32 bytes, and each one found takes memory. */
const MAX_STREAMS = 100_000;
const SHA256_CHECK = 0x0a;
const HINT = "Compress it in a plain way: xz -dc ARCHIVE | xz >OTHER";

/** A stream of a file: where it is, and how many bytes it expands to. */
interface XzStream {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly expandedBytes: number;
}

/**
 * Expands an xz file of any number of streams and blocks.
 *
 * Only one at a time is possible in a process: the next one waits for the end of the last.
 *
 * @throws {UserError} "format", also for SHA-256 as check and for filters other than LZMA2.
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
        throw expandError(source, offset, `xz-decompress refuses it (${messageOf(error)})`, {
          hint: `It is damaged, or made with filters. ${HINT}`,
          cause: error,
        });
      });
      if (done) return;
      yield value;
    }
  } finally {
    // Gives back the one decoder; nothing happens where the stream has come to its end.
    await reader.cancel().catch(() => {});
  }
}

/** The streams of a file in order, found from its end. */
function findStreams(file: ByteSource): XzStream[] {
  const source = readBackwards(file);
  const streams: XzStream[] = [];
  let end = source.size;
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
 * A source for reads that go from its end to its beginning: it is read a MiB at a time, for some
 * begin anew at their beginning where they are read backwards.
 */
function readBackwards(source: ByteSource): ByteSource {
  let window: Uint8Array = new Uint8Array();
  let start = 0;
  return {
    name: source.name,
    size: source.size,
    read(offset, into) {
      const end = Math.min(offset + into.length, source.size);
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

/** Where the zeros ahead of an offset begin, in words of four bytes. */
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
  if (offset < 0) throw expandError(source, indexOffset, "its index says more than the file holds");
  const header = takeCompressed(source, offset, HEADER_BYTES);
  if (HEADER_MAGIC.some((byte, at) => header[at] !== byte)) {
    throw expandError(source, offset, "no stream begins where the index says");
  }
  return { offset, sizeBytes: end - offset, expandedBytes };
}

function badEnd(source: ByteSource, end: number) {
  return expandError(source, end, `${ENDS_EARLY}, or something else follows behind its end`);
}

/** Sums up the blocks that an index lists. */
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
