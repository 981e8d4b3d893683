// SPDX-License-Identifier: MIT
/**
 * The format of the boot image of a kernel bootstrap.
 *
 *   offset 0     stage1: 512 bytes, ends in 55 AA, has a partition entry
 *   offset 512   stage2: hex0 *text*, which stage1 assembles until it reads a NUL
 *   then         at least one NUL, up to the next sector
 *   next sector  srcfs
 *   then         zeros: builder-hex0 reads past the last srcfs byte in chunks of many sectors and
 *                loops on a BIOS error at the end of the disk, so there is always 1 MiB of them,
 *                then padding to a whole MiB
 *   then         a payload, if it is on the same disk: see format/payload.ts
 *   then         a sparse tail up to the size of the disk
 *
 * A payload on the same disk is the second partition of the table in stage1, of type DA, so that
 * the kernels that read it show it as a device. Their first partition is that of stage1, which no
 * kernel can use, and after the installation the system's.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { DATA_PARTITION, ENTRIES_AT, ENTRY_BYTES, readMbr, withPartition } from "./mbr.ts";
import { type ByteSource, Cursor, formatError, readExactly, sliceOf } from "./reader.ts";
import { type Body, MIB, SECTOR_BYTES, type Segment, segmentSize, totalSize } from "./segment.ts";

/** Least number of zeros that follow the last srcfs byte. */
export const READ_AHEAD_BYTES = MIB;

/** Number of the partition of a payload on the same disk. */
export const PAYLOAD_NUMBER = 2;

/** The parts of a boot image. */
export interface BootParts {
  /** The assembled stage1, see {@link checkStage1}. */
  readonly stage1: Uint8Array;
  /** The text of stage2. */
  readonly stage2: Body;
  /** See `srcfs()`. */
  readonly srcfs: readonly Segment[];
  /** The payload on the same disk, a whole number of MiB; see `payload()`. */
  readonly payload?: readonly Segment[] | undefined;
}

/**
 * Returns the segments of a boot image without the sparse tail: a whole number of MiB.
 *
 * @throws {UserError} "format" where stage1 has a second partition of its own, and the payload
 * needs that, or where the payload ends past 2 TiB.
 */
export function bootImage({ stage1, stage2, srcfs, payload }: BootParts): Segment[] {
  const stage2Bytes = segmentSize(stage2);
  const srcfsBytes = totalSize(srcfs);
  const srcfsOffset = srcfsOffsetAfter(stage2Bytes);
  const sizeBytes = bootImageBytes(stage2Bytes, srcfsBytes);
  const first = payload === undefined ? stage1 : withPartition(stage1, PAYLOAD_NUMBER, {
    isBootable: false,
    type: DATA_PARTITION,
    startSector: sizeBytes / SECTOR_BYTES,
    sectorCount: totalSize(payload) / SECTOR_BYTES,
  });
  return [
    { kind: "bytes", bytes: first },
    stage2,
    { kind: "zeros", sizeBytes: srcfsOffset - SECTOR_BYTES - stage2Bytes },
    ...srcfs,
    { kind: "zeros", sizeBytes: sizeBytes - srcfsOffset - srcfsBytes },
    ...payload ?? [],
  ];
}

/** Returns the size of a boot image without a payload and the sparse tail, in bytes. */
export function bootImageBytes(stage2Bytes: number, srcfsBytes: number): number {
  const dataBytes = srcfsOffsetAfter(stage2Bytes) + srcfsBytes + READ_AHEAD_BYTES;
  return Math.ceil(dataBytes / MIB) * MIB;
}

/** Bytes of stage1 before the signature of the disk and the partition table. */
export const BOOT_CODE_BYTES = 440;

/** Returns the number of sectors of the stage2 text with the zeros after it, of which one at least. */
export function sectorsOfStage2(stage2Bytes: number): number {
  return 1 + Math.floor(stage2Bytes / SECTOR_BYTES);
}

/** Returns the offset of the srcfs: the next sector after the stage2 text and at least one NUL. */
function srcfsOffsetAfter(stage2Bytes: number): number {
  return SECTOR_BYTES * (1 + sectorsOfStage2(stage2Bytes));
}

