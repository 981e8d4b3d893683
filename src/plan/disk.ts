// SPDX-License-Identifier: MIT
/**
 * Disks with a file system: the one for a kernel of the user, and the second one beside the boot
 * image.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import type { TreeEntry } from "../tree/entry.ts";
import { externalEntries } from "./entries.ts";
import { atMost, bySize, countByDirectory, largest, type Limit, unknownSizes } from "./limits.ts";
import type { BuildOptions } from "./options.ts";
import {
  DISK_IMAGE,
  EXTERNAL_IMAGE,
  type PlannedDisk,
  type PlannedDistfile,
  type PlannedEntry,
} from "./types.ts";

/** Default size of a disk; its file is sparse. */
const DISK_MIB = 16 * 1024;
/** Space before the partition of a disk that is made bootable later; 1 MiB only aligns it. */
const BOOT_ROOM_MIB = 1024;
const ALIGNED_MIB = 1;
/** A msdos partition table counts sectors of 512 bytes in 32 bits. */
const MOST_MIB = 2 * 1024 * 1024;

/** Parameters of ext3 here: the size of a block, and bytes of the disk per inode of 256 bytes. */
const BLOCK_BYTES = 4096;
const BYTES_PER_INODE = 16384;
const INODE_BYTES = 256;

/**
 * Plans the disk that a kernel of the user mounts as its root.
 *
 * @throws {UserError} "usage" if such a disk cannot have the size.
 */
export function bootDisk(
  { targetSizeMib }: Pick<BuildOptions, "targetSizeMib">,
  entries: readonly PlannedEntry[],
): PlannedDisk {
  const sizeMib = targetSizeMib === 0 ? DISK_MIB : targetSizeMib;
  if (sizeMib <= BOOT_ROOM_MIB || sizeMib > MOST_MIB) {
    throw new UserError("usage", `Cannot make a disk of ${sizeMib} MiB`, {
      hint: "With --kernel its partition starts at 1 GiB and ends by 2 TiB: --target-size 16G",
    });
  }
  return { name: DISK_IMAGE, sizeMib, partitionMib: BOOT_ROOM_MIB, entries };
}

/** Plans the second disk of a kernel bootstrap, for prebuilt packages. */
export function externalDisk(
  distfiles: readonly PlannedDistfile[],
  repo: readonly TreeEntry[],
): PlannedDisk {
  const entries = externalEntries(distfiles, repo);
  return { name: EXTERNAL_IMAGE, sizeMib: DISK_MIB, partitionMib: ALIGNED_MIB, entries };
}

/**
 * Returns the limits of a file system: space for its files without that of ext3 itself, inodes.
 *
 * @param unknown Number of files on it whose size is not known yet.
 */
export function fileSystemLimits(
  { name, sizeMib, partitionMib, entries }: PlannedDisk,
  unknown: number,
): Limit[] {
  const bytes = (sizeMib - partitionMib) * MIB;
  const inodes = Math.floor(bytes / BYTES_PER_INODE);
  // A file takes whole blocks, and for each of them four bytes of an indirect block.
  const blocks = entries.map(({ size }) => Math.ceil((size + size / 1024) / BLOCK_BYTES));
  const remedy = name === DISK_IMAGE
    ? "Use a larger --target-size"
    : "Remove packages from the directory given to --repo";
  return [
    atMost({
      id: "file-system",
      title: `bytes of files on ${name}`,
      unit: "bytes",
      used: blocks.reduce((sum, count) => sum + count, 0) * BLOCK_BYTES,
      limit: bytes - inodes * INODE_BYTES,
      ...unknownSizes(unknown),
      expected: 0,
      contributors: largest(bySize(entries)),
      remedy,
    }),
    atMost({
      id: "file-system",
      title: `files and directories on ${name}`,
      unit: "files",
      used: entries.length,
      limit: inodes,
      expected: 0,
      contributors: largest(countByDirectory(entries)),
      remedy,
    }),
  ];
}
