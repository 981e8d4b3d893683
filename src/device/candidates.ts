// SPDX-License-Identifier: MIT
/**
 * Devices that could be written to, and why some must not be.
 *
 * @module
 */

import { closeSync, constants, openSync, readSync, realpathSync } from "node:fs";
import { systemCode, UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { attempting } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import { describeContent, zfsPool } from "./content.ts";
import { type BlockDevice, devOfPath, lookAtPath, readBlockDevices, text } from "./sysfs.ts";
import { type Tables, usesOf } from "./use.ts";

/** A device, what it holds, and what speaks against writing to it. */
export interface CandidateDevice extends BlockDevice {
  /** In a few words; empty where it cannot be read. */
  readonly content: string;
  /** Why it is refused; none where it is not. */
  readonly reasons: readonly string[];
}

/** Where an image can be written in place: a whole device, or a file that the user asked for. */
export type WriteTarget =
  | { readonly kind: "device"; readonly path: string; readonly device: CandidateDevice }
  | {
    readonly kind: "file";
    readonly path: string;
    readonly sizeBytes: number;
    readonly content: string;
  };

/** Every block device with a size, refused ones included, but no memory disks. */
export function readCandidates(): CandidateDevice[] {
  const all = readBlockDevices();
  const tables = readTables();
  return all.filter(({ name }) => !/^z?ram\d/.test(name))
    .map((device) => withReasons(device, all, tables));
}

/**
 * Looks at what an image is to be written to, and refuses what would do harm.
 *
 * @param path A device, links followed.
 * @param mayBeFile Whether the user means a regular file.
 * @throws {UserError} "target", with every reason.
 */
export function chooseTarget(path: string, mayBeFile: boolean): WriteTarget {
  const found = lookAtPath(path);
  switch (found.kind) {
    case "absent":
      throw refusal(path, ["there is no such device"], "seedstrap devices lists what there is");
    case "other":
      throw refusal(path, ["it is no block device"], "seedstrap devices lists those there are");
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
          "seedstrap write --file writes into one, where that is what you mean",
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
          "Unmount it, or end what uses it, if this really is the device to write to",
        );
      }
      return { kind: "device", path: device.path, device: candidate };
    }
  }
}

/**
 * Refuses an image that does not fit, or that lies on what it is to be written to.
 *
 * @param files Files that are read while the target is written.
 * @throws {UserError} "target"
 */
export function checkFit(target: WriteTarget, sizeBytes: number, files: readonly string[]): void {
  const { path } = target;
  const isDevice = target.kind === "device";
  const space = isDevice ? target.device.sizeBytes : target.sizeBytes;
  const sector = isDevice ? target.device.sectorBytes : 512;
  const own = isDevice ? target.device.detail : realpathSync(path);
  if (files.some((file) => file === path || realpathSync(file) === own)) {
    throw refusal(path, ["it is the image itself, or made of it"], "Name another device");
  }
  if (space < sizeBytes) {
    throw refusal(
      path,
      [`it has ${space} bytes, and the image has ${sizeBytes}`],
      "Use a larger device, or an image for bare metal, which has no zeros behind its data",
    );
  }
  if (sizeBytes === 0 || sizeBytes % sector !== 0) {
    throw refusal(
      path,
      [`the image has ${sizeBytes} bytes, which is no whole number of sectors of ${sector}`],
      "Use an image as seedstrap built it",
    );
  }
}

/** The error for a target that is not written to. */
export function refusal(path: string, reasons: readonly string[], hint: string): UserError {
  return new UserError("target", `Refused to write to ${path}: ${reasons.join("; ")}`, {
    where: path,
    hint,
  });
}

function fileTarget(path: string, sizeBytes: number): WriteTarget {
  const real = realpathSync(path);
  const loop = readBlockDevices().find(({ detail }) => detail === real);
  if (loop !== undefined) {
    throw refusal(path, [`${loop.name} is made of it`], `Write to ${loop.path}, or detach it`);
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

/** ZFS tells nobody which devices it uses, but which pools it has. */
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

/** Runs with the bytes of a device; undefined where it cannot be read, by right or by fault. */
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
      size: sizeBytes,
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
 * Runs what a kernel may refuse of a device, as {@link attempting} does.
 *
 * @param what What is done to it, such as `open`.
 */
export function onDevice<T>(path: string, what: string, run: () => T): T {
  return attempting(`${what} ${path}`, path, run, { hint: hintFor });
}

/** What to do about a system error of a device. */
export function hintFor(code: string): string {
  switch (code) {
    case "EBUSY":
      return "Something uses it: a mount (also in a container), swap, RAID, LVM, ZFS or a program";
    case "EACCES":
    case "EPERM":
      return "Writing to a device takes root: use sudo";
    case "EIO":
    case "EREMOTEIO":
    case "ENODATA":
    case "EILSEQ":
      return "The device fails: look at dmesg, and use another";
    case "ENXIO":
    case "ENODEV":
    case "ENOMEDIUM":
      return "The device is gone: attach it again";
    default:
      return "Look at dmesg";
  }
}
