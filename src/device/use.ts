// SPDX-License-Identifier: MIT
/**
 * Finds the users of a block device: mounts, swap, and devices that are stacked on it. Pure, over
 * the text of the tables in /proc.
 *
 * Other users, such as mounts in another namespace and ZFS pools, hold the device too, so that
 * opening it exclusively fails.
 *
 * @module
 */

import { unescapeName } from "../runtime/mounts.ts";
import type { BlockDevice } from "./sysfs.ts";

/** The tables of /proc. */
export interface Tables {
  /** Text of /proc/self/mountinfo. */
  readonly mountinfo: string;
  /** Text of /proc/swaps. */
  readonly swaps: string;
  /** Text of /proc/mdstat, empty where the kernel has no RAID. */
  readonly mdstat: string;
  /** Returns the numbers of a device file that the tables name, or undefined. */
  readonly devOfPath: (path: string) => string | undefined;
}

/** A device or partition in a stack of devices. */
interface Layer {
  readonly name: string;
  readonly dev: string;
  readonly holders: readonly string[];
}

/**
 * Returns the reasons why a disk must not be written to, such as `sda2 is mounted at /home`.
 *
 * @param all All devices, to look up holders.
 */
export function usesOf(
  disk: BlockDevice,
  all: readonly BlockDevice[],
  tables: Tables,
): string[] {
  const layers = layersOf(disk, all);
  const mounts = parseMounts(tables);
  const swaps = parseSwaps(tables);
  const members = parseMdstat(tables.mdstat);
  const reasons: string[] = [];
  const places = (layer: Layer) =>
    mounts.filter(({ devs }) => devs.includes(layer.dev)).map(({ place }) => place);
  if (layers.some((layer) => places(layer).includes("/"))) {
    reasons.push("the system runs from it");
  }
  for (const layer of layers) {
    const mounted = places(layer);
    if (mounted.length > 0) reasons.push(`${layer.name} is mounted at ${mounted.join(", ")}`);
    if (swaps.includes(layer.dev)) reasons.push(`${layer.name} is swap in use`);
    for (const holder of layer.holders) {
      reasons.push(`${layer.name} is part of ${describeHolder(holder, all)}`);
    }
    const array = members.get(layer.name);
    if (array !== undefined && !layer.holders.includes(array)) {
      reasons.push(`${layer.name} is part of ${array} (RAID)`);
    }
  }
  return reasons;
}

/** Returns a disk, its partitions, and all devices that are stacked on them. */
function layersOf(disk: BlockDevice, all: readonly BlockDevice[]): Layer[] {
  const layers: Layer[] = [];
  const add = (device: BlockDevice): void => {
    if (layers.some(({ name }) => name === device.name)) return;
    layers.push(device, ...device.partitions);
    for (const holder of [device, ...device.partitions].flatMap(({ holders }) => holders)) {
      const above = all.find(({ name }) => name === holder);
      if (above !== undefined) add(above);
    }
  };
  add(disk);
  return layers;
}

const KINDS: Readonly<Record<string, string>> = {
  LVM: "LVM volume",
  CRYPT: "dm-crypt volume",
  RAID: "RAID",
  mpath: "multipath device",
};

function describeHolder(name: string, all: readonly BlockDevice[]): string {
  // An array that is not started has no size, so that `all` does not have it.
  if (/^md[\d_]/.test(name)) return `${name} (RAID)`;
  const device = all.find((other) => other.name === name);
  if (device?.transport !== "dm" || device.detail === "") return name;
  const [kind = "", ...words] = device.detail.split(" ");
  const known = KINDS[kind];
  return `${name} (${known === undefined ? device.detail : `${known} ${words.join(" ")}`})`;
}

interface Mount {
  /** By number and by source: btrfs has anonymous numbers. */
  readonly devs: readonly string[];
  readonly place: string;
}

/** proc_pid_mountinfo(5): `36 35 98:0 /root /place options [tags] - type source options` */
function parseMounts({ mountinfo, devOfPath }: Tables): Mount[] {
  return mountinfo.split("\n").flatMap((line): Mount[] => {
    const words = line.split(" ");
    const [, , dev, , place] = words;
    if (dev === undefined || place === undefined) return [];
    const source = words[words.indexOf("-", 6) + 2] ?? "";
    const named = source.startsWith("/") ? devOfPath(unescapeName(source)) : undefined;
    return [{ devs: named === undefined ? [dev] : [dev, named], place: unescapeName(place) }];
  });
}

/** proc_swaps(5): a header, then `path type size used priority` */
function parseSwaps({ swaps, devOfPath }: Tables): string[] {
  return swaps.split("\n").slice(1).flatMap((line) => {
    const path = line.split(/\s/)[0] ?? "";
    return path.startsWith("/") ? devOfPath(unescapeName(path)) ?? [] : [];
  });
}

/** Parses lines such as `md0 : active raid1 sdb1[1] sda1[0]` to arrays by their members. */
function parseMdstat(mdstat: string): Map<string, string> {
  const members = new Map<string, string>();
  for (const line of mdstat.split("\n")) {
    const array = /^(md\S*) : /.exec(line)?.[1];
    if (array === undefined) continue;
    for (const [, member] of line.matchAll(/ (\S+?)\[\d+\]/g)) members.set(member!, array);
  }
  return members;
}
