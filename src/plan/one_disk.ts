// SPDX-License-Identifier: MIT
/**
 * Lays out a boot disk that has the payload and the system too (`--one-disk`).
 *
 *   0            boot sector, builder-hex0, srcfs
 *   next MiB     payload: partition 2
 *   1 GiB, or    system: partition 1, to the end of the disk
 *   the payload's end
 *
 * The payload has to be where all that write to the disk leave it alone until it is restored, and
 * where all that read it can:
 *
 *   - builder-hex0 reads the srcfs, and up to 1 MiB after it. It writes nothing.
 *   - Fiwix shows it as a partition. What is at 4 GiB or more of a partition reads as its
 *     beginning; where the partition itself is does not matter.
 *   - `jump: move_disk` makes a partition from 1 GiB to the end of a disk, and no other. The
 *     distfiles of live-bootstrap have more than 1 GiB. So `improve: one_disk`, which comes right
 *     before it, makes the partition after the payload, and a partition is all that it needs.
 *   - A boot loader that the system installs takes the sectors before the first partition.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { payloadEnds } from "../format/payload.ts";
import { MIB } from "../format/segment.ts";
import { isOfPayload, PAYLOAD_PATH, plainPath } from "../image/types.ts";
import type { TreeModel } from "../tree/model.ts";
import { bootDataBytes } from "./images.ts";
import { PARTITION_OFFSET_BYTES } from "./limits.ts";
import { type BuildOptions, hasExternalDisk, isPartitionName, startOf } from "./options.ts";
import { payloadSums, SUMS_NAME } from "./restore.ts";
import { type Boundaries } from "./split.ts";
import type {
  DiskPart,
  OneDisk,
  PayloadExtra,
  PlannedDistfile,
  PlannedEntry,
  PlannedRestore,
} from "./types.ts";

/**
 * Checks that one disk can have all.
 *
 * @throws {UserError} "usage"
 */
export function checkOneDisk(options: BuildOptions, tree: TreeModel): void {
  if (options.oneDisk !== true) return;
  const refuse = (why: string, hint: string) =>
    new UserError("usage", `Cannot use --one-disk${why}`, { hint });
  if (startOf(options) !== "builder-hex0") {
    const other = options.kernel === undefined ? options.mode : "kernel";
    throw refuse(` with --${other}`, "It is for machines that boot builder-hex0: leave it out");
  }
  if (options.disk !== undefined && isPartitionName(options.disk)) {
    throw refuse(
      ` with --disk ${options.disk}: improve: one_disk makes the partition of the system`,
      "Name the whole disk that has the payload, or leave --one-disk out",
    );
  }
  if (hasExternalDisk(options)) {
    throw refuse(
      " with --repo and --payload never: the packages are on a second disk with a file system",
      "Leave --payload never out: they are in the payload then",
    );
  }
  if (tree.ownImporter !== undefined && options.payload !== "never") {
    throw refuse(
      ": the checkout has an importer of its own, which may not look at partitions",
      "Leave it out: the payload is on a disk of its own then",
    );
  }
}

/** Returns where the partition of the system begins, for a payload that ends at an offset. */
function systemStart(payloadEndBytes: number): number {
  return Math.max(PARTITION_OFFSET_BYTES, payloadEndBytes);
}

/** Returns the size that a disk has at least, for a payload that ends at an offset of it. */
export function leastDiskBytes(payloadEndBytes: number): number {
  return systemStart(payloadEndBytes) + MIB;
}

/** What a disk is laid out by. */
export interface OneDiskInput {
  readonly stage2Bytes: number;
  /** Of the boot image. */
  readonly entries: readonly PlannedEntry[];
  readonly distfiles: readonly PlannedDistfile[];
  readonly extras: readonly PayloadExtra[];
  readonly restore: PlannedRestore;
  readonly boundaries: Boundaries;
}

/**
 * Lays out a disk; sizes that are not known count as 0, as everywhere in a plan.
 *
 * @throws {UserError} "tree" for a file in the boot image where readers show the payload.
 */
export function layOutDisk(
  { stage2Bytes, entries, distfiles, extras, restore, boundaries }: OneDiskInput,
): OneDisk {
  const inTheWay = entries.find(({ path }) => isOfPayload(plainPath(path)));
  if (inTheWay !== undefined) {
    throw new UserError("tree", `Cannot use --one-disk: the boot image has ${inTheWay.path}`, {
      where: inTheWay.path,
      hint: `Files of the payload on a boot disk are shown below ${PAYLOAD_PATH}/: leave it out`,
    });
  }
  const payloadStartBytes = bootDataBytes(stage2Bytes, entries);
  const payloadEndBytes = payloadStartBytes + payloadBytes(distfiles, extras, restore);
  const systemStartBytes = systemStart(payloadEndBytes);
  const isInstalled = boundaries.moveDisk !== Infinity;
  const loader = isInstalled ? "a boot loader that the system installs" : "nothing";
  const parts: DiskPart[] = [
    {
      what: "boot sector",
      startBytes: 0,
      endBytes: 512,
      readBy: "the BIOS; the kernels read its table of partitions",
      writtenBy: isInstalled ? `improve: one_disk (the table); ${loader}` : loader,
    },
    {
      what: "builder-hex0, srcfs",
      startBytes: 512,
      endBytes: payloadStartBytes,
      readBy: "builder-hex0, before the first step",
      writtenBy: loader,
    },
    {
      what: "payload (partition 2)",
      startBytes: payloadStartBytes,
      endBytes: payloadEndBytes,
      readBy: readersOf(distfiles, extras),
      writtenBy: "nothing",
    },
  ];
  if (!isInstalled) return { payloadStartBytes, payloadEndBytes, parts };
  if (payloadEndBytes < systemStartBytes) {
    parts.push({
      what: "free",
      startBytes: payloadEndBytes,
      endBytes: systemStartBytes,
      readBy: "nothing",
      writtenBy: "nothing",
    });
  }
  parts.push({
    what: "system (partition 1)",
    startBytes: systemStartBytes,
    readBy: "Linux, from jump: move_disk on",
    writtenBy: "improve: one_disk, which makes it; then Linux",
  });
  return { payloadStartBytes, payloadEndBytes, systemStartBytes, parts };
}

/** Returns the size of a payload image: a whole number of MiB. */
function payloadBytes(
  distfiles: readonly PlannedDistfile[],
  extras: readonly PayloadExtra[],
  restore: PlannedRestore,
): number {
  const carried = [...distfiles.filter(({ place }) => place === "payload"), ...extras]
    .map(({ name, size }) => ({ name, sizeBytes: size ?? 0 }));
  if (restore.importer === "overlay") {
    const sizeBytes = new TextEncoder().encode(payloadSums(distfiles)).length;
    carried.push({ name: SUMS_NAME, sizeBytes });
  }
  const end = Math.max(...payloadEnds(carried, restore.layout).values());
  return Math.ceil(end / MIB) * MIB;
}

function readersOf(
  distfiles: readonly PlannedDistfile[],
  extras: readonly PayloadExtra[],
): string {
  const isRestored = (where: "fiwix" | "disk") =>
    distfiles.some(({ restored }) => restored === where);
  return [
    ...(isRestored("fiwix") ? ["Fiwix, after jump: fiwix"] : []),
    ...(isRestored("disk") || extras.length > 0 ? ["Linux, after jump: move_disk"] : []),
  ].join("; ");
}
