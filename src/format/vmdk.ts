// SPDX-License-Identifier: MIT
/**
 * VMDK: a descriptor that makes a raw image a disk of VMware and VirtualBox, without a copy.
 *
 *   # Disk DescriptorFile
 *   version=1
 *   CID=HEX{8}
 *   parentCID=ffffffff
 *   createType="monolithicFlat"
 *
 *   RW SECTORS FLAT "NAME" 0
 *
 *   ddb.adapterType = "ide"
 *   ddb.geometry.cylinders = "N"        and heads and sectors, as the BIOS of an old PC has them
 *   ddb.virtualHWVersion = "4"
 *
 * Source: VMware, "Virtual Disk Format 1.1", the parts on the descriptor.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { SECTOR_BYTES } from "./segment.ts";

const HEADS = 16;
const SECTORS_PER_TRACK = 63;
/** Of IDE; a larger disk has the same. */
const MOST_CYLINDERS = 16_383;

/**
 * Returns the text of a descriptor. The same image has the same one.
 *
 * @param name Path of the raw image, absolute, or relative to the descriptor.
 * @throws {UserError} "usage" for a size or a name that a descriptor cannot have.
 */
export function vmdkDescriptor(name: string, sizeBytes: number): string {
  if (sizeBytes === 0 || sizeBytes % SECTOR_BYTES !== 0) {
    throw new UserError("usage", `Cannot describe ${name} as VMDK: it has ${sizeBytes} bytes`, {
      where: name,
      hint: `A disk has whole sectors of ${SECTOR_BYTES} bytes`,
    });
  }
  if (/["\p{Cc}]/u.test(name)) {
    throw new UserError("usage", `Cannot describe ${JSON.stringify(name)} as VMDK`, {
      hint: "Its name has a quotation mark or a control character: rename it",
    });
  }
  const sectors = sizeBytes / SECTOR_BYTES;
  const cylinders = Math.min(MOST_CYLINDERS, Math.ceil(sectors / (HEADS * SECTORS_PER_TRACK)));
  return [
    "# Disk DescriptorFile",
    "version=1",
    // What a writer changes, so that a snapshot of another content is noticed.
    `CID=${(sectors % 0xffff_fffe).toString(16).padStart(8, "0")}`,
    "parentCID=ffffffff",
    'createType="monolithicFlat"',
    "",
    "# Extent description",
    `RW ${sectors} FLAT "${name}" 0`,
    "",
    "# The Disk Data Base",
    'ddb.adapterType = "ide"',
    `ddb.geometry.cylinders = "${cylinders}"`,
    `ddb.geometry.heads = "${HEADS}"`,
    `ddb.geometry.sectors = "${SECTORS_PER_TRACK}"`,
    'ddb.virtualHWVersion = "4"',
    "",
  ].join("\n");
}
