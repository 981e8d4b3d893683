// SPDX-License-Identifier: MIT
/**
 * Devices that could be written to, and the reasons to refuse some.
 *
 * @module
 */

import { closeSync, constants, openSync, readSync } from "node:fs";
import process from "node:process";
import { systemCode, UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { attempting } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import { backingOf, filesAtAndUnder, filesUnder, identityOf } from "./backing.ts";
import { describeContent, zfsPool } from "./content.ts";
import { type BlockDevice, devOfPath, lookAtPath, readBlockDevices, text } from "./sysfs.ts";
import { type Tables, usesOf } from "./use.ts";

/** A device, its content, and the reasons not to write to it. */
export interface CandidateDevice extends BlockDevice {
  /** A short description of its content; empty where it cannot be read. */
  readonly content: string;
  /** Why it is refused; empty where it is not. */
  readonly reasons: readonly string[];
}

/** A target for an image: a whole device, or a file that the user asked for. */
export type WriteTarget =
  | { readonly kind: "device"; readonly path: string; readonly device: CandidateDevice }
  | {
    readonly kind: "file";
    readonly path: string;
    readonly sizeBytes: number;
    readonly content: string;
  };

/**
 * Refuses systems on which nothing is known of a drive and of who uses it.
 *
 * @throws {UserError} "target"
 */
function checkSystem(): void {
  if (process.platform === "linux") return;
  throw new UserError("target", "Cannot look at drives here: that needs the /sys of Linux", {
    hint: process.platform === "darwin"
      ? "Find the drive with diskutil list; diskutil unmountDisk diskN; " +
        "sudo dd if=IMAGE of=/dev/rdiskN bs=4m"
      : "Write the image with another program",
  });
}

/**
 * Lists the block devices with a size, also refused ones, without RAM disks.
 *
 * @throws {UserError} "target" on other systems than Linux.
 */
export function readCandidates(): CandidateDevice[] {
  checkSystem();
  const all = readBlockDevices();
  const tables = readTables();
  return all.filter(({ name }) => !/^z?ram\d/.test(name))
    .map((device) => withReasons(device, all, tables));
}

/**
 * Checks the target of a write, and refuses one that is in use or not meant.
 *
 * @param path A device, or a link to one.
 * @param mayBeFile Whether the user asked to write to a regular file.
 * @throws {UserError} "target", with every reason.
 */
export function chooseTarget(path: string, mayBeFile: boolean): WriteTarget {
  if (!mayBeFile) checkSystem();
  const found = lookAtPath(path);
  switch (found.kind) {
    case "absent":
      throw refusal(path, ["there is no such device"], "seedstrap devices lists the devices");
    case "other":
      throw refusal(path, ["it is not a block device"], "seedstrap devices lists the devices");
    case "partition":
      throw refusal(
        path,
        [`it is partition ${found.name} of ${found.disk}, and an image takes the whole disk`],
        `Name the disk: /dev/${found.disk}`,
      );
    case "file":
      if (!mayBeFile) {
        throw refusal(
          path,
          ["it is a regular file"],
          "To write into a regular file, use seedstrap write --file",
        );
      }
      return fileTarget(path, found.sizeBytes);
    case "disk": {
      if (mayBeFile) throw refusal(path, ["it is a block device"], "Leave --file out");
      const all = readBlockDevices();
      const device = all.find(({ name }) => name === found.name);
      if (device === undefined) {
        throw refusal(path, ["it has no medium"], "Insert one, or attach a file to it");
      }
      const candidate = withReasons(device, all, readTables());
      if (candidate.reasons.length > 0) {
        throw refusal(
          path,
          candidate.reasons,
          "If this really is the device to write to, unmount it or stop what uses it",
        );
      }
      return { kind: "device", path: device.path, device: candidate };
    }
  }
}

/**
 * Refuses an image that does not fit, or that is read from its own target.
 *
 * @param files Files that are read during the write.
 * @throws {UserError} "target"
 */
export function checkFit(
  target: WriteTarget,
  sizeBytes: number,
  files: readonly string[],
  leastBytes = 0,
): void {
  const { path } = target;
  const isDevice = target.kind === "device";
  const space = isDevice ? target.device.sizeBytes : target.sizeBytes;
  const sector = isDevice ? target.device.sectorBytes : 512;
  const own = isDevice ? filesUnder(target.device.name) : filesAtAndUnder(path);
  const read = own.size === 0 ? undefined : files.find((file) => own.has(identityOf(file)));
  if (read !== undefined) {
    const what = `it is the image itself, or backed by it: a write would change ${read}`;
    throw refusal(path, [what], "Name another device");
  }
  if (space < sizeBytes) {
    throw refusal(
      path,
      [`it has ${space} bytes, and the image has ${sizeBytes}`],
      "Use a larger device, or an image for bare metal, which has no zeros after its data",
    );
  }
  if (space < leastBytes) {
    throw refusal(
      path,
      [`it has ${space} bytes; with the system after the payload it needs ${leastBytes} at least`],
      "Use a larger device, or build without --one-disk",
    );
  }
  if (sizeBytes === 0 || sizeBytes % sector !== 0) {
    throw refusal(
      path,
      [`the image has ${sizeBytes} bytes, which is not a whole number of sectors of ${sector}`],
      "Use an image that seedstrap built, unchanged",
    );
  }
}

/** Reports whether two devices are one, or loop devices on one file. */
export function isSameDisk(a: WriteTarget, b: WriteTarget): boolean {
  if (a.path === b.path) return true;
  if (a.kind !== "device" || b.kind !== "device") return false;
  const files = backingOf(a.device.name);
  return [...backingOf(b.device.name)].some((file) => files.has(file));
}

/** Returns the error for a refused target. */
export function refusal(path: string, reasons: readonly string[], hint: string): UserError {
  return new UserError("target", `Refused to write to ${path}: ${reasons.join("; ")}`, {
    where: path,
    hint,
  });
}

function fileTarget(path: string, sizeBytes: number): WriteTarget {
  const own = identityOf(path);
  const loop = readBlockDevices().find(({ name }) => backingOf(name).has(own));
  if (loop !== undefined) {
    throw refusal(path, [`${loop.name} is backed by it`], `Write to ${loop.path}, or detach it`);
  }
  const content = withSource(path, sizeBytes, (source) => describeContent(source, []));
  return { kind: "file", path, sizeBytes, content: content ?? "" };
}

function withReasons(
  device: BlockDevice,
  all: readonly BlockDevice[],
  tables: Tables,
): CandidateDevice {
  const reasons = usesOf(device, all, tables);
  if (device.isReadOnly) reasons.push("it is read-only");
  if (/^sr\d/.test(device.name)) reasons.push("it is an optical drive");
  const content = withSource(device.path, device.sizeBytes, (source) => {
    reasons.push(...poolsInUse(source, device));
    return describeContent(source, device.partitions);
  });
  return { ...device, content: content ?? "", reasons };
}

/** Finds devices in use by ZFS, which shows its pools in /proc but not their devices. */
function poolsInUse(source: ByteSource, { name, partitions }: BlockDevice): string[] {
  const places = [{ name, startBytes: 0 }, ...partitions];
  return places.flatMap(({ name, startBytes }) => {
    const pool = zfsPool({
      ...source,
      read: (offset, into) => source.read(startBytes + offset, into),
    });
    if (!pool || statIfThere(`/proc/spl/kstat/zfs/${pool}`) === undefined) return [];
    return [`${name} is part of the ZFS pool ${pool}`];
  });
}

function readTables(): Tables {
  return {
    mountinfo: text("/proc/self/mountinfo"),
    swaps: text("/proc/swaps"),
    mdstat: text("/proc/mdstat"),
    devOfPath,
  };
}

/** Runs a function with the bytes of a device; returns undefined where it cannot be read. */
function withSource<T>(
  path: string,
  sizeBytes: number,
  use: (source: ByteSource) => T,
): T | undefined {
  let file: number | undefined;
  try {
    const opened = file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return use({
      name: path,
      sizeBytes,
      read: (offset, into) =>
        offset >= sizeBytes ? 0 : readSync(opened, into, 0, into.length, offset),
    });
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/**
 * Runs an operation on a device, as {@link attempting} does.
 *
 * @param what The operation, such as `open`.
 */
export function onDevice<T>(path: string, what: string, run: () => T): T {
  return attempting(`${what} ${path}`, path, run, { hint: hintFor });
}

/** Returns a hint for a system error of a device. */
export function hintFor(code: string): string {
  switch (code) {
    case "EBUSY":
      return "It is in use: by a mount (also in a container), swap, RAID, LVM, ZFS or a program";
    case "EACCES":
    case "EPERM":
      return "Writing to a device needs root: use sudo";
    case "EIO":
    case "EREMOTEIO":
    case "ENODATA":
    case "EILSEQ":
      return "The device is failing: check dmesg, and use another one";
    case "ENXIO":
    case "ENODEV":
    case "ENOMEDIUM":
      return "The device is gone: attach it again";
    default:
      return "Check dmesg";
  }
}
