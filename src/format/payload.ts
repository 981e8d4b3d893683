// SPDX-License-Identifier: MIT
/**
 * LBPAYLD1: the container for distfiles on a disk of their own.
 *
 *   payload = "LBPAYLD1" count { file } 00*
 *   file    = nameLength size name data
 *
 *   count, nameLength, size   little-endian integers of 8 bytes (layout 64) or 4 (layout 32)
 *   name                      nameLength bytes of UTF-8, no terminator
 *   data                      size bytes
 *
 * Layout 64 is the default, layout 32 is the first published version. A reader distinguishes them
 * by bytes 12 to 15: in layout 64 they are the high half of the count and zero, in layout 32 the
 * length of the first name and not zero. (An empty payload reads the same in both.)
 *
 * Names have 1 to 1,024 bytes, contain no "/", "\" or NUL, are not "." or "..", and are sorted by
 * their bytes without duplicates. The zeros at the end fill the last MiB, so that the image fits
 * the sector size of any block device and any kernel can read its last sector.
 *
 * @module
 */

import { compareBytes, sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { type ByteSource, Cursor, formatError, readExactly } from "./reader.ts";
import {
  type Body,
  type JoinedSegment,
  MIB,
  paddingTo,
  type Segment,
  segmentSize,
  textSegment,
  totalSize,
} from "./segment.ts";

/** The first eight bytes of every payload. */
export const PAYLOAD_MAGIC = "LBPAYLD1";
/** Longest name in bytes. */
export const MAX_PAYLOAD_NAME_BYTES = 1024;

/** Width of the integers in bits. */
export type PayloadLayout = 64 | 32;

export interface PayloadEntry {
  /** File name in the directory that it is restored to. */
  readonly name: string;
  readonly body: Body | JoinedSegment;
}

/**
 * Returns the segments of a payload image, padded to a whole MiB.
 *
 * @param entries In any order: they are sorted here.
 * @param layout 64, or 32 for importers that support no other.
 * @throws {UserError} "format" for a name that the format does not allow or that occurs twice, and
 * for a file that is too large for layout 32.
 */
export function payload(entries: readonly PayloadEntry[], layout: PayloadLayout = 64): Segment[] {
  const sorted = sortedByBytes(entries, ({ name }) => name);
  const segments: Segment[] = [textSegment(PAYLOAD_MAGIC), integers(layout, sorted.length)];
  let last: string | undefined;
  for (const { name, body } of sorted) {
    const fault = nameFault(name);
    if (fault !== undefined) {
      throw new UserError("format", `Cannot put ${JSON.stringify(name)} into a payload: ${fault}`);
    }
    if (name === last) {
      throw new UserError("format", `Cannot put ${JSON.stringify(name)} into a payload twice`);
    }
    last = name;
    const size = segmentSize(body);
    if (layout === 32 && size > 0xffffffff) {
      throw new UserError(
        "format",
        `Cannot put ${
          JSON.stringify(name)
        } into a payload of layout 32: it has ${size} bytes, more than 4294967295`,
        { hint: "Use --payload-layout 64" },
      );
    }
    // Also an empty body, so that the writer verifies that its file is empty.
    segments.push(...recordHead(layout, name, size), body);
  }
  return [...segments, ...paddingTo(totalSize(segments), MIB)];
}

/** Returns the record before the data of a file. */
function recordHead(layout: PayloadLayout, name: string, size: number): Segment[] {
  const nameText = textSegment(name);
  return [integers(layout, nameText.bytes.length, size), nameText];
}

/**
 * Returns the end of each file of a payload, by name: the offset after its last byte.
 *
 * @param files In any order, as for `payload()`.
 */
export function payloadEnds(
  files: readonly { readonly name: string; readonly sizeBytes: number }[],
  layout: PayloadLayout,
): Map<string, number> {
  let offset = PAYLOAD_MAGIC.length + totalSize([integers(layout, files.length)]);
  return new Map(
    sortedByBytes(files, ({ name }) => name).map(({ name, sizeBytes }) => {
      // Only the length of the record matters here; `payload()` refuses sizes that do not fit.
      offset += totalSize(recordHead(layout, name, 0)) + sizeBytes;
      return [name, offset];
    }),
  );
}

/** A file of a payload as it is read back. */
export interface PayloadRecord {
  readonly name: string;
  /** Size of the content. */
  readonly sizeBytes: number;
  /** Offset of the record in the image. */
  readonly offsetBytes: number;
  /** Offset of the content in the image. */
  readonly dataOffsetBytes: number;
}

/** The header of a payload. */
export interface PayloadHeader {
  readonly layout: PayloadLayout;
  readonly count: number;
}

/** Reports whether a source begins like a payload. */
export function isPayload(source: ByteSource): boolean {
  const magic = readExactly(source, 0, PAYLOAD_MAGIC.length);
  return magic !== undefined && new TextDecoder("latin1").decode(magic) === PAYLOAD_MAGIC;
}

/**
 * Reads the header of a payload.
 *
 * @throws {UserError} "format" if there is none, and for a count that is of neither layout.
 */
export function readPayloadHeader(source: ByteSource): PayloadHeader {
  if (!isPayload(source)) throw formatError(source, 0, `no ${PAYLOAD_MAGIC} here`);
  const cursor = new Cursor(source, PAYLOAD_MAGIC.length);
  const head = cursor.take(8, "the file count");
  const view = new DataView(head.buffer, head.byteOffset, 8);
  const layout = view.getUint32(4, true) === 0 ? 64 : 32;
  const count = view.getUint32(0, true);
  if (layout === 32 && count === 0) {
    throw formatError(source, PAYLOAD_MAGIC.length, "the file count is zero, but a file follows");
  }
  return { layout, count };
}

/**
 * Walks a payload.
 *
 * @returns Its files in order. The generator's return value is the offset after the last one.
 * @throws {UserError} "format", with the offset, for a count or size that the image is too small
 * for, an invalid, repeated or unsorted name, and a truncated image.
 */
export function* readPayload(
  source: ByteSource,
): Generator<PayloadRecord, number, undefined> {
  const { layout, count } = readPayloadHeader(source);
  const width = layout / 8;
  const cursor = new Cursor(source, PAYLOAD_MAGIC.length + width);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let last: Uint8Array | undefined;
  for (let index = 0; index < count; index++) {
    const offsetBytes = cursor.offsetBytes;
    const what = `file ${index + 1} of ${count}`;
    const head = cursor.take(2 * width, what);
    const nameLength = readInteger(head, 0, width);
    const sizeBytes = readInteger(head, width, width);
    if (nameLength < 1 || nameLength > MAX_PAYLOAD_NAME_BYTES) {
      throw formatError(
        source,
        offsetBytes,
        `the name of ${what} has ${nameLength} bytes, expected 1 to ${MAX_PAYLOAD_NAME_BYTES}`,
      );
    }
    const bytes = cursor.take(nameLength, `the name of ${what}`).slice();
    let name: string;
    try {
      name = decoder.decode(bytes);
    } catch {
      throw formatError(source, offsetBytes, `the name of ${what} is not valid UTF-8`);
    }
    const fault = nameFault(name);
    if (fault !== undefined) {
      throw formatError(source, offsetBytes, `${what} is named ${JSON.stringify(name)}: ${fault}`);
    }
    if (last !== undefined && compareBytes(last, bytes) >= 0) {
      throw formatError(
        source,
        offsetBytes,
        `${what}, ${JSON.stringify(name)}, is repeated or not in order`,
      );
    }
    last = bytes;
    const dataOffsetBytes = cursor.offsetBytes;
    if (sizeBytes > cursor.remainingBytes) {
      throw formatError(
        source,
        offsetBytes,
        `${
          JSON.stringify(name)
        } claims ${sizeBytes} bytes, but only ${cursor.remainingBytes} are left`,
      );
    }
    cursor.offsetBytes += sizeBytes;
    yield { name, sizeBytes, offsetBytes, dataOffsetBytes };
  }
  return cursor.offsetBytes;
}

/** Returns the reason why a name is not allowed, or undefined. */
function nameFault(name: string): string | undefined {
  const bytes = new TextEncoder().encode(name).length;
  if (bytes < 1 || bytes > MAX_PAYLOAD_NAME_BYTES) {
    return `a name must have 1 to ${MAX_PAYLOAD_NAME_BYTES} bytes, not ${bytes}`;
  }
  if (name !== name.toWellFormed()) return "a name must be valid Unicode";
  if (/[/\\\0]/.test(name)) return "a name must not contain a slash, backslash or NUL";
  if (name === "." || name === "..") return 'a name must not be "." or ".."';
  return undefined;
}

function integers(layout: PayloadLayout, ...values: readonly number[]): Segment {
  const width = layout / 8;
  const bytes = new Uint8Array(values.length * width);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    if (layout === 64) view.setBigUint64(i * width, BigInt(value), true);
    else view.setUint32(i * width, value, true);
  });
  return { kind: "bytes", bytes };
}

/** Reads an unsigned integer. Above 2^53 it is inexact, but so large that no bound allows it. */
function readInteger(bytes: Uint8Array, at: number, width: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return width === 8 ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
}
