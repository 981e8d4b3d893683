// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import type { BlockDevice } from "../../src/device/sysfs.ts";
import { type Tables, usesOf } from "../../src/device/use.ts";

/** A disk `NAME` with the number N:0 and partitions N:1, ... with these holders. */
function disk(name: string, major: number, ...holders: string[][]): BlockDevice {
  return {
    name,
    path: `/dev/${name}`,
    dev: `${major}:0`,
    sizeBytes: 1e9,
    sectorBytes: 512,
    isReadOnly: false,
    model: "",
    serial: "",
    transport: name.startsWith("dm") ? "dm" : name.startsWith("md") ? "md" : "sata",
    partitions: holders.map((holders, index) => ({
      name: `${name}${index + 1}`,
      dev: `${major}:${index + 1}`,
      startBytes: 0,
      sizeBytes: 1e8,
      holders,
    })),
    holders: [],
    detail: "",
    identity: "",
  };
}

/** From a Debian with root on LVM on dm-crypt, and a disk with btrfs. */
const MOUNTINFO = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw
30 22 0:26 / /dev/shm rw shared:4 - tmpfs tmpfs rw
40 22 0:44 /@ /mnt/a\\040b rw shared:9 - btrfs /dev/sdc1 rw,subvolid=256
41 22 8:1 / /boot rw - ext4 /dev/sda1 rw`;

const TABLES: Tables = {
  mountinfo: MOUNTINFO,
  swaps: "Filename\tType\tSize\tUsed\tPriority\n/dev/sdd2    partition\t1\t0\t-2\n/swap file\t1\n",
  mdstat:
    "Personalities : [raid1]\nmd127 : inactive sde1[1](S) sde3[0](S)\n      1 blocks\n\nunused",
  devOfPath: (path) =>
    ({ "/dev/sdc1": "10:1", "/dev/sdd2": "11:2", "/dev/mapper/vg-root": "254:1" })[path],
};

const CRYPT = { ...disk("dm-0", 253), holders: ["dm-1"], detail: "CRYPT sda2_crypt" };
const ROOT = { ...disk("dm-1", 254), dev: "254:1", detail: "LVM vg-root" };
const SDA = disk("sda", 8, [], ["dm-0"]);
const ALL = [SDA, CRYPT, ROOT];

test("usesOf() finds the system's disk below LVM on dm-crypt", () => {
  expect(usesOf(SDA, ALL, TABLES)).toEqual([
    "the system runs from it",
    "sda1 is mounted at /boot",
    "sda2 is part of dm-0 (dm-crypt volume sda2_crypt)",
    "dm-0 is part of dm-1 (LVM volume vg-root)",
    "dm-1 is mounted at /",
  ]);
});

test("usesOf() goes by the source of a mount if its number is anonymous", () => {
  expect(usesOf(disk("sdc", 10, []), ALL, TABLES)).toEqual(["sdc1 is mounted at /mnt/a b"]);
});

test("usesOf() knows swap on a partition", () => {
  expect(usesOf(disk("sdd", 11, [], []), ALL, TABLES)).toEqual(["sdd2 is swap in use"]);
});

test("usesOf() knows members of an array that is not started", () => {
  expect(usesOf(disk("sde", 12, [], [], []), ALL, TABLES)).toEqual([
    "sde1 is part of md127 (RAID)",
    "sde3 is part of md127 (RAID)",
  ]);
  const held = { ...disk("sdg", 14), holders: ["md127"] };
  expect(usesOf(held, [held], TABLES)).toEqual(["sdg is part of md127 (RAID)"]);
});

test("usesOf() has no reason against an unused disk", () => {
  expect(usesOf(disk("sdf", 13, [], []), ALL, TABLES)).toEqual([]);
});

test("usesOf() terminates where devices hold each other", () => {
  const a = { ...disk("dm-3", 3), holders: ["dm-4"] };
  const b = { ...disk("dm-4", 4), holders: ["dm-3"] };
  expect(usesOf(a, [a, b], TABLES)).toEqual(["dm-3 is part of dm-4", "dm-4 is part of dm-3"]);
});
