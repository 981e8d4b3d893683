// SPDX-License-Identifier: MIT
/**
 * Checks that an image is whole as far as it says itself how long it is: for one that no record
 * tells of, such as a copy that may have ended early.
 *
 * A boot or payload image is walked to its last entry. Of a disk, the partitions and the file
 * system have to lie within the image. A GPT is told by its header in sector 1, which has the number
 * of the last sector of the disk at offset 32, 8 bytes, little-endian (UEFI 2.10, 5.3.2).
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { extBytes } from "../format/ext.ts";
import {
  BUILDER_HEX0_PARTITION,
  ENTRIES_AT,
  ENTRY_BYTES,
  GPT_PARTITION,
  readMbr,
} from "../format/mbr.ts";
import { type ByteSource, formatError, readExactly } from "../format/reader.ts";
import { SECTOR_BYTES } from "../format/segment.ts";
import { findFileSystem, verifyImage } from "./linear.ts";
import type { ImageKind } from "./types.ts";

const GPT_SIGNATURE = "EFI PART";

/**
 * Checks that an image has everything that it says that it has.
 *
 * @param kind As `detectImage()` has it.
 * @throws {UserError} "format", with the offset of the fault or of what leads past the end.
 */
export function checkWhole(source: ByteSource, kind: ImageKind): void {
  switch (kind) {
    case "payload":
    case "container":
      verifyImage(source, kind);
      return;
    case "disk":
      checkDisk(source);
      return;
    default:
      // Any disk with a partition table begins like a boot image.
      try {
        checkBoot(source);
      } catch (error) {
        if (!(error instanceof UserError) || !hasTable(source)) throw error;
        checkTable(source);
      }
  }
}

function checkBoot(source: ByteSource): void {
  const { endOffset, sizeBytes, payloadOffset } = verifyImage(source, "boot");
  // A payload may fill its partition, which is within the image.
  if (endOffset < sizeBytes || payloadOffset !== undefined) return;
  throw formatError(source, sizeBytes, "the image ends before the zeros after its last entry");
}

function checkDisk(source: ByteSource): void {
  const found = findFileSystem(source);
  if (found?.partition !== undefined) checkTable(source);
  const baseBytes = found?.baseBytes ?? 0;
  const sizeBytes = extBytes(source, baseBytes);
  if (baseBytes + sizeBytes <= source.sizeBytes) return;
  throw tooShort(source, baseBytes, "the file system", baseBytes + sizeBytes);
}

/** Reports whether a disk has partitions, and not the code of builder-hex0 in their place. */
function hasTable(source: ByteSource): boolean {
  const { types, partitions } = readMbr(source);
  return partitions.length > 0 && types[0] !== BUILDER_HEX0_PARTITION;
}

function checkTable(source: ByteSource): void {
  for (const { number, type, startSector, sectorCount } of readMbr(source).partitions) {
    // That of builder-hex0 is made up, and that of a GPT may be longer than the disk.
    if (type === BUILDER_HEX0_PARTITION || type === GPT_PARTITION) continue;
    const endBytes = (startSector + sectorCount) * SECTOR_BYTES;
    if (endBytes <= source.sizeBytes) continue;
    throw tooShort(
      source,
      ENTRIES_AT + (number - 1) * ENTRY_BYTES,
      `partition ${number}`,
      endBytes,
    );
  }
  const header = readExactly(source, SECTOR_BYTES, SECTOR_BYTES);
  if (header === undefined) return;
  if (new TextDecoder("latin1").decode(header.subarray(0, 8)) !== GPT_SIGNATURE) return;
  const lastSector = Number(new DataView(header.buffer, header.byteOffset).getBigUint64(32, true));
  const endBytes = (lastSector + 1) * SECTOR_BYTES;
  if (endBytes > source.sizeBytes) throw tooShort(source, SECTOR_BYTES, "the GPT", endBytes);
}

function tooShort(source: ByteSource, offset: number, what: string, endBytes: number): UserError {
  return formatError(
    source,
    offset,
    `${what} ends at byte ${endBytes}, and the image has ${source.sizeBytes} bytes`,
  );
}
