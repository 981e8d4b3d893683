// SPDX-License-Identifier: MIT
/**
 * The block devices of this machine, from /sys only.
 *
 * Source: Documentation/ABI/stable/sysfs-block of Linux. Sizes there are in sectors of 512 bytes,
 * whatever the sector size of the device.
 *
 * @module
 */

import { readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import { orRefused, systemCode, UserError } from "../errors.ts";
import { SECTOR_BYTES } from "../format/segment.ts";
import { statIfThere } from "../runtime/stat.ts";

/** How a device is attached. */
export type Transport =
  | "usb"
  | "sata"
  | "nvme"
  | "mmc"
  | "virtio"
  | "scsi"
  | "loop"
  | "dm"
  | "md"
  | "other";

/** A partition of a disk as the kernel has it. */
export interface Partition {
  /** `sdb1` */
  readonly name: string;
  /** `8:17` */
  readonly dev: string;
  readonly startBytes: number;
  readonly sizeBytes: number;
  /** Names of devices that are stacked on it: LVM, RAID, dm-crypt, and loop devices. */
  readonly holders: readonly string[];
}

/** A block device that is not a partition. */
export interface BlockDevice {
  /** The kernel's name, such as `sdb`. */
  readonly name: string;
  /** `/dev/sdb` */
  readonly path: string;
  /** Major and minor number, `8:16`. */
  readonly dev: string;
  readonly sizeBytes: number;
  /** Smallest unit of a read or write. */
  readonly sectorBytes: number;
  readonly isReadOnly: boolean;
  /** Empty where the device has none. */
  readonly model: string;
  /** Empty where the device has none. */
  readonly serial: string;
  readonly transport: Transport;
  readonly partitions: readonly Partition[];
  /** Names of devices that are stacked on the whole disk. */
  readonly holders: readonly string[];
  /** Changes when the name gets another disk, or the loop device another file. */
  readonly identity: string;
  /** The backing file of a loop device, or the kind and the name of a device-mapper device. */
  readonly detail: string;
}

const SYS_BLOCK = "/sys/block";

/** Lists the block devices that have a size; loop devices thus only if a file is attached. */
export function readBlockDevices(): BlockDevice[] {
  const names = listed(SYS_BLOCK).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const loops = loopsOnDevices(names);
  return names.map((name) => readDevice(name, loops)).filter(({ sizeBytes }) => sizeBytes > 0);
}

/** The kind of file at a path. */
export type DeviceFile =
  | { readonly kind: "disk"; readonly name: string }
  | { readonly kind: "partition"; readonly name: string; readonly disk: string }
  | { readonly kind: "file"; readonly sizeBytes: number }
  | { readonly kind: "absent" | "other" };

/**
 * Returns the kind of file at a path; follows links.
 *
 * @throws {UserError} "target" where it cannot be examined.
 */
export function lookAtPath(path: string): DeviceFile {
  const stat = orRefused(
    () => statIfThere(path),
    (code, cause) =>
      new UserError("target", `Cannot examine ${path}: ${code}`, { where: path, cause }),
  );
  if (stat === undefined) return { kind: "absent" };
  if (stat.isFile()) return { kind: "file", sizeBytes: stat.size };
  if (!stat.isBlockDevice()) return { kind: "other" };
  try {
    const dir = realpathSync(`/sys/dev/block/${devOf(stat.rdev)}`);
    const parts = dir.split("/");
    const name = parts.at(-1)!;
    return text(join(dir, "partition")) === ""
      ? { kind: "disk", name }
      : { kind: "partition", name, disk: parts.at(-2)! };
  } catch {
    // A device file without a device.
    return { kind: "absent" };
  }
}

/** Formats the numbers of a device file as /sys and /proc do. */
export function devOf(rdev: number): string {
  const major = Math.floor(rdev / 0x100) % 0x1000;
  const minor = rdev % 0x100 + Math.floor(rdev / 0x100000) * 0x100;
  return `${major}:${minor}`;
}

/** Returns the numbers of a block device by path; undefined for other files, and on errors. */
export function devOfPath(path: string): string | undefined {
  try {
    const stat = statSync(path);
    return stat.isBlockDevice() ? devOf(stat.rdev) : undefined;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}

function readDevice(name: string, loops: ReadonlyMap<string, readonly string[]>): BlockDevice {
  const dir = join(SYS_BLOCK, name);
  const holdersOf = (path: string, dev: string) => [
    ...listed(join(path, "holders")),
    ...loops.get(dev) ?? [],
  ];
  const bytes = (path: string) => Number(text(path)) * SECTOR_BYTES;
  const partitions = listed(dir).flatMap((entry): Partition[] => {
    const path = join(dir, entry);
    if (!entry.startsWith(name) || text(join(path, "partition")) === "") return [];
    const dev = text(join(path, "dev"));
    const startBytes = bytes(join(path, "start"));
    const sizeBytes = bytes(join(path, "size"));
    return [{ name: entry, dev, startBytes, sizeBytes, holders: holdersOf(path, dev) }];
  });
  const dev = text(join(dir, "dev"));
  const serial = serialOf(dir);
  const sizeBytes = bytes(join(dir, "size"));
  // The kernel writes "!" for a slash in a name.
  const path = `/dev/${name.replaceAll("!", "/")}`;
  return {
    name,
    path,
    dev,
    sizeBytes,
    sectorBytes: Number(text(join(dir, "queue/logical_block_size"))) || SECTOR_BYTES,
    isReadOnly: text(join(dir, "ro")) === "1",
    model: modelOf(dir),
    serial,
    transport: transportOf(name, realpath(dir)),
    partitions: partitions.sort((a, b) => a.startBytes - b.startBytes),
    holders: holdersOf(dir, dev),
    // diskseq, since Linux 5.15, is a number that no other disk ever had.
    identity: [dev, sizeBytes, serial, text(join(dir, "diskseq"))].join(" "),
    detail: text(join(dir, "loop/backing_file")) ||
      [text(join(dir, "dm/uuid")).split("-")[0], text(join(dir, "dm/name"))].filter(Boolean)
        .join(" "),
  };
}

/** Maps numbers of block devices to the loop devices on them, which `holders` does not list. */
function loopsOnDevices(names: readonly string[]): Map<string, string[]> {
  const loops = new Map<string, string[]>();
  for (const name of names) {
    const backing = text(join(SYS_BLOCK, name, "loop/backing_file"));
    const dev = backing === "" ? undefined : devOfPath(backing);
    if (dev === undefined) continue;
    loops.set(dev, [...loops.get(dev) ?? [], name]);
  }
  return loops;
}

function modelOf(dir: string): string {
  const vendor = text(join(dir, "device/vendor"));
  const model = text(join(dir, "device/model")) || text(join(dir, "device/name"));
  // The vendor is "ATA" for every SATA disk, and a number with PCI and virtio.
  return vendor === "ATA" || vendor.startsWith("0x") ? model : `${vendor} ${model}`.trim();
}

/** Returns the serial number: from the driver, from SCSI's page 80h, or from the USB device. */
function serialOf(dir: string): string {
  const told = text(join(dir, "serial")) || text(join(dir, "device/serial")) ||
    text(join(dir, "device/vpd_pg80"), 4);
  if (told !== "") return told;
  const path = realpath(dir).split("/");
  for (let length = path.length; length > 3; length--) {
    const above = path.slice(0, length).join("/");
    if (text(join(above, "idVendor")) !== "") return text(join(above, "serial"));
  }
  return "";
}

const TRANSPORTS: readonly (readonly [RegExp, Transport])[] = [
  [/\/usb\d/, "usb"],
  [/\/nvme\d/, "nvme"],
  [/\/mmc_host\//, "mmc"],
  [/\/virtio\d/, "virtio"],
  [/\/ata\d/, "sata"],
  [/\/host\d/, "scsi"],
  [/\/virtual\/block\/loop/, "loop"],
  [/\/virtual\/block\/dm-/, "dm"],
  [/\/virtual\/block\/md/, "md"],
];

function transportOf(name: string, path: string): Transport {
  return TRANSPORTS.find(([pattern]) => pattern.test(path))?.[1] ??
    (name.startsWith("nvme") ? "nvme" : "other");
}

function realpath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Lists the names in a directory; none where it is missing. */
export function listed(dir: string): string[] {
  try {
    return statSync(dir).isDirectory() ? readdirSync(dir) : [];
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return [];
  }
}

/** Reads a file of /sys or /proc, and trims it; empty where it cannot be read. */
export function text(path: string, skipBytes = 0): string {
  try {
    const bytes = readFileSync(path).subarray(skipBytes);
    return new TextDecoder().decode(bytes).replaceAll("\0", "").trim();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return "";
  }
}
