// SPDX-License-Identifier: MIT
/** A boot image with a payload on its disk, for the tests of readers. */
import { PAYLOAD_NUMBER } from "../../src/format/boot.ts";
import { DATA_PARTITION, withPartition } from "../../src/format/mbr.ts";
import { SECTOR_BYTES } from "../../src/format/segment.ts";

/** Puts a payload into the next sector after a boot image: without the MiB between, for speed. */
export function oneDisk(boot: Uint8Array, payload: Uint8Array): Uint8Array {
  const startSector = Math.ceil(boot.length / SECTOR_BYTES);
  const sectorCount = Math.ceil(payload.length / SECTOR_BYTES);
  const image = new Uint8Array((startSector + sectorCount) * SECTOR_BYTES);
  image.set(boot);
  image.set(payload, startSector * SECTOR_BYTES);
  const partition = { isBootable: false, type: DATA_PARTITION, startSector, sectorCount };
  image.set(withPartition(image.subarray(0, SECTOR_BYTES), PAYLOAD_NUMBER, partition));
  return image;
}
