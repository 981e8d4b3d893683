// SPDX-License-Identifier: MIT
/**
 * The closing record of a preflight image: the last line of its srcfs.
 *
 *   record = "preflight " { key "=" value " " } "crc32=" hex{8} "\n"
 *
 * The CRC-32 is of all bytes of the image from byte 0 up to its own digits. The keys say what the
 * boot program has to expect and do; steps/preflight-1.0/README.md has the list.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { type ByteSource, readRange } from "./reader.ts";
import { CRC32_DIGITS, type Segment, textSegment } from "./segment.ts";

/** The orders to the boot program. */
export interface PreflightOrders {
  /** Whether at least one good payload must be found. */
  readonly payload: boolean;
  /** Whether to read whole payloads and report their CRC-32. */
  readonly read: boolean;
  /** Whether to test the memory. */
  readonly memory: boolean;
}

/** Returns the segments of a closing record. */
export function closingRecord({ payload, read, memory }: PreflightOrders): Segment[] {
  const keys = `payload=${Number(payload)} read=${Number(read)} memory=${Number(memory)}`;
  return [textSegment(`preflight ${keys} crc32=`), { kind: "crc32" }, textSegment("\n")];
}

/** Returns the digits of a closing record, or undefined for another command. */
export function closingDigits(command: string): string | undefined {
  return /^preflight (?:[a-z]+=[0-9]+ )*crc32=([0-9a-fA-F]{8})$/.exec(command)?.[1]?.toLowerCase();
}

/**
 * Computes the correct digits of a closing record.
 *
 * @param recordOffset Offset of the record in the image.
 * @param command The record without its newline.
 */
export function closingCrc32(source: ByteSource, recordOffset: number, command: string): string {
  const end = recordOffset + command.length - CRC32_DIGITS;
  let value = 0;
  for (const part of readRange(source, 0, end)) value = crc32(part, value);
  return value.toString(16).padStart(CRC32_DIGITS, "0");
}
