// SPDX-License-Identifier: MIT
/**
 * What a device holds, by the magic numbers of what is usual, so that people recognise it.
 *
 * @module
 */

import { isBootSector } from "../format/boot.ts";
import { isPayload } from "../format/payload.ts";
import { type ByteSource, firstNonZero, memorySource } from "../format/reader.ts";
import { MIB, SECTOR_BYTES } from "../format/segment.ts";

/** A name by bytes at an offset. */
interface Magic {
  readonly name: string;
  readonly offset: number;
  readonly bytes: string;
}

/** Those with longer magic first: ext has but two bytes. Texts are Latin-1. */
const MAGICS: readonly Magic[] = [
  { name: "LUKS", offset: 0, bytes: "LUKS\xba\xbe" },
  { name: "LVM member", offset: 512, bytes: "LABELONE" },
  { name: "RAID member", offset: 4096, bytes: "\xfc\x4e\x2b\xa9" },
  { name: "RAID member", offset: 0, bytes: "\xfc\x4e\x2b\xa9" },
  { name: "swap", offset: 4086, bytes: "SWAPSPACE2" },
  { name: "btrfs", offset: 65600, bytes: "_BHRfS_M" },
  { name: "ISO 9660", offset: 32769, bytes: "CD001" },
  { name: "XFS", offset: 0, bytes: "XFSB" },
  { name: "NTFS", offset: 3, bytes: "NTFS    " },
  { name: "exFAT", offset: 3, bytes: "EXFAT   " },
  { name: "FAT", offset: 82, bytes: "FAT32   " },
  { name: "FAT", offset: 54, bytes: "FAT1" },
  { name: "squashfs", offset: 0, bytes: "hsqs" },
  { name: "ext2/3/4", offset: 1080, bytes: "\x53\xef" },
];

/** The partition table begins there, and has four entries of 16 bytes. */
const TABLE_OFFSET = 446;
const BUILDER_HEX0_TYPE = 0xb5;
const GPT_TYPE = 0xee;

/** A run of a device. */
interface Run {
  readonly name: string;
  readonly startBytes: number;
  readonly sizeBytes: number;
}

/**
 * Describes what a device holds in a few words.
 *
 * @param partitions As the kernel knows them, to be looked at too.
 */
export function describeContent(source: ByteSource, partitions: readonly Run[]): string {
  const own = contentAt(source, 0);
  const parts = partitions.map(({ name, startBytes }) =>
    `${name} ${contentAt(source, startBytes) ?? "unknown"}`
  );
  const whole = own ?? (isBlank(source) ? "zeros in its first MiB" : "unknown data");
  return [whole, ...parts].join("; ");
}

function contentAt(source: ByteSource, offset: number): string | undefined {
  const shifted: ByteSource = {
    name: source.name,
    size: source.size - offset,
    read: (at, into) => source.read(offset + at, into),
  };
  if (isPayload(shifted)) return "payload image";
  const zfs = zfsPool(shifted);
  if (zfs !== undefined) return `ZFS member${zfs === "" ? "" : ` of ${zfs}`}`;
  const found = MAGICS.find(({ offset: at, bytes }) => latin1(shifted, at, bytes.length) === bytes);
  if (found !== undefined) return found.name;
  return isBootSector(shifted) ? tableOf(shifted) : undefined;
}

/** What a sector that ends in 55 AA says. */
function tableOf(source: ByteSource): string {
  if (latin1(source, SECTOR_BYTES, 8) === "EFI PART") return "GPT";
  const table = new Uint8Array(64);
  source.read(TABLE_OFFSET, table);
  const types = [4, 20, 36, 52].map((at) => table[at]!).filter((type) => type !== 0);
  if (types.includes(GPT_TYPE)) return "GPT";
  if (types[0] === BUILDER_HEX0_TYPE) return "boot image";
  return types.length === 0 ? "boot sector" : `MBR of ${types.length}`;
}

/** Offset of the name-value list of a ZFS label, and of its ring of uberblocks. */
const ZFS_LIST_OFFSET = 16 * 1024;
const ZFS_LIST_BYTES = 4096;
const ZFS_UBERBLOCK_OFFSET = 128 * 1024;
const ZFS_UBERBLOCK = ["\x0c\xb1\xba\0\0\0\0\0", "\0\0\0\0\0\xba\xb1\x0c"];

/** Name of the pool that a ZFS label names, empty where it cannot be read, undefined without one. */
export function zfsPool(source: ByteSource): string | undefined {
  const isLabel = [0, 1024, 4096, 8192].some((at) =>
    ZFS_UBERBLOCK.includes(latin1(source, ZFS_UBERBLOCK_OFFSET + at, 8))
  );
  if (!isLabel) return undefined;
  // XDR: a pair "name" of type 9 (string), one element, length, text.
  const list = latin1(source, ZFS_LIST_OFFSET, ZFS_LIST_BYTES);
  // deno-lint-ignore no-control-regex -- XDR has its numbers in binary
  const match = /\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0(.)([\w.: -]+)/.exec(list);
  return match === null ? "" : match[2]!.slice(0, match[1]!.charCodeAt(0));
}

function isBlank(source: ByteSource): boolean {
  const first = new Uint8Array(Math.min(MIB, source.size));
  return firstNonZero(memorySource(first.subarray(0, source.read(0, first))), 0) < 0;
}

function latin1(source: ByteSource, offset: number, length: number): string {
  const bytes = new Uint8Array(length);
  const read = source.read(offset, bytes);
  return new TextDecoder("latin1").decode(bytes.subarray(0, read));
}
