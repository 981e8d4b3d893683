// SPDX-License-Identifier: MIT
/**
 * The msdos partition table in the first sector of a disk (MBR).
 *
 *   offset 0    boot code, 440 bytes
 *   440         disk signature, 4 bytes
 *   444         2 zeros
 *   446         4 entries of 16 bytes
 *   510         55 AA
 *
 *   entry 0     80 if bootable, else 00
 *         1     first sector as head, sector, cylinder (CHS)
 *         4     type; 00 for an unused entry, 83 for a Linux file system
 *         5     last sector as CHS
 *         8     first sector, 4 bytes
 *         12    number of sectors, 4 bytes
 *
 * Integers are little-endian, a sector has 512 bytes. CHS is written for 255 heads and 63 sectors
 * per track, as FE FF FF beyond its range, and is never read. Extended partitions are not followed.
 *
 * builder-hex0's stage1 also has 55 AA and an entry of type B5: whether an image is a disk is seen
 * from the content of its partitions, not from the MBR alone. A boot image with a payload on the
 * same disk has a second entry, of type DA, see `format/boot.ts`.
 *
 * @module
 */

import { isZero } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { type ByteSource, formatError, readExactly } from "./reader.ts";
import { SECTOR_BYTES } from "./segment.ts";

/** Type of a partition with a Linux file system. */
export const LINUX_PARTITION = 0x83;
/** Type of the protective entry of a disk with a GPT. */
export const GPT_PARTITION = 0xee;
/** Type of the entry in builder-hex0's stage1, which is in fact code. */
export const BUILDER_HEX0_PARTITION = 0xb5;
/** Type of a partition with data and no file system ("Non-FS data" of fdisk). */
export const DATA_PARTITION = 0xda;

/** A primary partition. */
export interface MbrPartition {
  readonly isBootable: boolean;
  /** 1 to 255; see {@link LINUX_PARTITION}. */
  readonly type: number;
  readonly startSector: number;
  readonly sectorCount: number;
}

/** The content of an MBR. */
export interface Mbr {
  readonly diskSignature: number;
  /** The types of all entries, where they are not 0, also of entries without sectors. */
  readonly types: readonly number[];
  /** The entries with a type and sectors, with their numbers from 1 to 4 as in Linux. */
  readonly partitions: readonly (MbrPartition & { readonly number: number })[];
}

const SIGNATURE_AT = 440;
/** Where the entries are in the sector. */
export const ENTRIES_AT = 446;
export const ENTRY_BYTES = 16;
const ENTRIES = 4;
const BOOTABLE = 0x80;
const HEADS = 255;
const TRACK_SECTORS = 63;
const CYLINDERS = 1024;

/**
 * Returns the first sector of a disk with one partition and no boot code.
 *
 * @param diskSignature 32 bits that identify the disk.
 * @throws {UserError} "format" for a number that does not fit into its field.
 */
export function mbr(partition: MbrPartition, diskSignature: number): Uint8Array {
  checkField("disk signature", diskSignature, 0, 0xffffffff);
  const sector = new Uint8Array(SECTOR_BYTES);
  new DataView(sector.buffer).setUint32(SIGNATURE_AT, diskSignature, true);
  sector.set([0x55, 0xaa], SECTOR_BYTES - 2);
  return withPartition(sector, 1, partition);
}

/**
 * Returns the first sector of a disk with one more partition; all other bytes are the same.
 *
 * @param number Number of its entry, 1 to 4.
 * @throws {UserError} "format" where that entry is used, and for a number that does not fit into
 * its field.
 */
export function withPartition(
  sector: Uint8Array,
  number: number,
  { isBootable, type, startSector, sectorCount }: MbrPartition,
): Uint8Array {
  checkField("type", type, 1, 0xff);
  checkField("first sector", startSector, 1, 0xffffffff);
  checkField("number of sectors", sectorCount, 1, 0xffffffff);
  // Linux does not count past 2^32 sectors in this table either.
  checkField("last sector", startSector + sectorCount - 1, 1, 0xffffffff);
  const at = ENTRIES_AT + (number - 1) * ENTRY_BYTES;
  if (!isZero(sector.subarray(at, at + ENTRY_BYTES))) {
    throw new UserError("format", `Cannot write a partition table: entry ${number} is used`);
  }
  const made = sector.slice();
  const view = new DataView(made.buffer);
  made[at] = isBootable ? BOOTABLE : 0;
  made.set(chs(startSector), at + 1);
  made[at + 4] = type;
  made.set(chs(startSector + sectorCount - 1), at + 5);
  view.setUint32(at + 8, startSector, true);
  view.setUint32(at + 12, sectorCount, true);
  return made;
}

/**
 * Reads the partition table of a disk. Entries are not checked: they may overlap or extend past the
 * end of the source, as boot code in place of a table does.
 *
 * @throws {UserError} "format" where the first sector does not end in 55 AA.
 */
export function readMbr(source: ByteSource): Mbr {
  const sector = readExactly(source, 0, SECTOR_BYTES);
  if (sector?.[510] !== 0x55 || sector[511] !== 0xaa) {
    throw formatError(source, SECTOR_BYTES - 2, "no partition table: 55 AA is missing");
  }
  const view = new DataView(sector.buffer);
  const types: number[] = [];
  const partitions = [];
  for (let index = 0; index < ENTRIES; index++) {
    const at = ENTRIES_AT + index * ENTRY_BYTES;
    const type = sector[at + 4]!;
    const startSector = view.getUint32(at + 8, true);
    const sectorCount = view.getUint32(at + 12, true);
    if (type !== 0) types.push(type);
    if (type === 0 || startSector === 0 || sectorCount === 0) continue;
    const isBootable = sector[at] === BOOTABLE;
    partitions.push({ number: index + 1, isBootable, type, startSector, sectorCount });
  }
  return { diskSignature: view.getUint32(SIGNATURE_AT, true), types, partitions };
}

/** Returns the CHS address of a sector in the format of an entry. */
function chs(sector: number): [number, number, number] {
  const cylinder = Math.floor(sector / (HEADS * TRACK_SECTORS));
  if (cylinder >= CYLINDERS) return [0xfe, 0xff, 0xff];
  const head = Math.floor(sector / TRACK_SECTORS) % HEADS;
  // The two high bits of the cylinder are above the sector number, which counts from 1.
  return [head, sector % TRACK_SECTORS + 1 + Math.floor(cylinder / 256) * 64, cylinder % 256];
}

function checkField(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new UserError(
    "format",
    `Cannot write a partition table: ${what} is ${value}, ${least} to ${most} are possible`,
    { hint: "A disk with an msdos partition table has at most 2 TiB" },
  );
}