/**
 * Checks an assembled stage1.
 *
 * @param name Name of its source, for messages.
 * @throws {UserError} "format" if it is not one sector that ends in 55 AA.
 */
export function checkStage1(stage1: Uint8Array, name: string): void {
  if (stage1.length !== SECTOR_BYTES || stage1[510] !== 0x55 || stage1[511] !== 0xaa) {
    throw new UserError(
      "format",
      `Cannot boot from ${name}: it assembles to ${stage1.length} bytes; a boot sector has ${SECTOR_BYTES} and ends in 55 AA`,
      { where: name, hint: "Use an unchanged checkout with its submodules" },
    );
  }
}

/**
 * Checks the text of stage2.
 *
 * @throws {UserError} "format" if it contains a NUL, at which stage1 would stop.
 */
export function checkStage2(text: Uint8Array, name: string): void {
  const at = text.indexOf(0);
  if (at >= 0 || text.length === 0) {
    throw new UserError(
      "format",
      `Cannot boot from ${name}: ${at < 0 ? "it is empty" : "it contains a NUL, which ends it"}`,
      { where: `${name}, offset ${Math.max(at, 0)}` },
    );
  }
}

/** The offsets in a boot image that is read back. */
export interface BootHeader {
  /** Length of the stage2 text in bytes; it begins at 512. */
  readonly stage2Size: number;
  /** Offset of the srcfs. */
  readonly srcfsOffset: number;
}

/** Limit for the search of the NUL after a stage2 text, which has about 90 KB. */
const MAX_STAGE2_BYTES = 4 * MIB;

/** Reports whether a source begins with a boot sector. */
export function isBootSector(source: ByteSource): boolean {
  const end = readExactly(source, SECTOR_BYTES - 2, 2);
  return end?.[0] === 0x55 && end[1] === 0xaa;
}

/**
 * Finds the parts of a boot image.
 *
 * @throws {UserError} "format" if there is no boot sector, or no end of the stage2 text.
 */
export function readBootHeader(source: ByteSource): BootHeader {
  if (!isBootSector(source)) {
    throw formatError(source, SECTOR_BYTES - 2, "no boot sector: 55 AA is missing");
  }
  const cursor = new Cursor(source, SECTOR_BYTES);
  for (;;) {
    const window = cursor.peek(SECTOR_BYTES);
    const end = window.indexOf(0);
    const textEnd = cursor.offsetBytes + (end < 0 ? window.length : end);
    if (end >= 0) {
      if (textEnd === SECTOR_BYTES) throw formatError(source, SECTOR_BYTES, "no stage2 text");
      return {
        stage2Size: textEnd - SECTOR_BYTES,
        srcfsOffset: srcfsOffsetAfter(textEnd - SECTOR_BYTES),
      };
    }
    if (window.length < SECTOR_BYTES || textEnd > MAX_STAGE2_BYTES) {
      throw formatError(source, textEnd, "the stage2 text has no end");
    }
    cursor.offsetBytes += window.length;
  }
}

/**
 * Finds the payload on the disk of a boot image.
 *
 * @param srcfsEnd Offset after the last byte of the srcfs.
 * @returns Its partition, with offsets from its first byte on; undefined if there is none.
 * @throws {UserError} "format" for one that begins within the srcfs, or ends past the image.
 */
export function payloadPartition(
  source: ByteSource,
  srcfsEnd: number,
): (ByteSource & { readonly baseBytes: number }) | undefined {
  const found = readMbr(source).partitions.find(({ number, type }) =>
    number === PAYLOAD_NUMBER && type === DATA_PARTITION
  );
  if (found === undefined) return undefined;
  const startBytes = found.startSector * SECTOR_BYTES;
  const endBytes = startBytes + found.sectorCount * SECTOR_BYTES;
  const fault = startBytes < srcfsEnd
    ? `begins at byte ${startBytes}, and the srcfs ends at ${srcfsEnd}`
    : endBytes > source.sizeBytes
    ? `ends at byte ${endBytes}, and the image has ${source.sizeBytes} bytes`
    : undefined;
  if (fault === undefined) return sliceOf(source, startBytes, endBytes - startBytes);
  const at = ENTRIES_AT + (PAYLOAD_NUMBER - 1) * ENTRY_BYTES;
  throw formatError(source, at, `the partition of the payload ${fault}`);
}
