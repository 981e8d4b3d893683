// SPDX-License-Identifier: MIT
/**
 * Describes the content of a device, by common magic numbers, so that people recognise it.
 *
 * @module
 */

import { isZero } from "../bytes.ts";
import { isBootSector } from "../format/boot.ts";
import { isExt } from "../format/ext.ts";
import { BUILDER_HEX0_PARTITION, GPT_PARTITION, readMbr } from "../format/mbr.ts";
import { isPayload } from "../format/payload.ts";
import type { ByteSource } from "../format/reader.ts";
import { MIB, SECTOR_BYTES } from "../format/segment.ts";

/** A format with its magic at an offset. */
interface Magic {
  readonly name: string;
  readonly offsetBytes: number;
  readonly bytes: string;
}

/** Known magics, in Latin-1. */
const MAGICS: readonly Magic[] = [
  { name: "LUKS", offsetBytes: 0, bytes: "LUKS\xba\xbe" },
  { name: "LVM member", offsetBytes: 512, bytes: "LABELONE" },
  { name: "RAID member", offsetBytes: 4096, bytes: "\xfc\x4e\x2b\xa9" },
  { name: "RAID member", offsetBytes: 0, bytes: "\xfc\x4e\x2b\xa9" },
  { name: "swap", offsetBytes: 4086, bytes: "SWAPSPACE2" },
  { name: "btrfs", offsetBytes: 65600, bytes: "_BHRfS_M" },
  { name: "ISO 9660", offsetBytes: 32769, bytes: "CD001" },
  { name: "XFS", offsetBytes: 0, bytes: "XFSB" },
  { name: "NTFS", offsetBytes: 3, bytes: "NTFS    " },
  { name: "exFAT", offsetBytes: 3, bytes: "EXFAT   " },
  { name: "FAT", offsetBytes: 82, bytes: "FAT32   " },
  { name: "FAT", offsetBytes: 54, bytes: "FAT1" },
  { name: "squashfs", offsetBytes: 0, bytes: "hsqs" },
];

/** A partition of a device. */
interface Run {
  readonly name: string;
  readonly startBytes: number;
  readonly sizeBytes: number;
}

/**
 * Describes the content of a device and of its partitions in a few words.
 *
 * @param partitions The partitions that the kernel has.
 */
export function describeContent(source: ByteSource, partitions: readonly Run[]): string {
  const own = contentAt(source, 0);
  const parts = partitions.map(({ name, startBytes }) =>
    `${name} ${contentAt(source, startBytes) ?? "unknown"}`
  );
  const whole = own ?? (isBlank(source) ? "zeros in its first MiB" : "unknown data");
  return [whole, ...parts].join("; ");
}

function contentAt(source: ByteSource, startBytes: number): string | undefined {
  const shifted: ByteSource = {
    name: source.name,
    sizeBytes: source.sizeBytes - startBytes,
    read: (offset, into) => source.read(startBytes + offset, into),
  };
  if (isPayload(shifted)) return "payload image";
  const zfs = zfsPool(shifted);
  if (zfs !== undefined) return `ZFS member${zfs === "" ? "" : ` of ${zfs}`}`;
  const found = MAGICS.find(({ offsetBytes, bytes }) =>
    latin1(shifted, offsetBytes, bytes.length) === bytes
  );
  if (found !== undefined) return found.name;
  // After those with longer magics: that of ext has two bytes.
  if (isExt(shifted)) return "ext2/3/4";
  return isBootSector(shifted) ? tableOf(shifted) : undefined;
}

/** Describes a sector that ends in 55 AA. */
function tableOf(source: ByteSource): string {
  if (latin1(source, SECTOR_BYTES, 8) === "EFI PART") return "GPT";
  const { types } = readMbr(source);
  if (types.includes(GPT_PARTITION)) return "GPT";
  if (types[0] === BUILDER_HEX0_PARTITION) return "boot image";
  return types.length === 0 ? "boot sector" : `MBR of ${types.length}`;
}

/** Offset and size of the name-value list in a ZFS label, and offset of its uberblocks. */
const ZFS_LIST_OFFSET_BYTES = 16 * 1024;
const ZFS_LIST_BYTES = 4096;
const ZFS_UBERBLOCK_OFFSET_BYTES = 128 * 1024;
const ZFS_UBERBLOCK = ["\x0c\xb1\xba\0\0\0\0\0", "\0\0\0\0\0\xba\xb1\x0c"];

/** Returns the pool name of a ZFS label; empty if it cannot be read, undefined without a label. */
export function zfsPool(source: ByteSource): string | undefined {
  const isLabel = [0, 1024, 4096, 8192].some((at) =>
    ZFS_UBERBLOCK.includes(latin1(source, ZFS_UBERBLOCK_OFFSET_BYTES + at, 8))
  );
  if (!isLabel) return undefined;
  // In XDR: the name "name", type 9 (string), one element, length, text.
  const list = latin1(source, ZFS_LIST_OFFSET_BYTES, ZFS_LIST_BYTES);
  // deno-lint-ignore no-control-regex -- XDR has its numbers in binary
  const match = /\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0(.)([\w.: -]+)/.exec(list);
  return match === null ? "" : match[2]!.slice(0, match[1]!.charCodeAt(0));
}

function isBlank(source: ByteSource): boolean {
  const first = new Uint8Array(Math.min(MIB, source.sizeBytes));
  return isZero(first.subarray(0, source.read(0, first)));
}

function latin1(source: ByteSource, offsetBytes: number, sizeBytes: number): string {
  const bytes = new Uint8Array(sizeBytes);
  const read = source.read(offsetBytes, bytes);
  return new TextDecoder("latin1").decode(bytes.subarray(0, read));
}
