// SPDX-License-Identifier: MIT
/**
 * Checks the room that a target needs: for what is built, and for what the run adds to it.
 *
 * @module
 */

import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { UserError } from "../errors.ts";
import { GIB, MIB } from "../format/segment.ts";
import { bootDataBytes, type Located } from "../plan/images.ts";
import { type BuildOptions, startsInDirectory } from "../plan/options.ts";
import { neededDistfiles } from "../plan/plan.ts";
import type { Plan } from "../plan/types.ts";
import { writing } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import { counted, formatBytes } from "../text.ts";
import { absent, doubtful, type Finding, good } from "./check.ts";

/** What is free on a file system. */
export interface Space {
  readonly freeBytes: number;
  /** Infinity where the file system makes them as they are needed. */
  readonly freeInodes: number;
}

/** @throws {UserError} "target" */
export function spaceAt(dir: string): Space {
  const { bavail, bsize, files, ffree } = writing(dir, () => statfsSync(dir), "--target");
  return { freeBytes: bavail * bsize, freeInodes: files === 0 ? Infinity : ffree };
}

/** What a bootstrap needs. */
export interface SpaceNeed {
  /** Bytes that the build writes to the target, and downloads to the same file system. */
  readonly buildBytes: number;
  /** Bytes that it downloads to another file system. */
  readonly storeBytes: number;
  /** Number of files among them whose size is unknown; they count as empty. */
  readonly unknownSizes: number;
  /** Bytes that the run may add. */
  readonly runBytes: number;
  /** Size of the largest image, with its holes. */
  readonly largestBytes: number;
  readonly files: number;
}

/** A bootstrap in a directory or a container has room in a tmpfs of this size, the default of rootfs.py. */
const DIRECTORY_BYTES = 8 * GIB;

/**
 * Computes what a bootstrap needs.
 *
 * @param planned The plan, and the distfiles on this machine; undefined where there is no checkout.
 * @param dir A directory on the file system of the target.
 * @param store Directory for downloads.
 */
export function spaceNeed(
  options: BuildOptions,
  planned: { readonly plan: Plan; readonly located: Located } | undefined,
  { dir, store }: { readonly dir: string; readonly store: string },
): SpaceNeed {
  const diskBytes = options.targetSizeMib * MIB;
  const isDirectory = startsInDirectory(options.mode);
  const isContainer = options.mode === "container";
  // On a real machine the run writes to its own drives, and the disk has no size here.
  const grownBytes = isDirectory || isContainer ? DIRECTORY_BYTES : diskBytes;
  if (planned === undefined) {
    const none = { buildBytes: 0, storeBytes: 0, unknownSizes: 0, files: 0 };
    return { ...none, runBytes: grownBytes, largestBytes: diskBytes };
  }
  const { plan, located } = planned;
  const media = mediaBytes(plan);
  const lacking = neededDistfiles(plan).filter(({ name }) => !located.has(name));
  const download = totalOf(lacking);
  const isSame = deviceOf(store) === deviceOf(dir);
  return {
    buildBytes: media + (isSame ? download : 0),
    storeBytes: isSame ? 0 : download,
    unknownSizes: lacking.filter(({ size }) => size === null).length,
    // The disk that the run fills has the files of the build in it.
    runBytes: isDirectory || isContainer ? grownBytes : Math.max(0, grownBytes - media),
    largestBytes: isDirectory ? 0 : Math.max(diskBytes, media, (plan.disk?.sizeMib ?? 0) * MIB),
    files: plan.entries.length,
  };
}

/** Bytes that a build writes to its target. */
function mediaBytes(plan: Plan): number {
  if (plan.start === "directory" || plan.start === "container") return totalOf(plan.entries);
  // The files of a disk are beside it until they are in it.
  const disk = plan.disk === undefined ? 0 : 2 * totalOf(plan.disk.entries);
  if (plan.start === "disk") return disk;
  const payload = plan.distfiles.filter(({ place }) => place === "payload");
  return disk + bootDataBytes(plan.stage2.length, plan.entries) + totalOf(payload) +
    totalOf(plan.extras ?? []);
}

function totalOf(files: readonly { readonly size: number | null }[]): number {
  return files.reduce((sum, { size }) => sum + (size ?? 0), 0);
}

function deviceOf(path: string): number | undefined {
  return statIfThere(nearestDirectory(path))?.dev;
}

/** Returns a directory, or the nearest one above it that is there. */
export function nearestDirectory(path: string): string {
  for (let dir = path;; dir = dirname(dir)) {
    try {
      if (statIfThere(dir)?.isDirectory() === true || dir === dirname(dir)) return dir;
    } catch (error) {
      // One that this user may not enter: what is above it says that.
      if (!(error instanceof UserError)) throw error;
    }
  }
}

/** Checks the room for a build and a run. */
export function checkSpaceFor(
  { freeBytes }: Space,
  { buildBytes, unknownSizes, runBytes }: SpaceNeed,
): Finding {
  const wants = [
    ...buildBytes > 0 ? [`the build writes ${amountOf(buildBytes, unknownSizes)}`] : [],
    ...runBytes > 0 ? [`the run up to ${formatBytes(runBytes)}`] : [],
  ];
  const seen = `${formatBytes(freeBytes)} free; ${wants.join(", ")}`;
  const remedy = "Free some space there, or name another --target";
  if (freeBytes < buildBytes) return absent(seen, remedy);
  return freeBytes < buildBytes + runBytes ? doubtful(seen, remedy) : good(seen);
}

/** Checks the room for downloads. */
export function checkStoreSpace(
  { freeBytes }: Space,
  { storeBytes, unknownSizes }: SpaceNeed,
): Finding {
  const seen = `${formatBytes(freeBytes)} free; ${amountOf(storeBytes, unknownSizes)} to download`;
  return freeBytes < storeBytes
    ? absent(seen, "Free some space there, or name another --store")
    : good(seen);
}

function amountOf(bytes: number, unknownSizes: number): string {
  if (unknownSizes === 0) return formatBytes(bytes);
  return `at least ${formatBytes(bytes)} (${counted(unknownSizes, "size")} unknown)`;
}

/** Checks that there are inodes for what a build makes. */
export function checkInodes({ freeInodes }: Space, { files }: SpaceNeed): Finding {
  if (freeInodes === Infinity) return good("no limit");
  const seen = `${freeInodes} free; the build makes ${counted(files, "file")}`;
  return freeInodes < files ? absent(seen, "Name another --target") : good(seen);
}
