// SPDX-License-Identifier: MIT
/**
 * The limits of the machine that will run the bootstrap, and how close a plan comes to them.
 *
 * Past a limit of builder-hex0 its README promises "a random, mysterious failure", mostly hours
 * into the run; so they are checked before anything is written.
 *
 * @module
 */

import { GIB, MIB } from "../format/segment.ts";
import type { FiwixSizes } from "../tree/model.ts";

/** Files and directories that builder-hex0 can know, those made while it runs included. */
export const MAX_FILES = 14_332;
/** Bytes of its file store: 0x54000000 to 0xC0000000. */
export const FILE_STORE_BYTES = 0xc0000000 - 0x54000000;
/** Memory that builder-hex0 needs. */
export const MEMORY_MIB = 4096;
/** Fiwix silently returns the beginning of a disk for what lies here and beyond. */
export const FIWIX_DISK_BYTES = 4 * GIB;
/** `jump: move_disk` puts the partition of the finished system here: sector 2,097,152. */
export const PARTITION_OFFSET_BYTES = GIB;

/** What the steps themselves take of limits. */
export interface StepCosts {
  /** Files and directories that are made in builder-hex0 before the jump. */
  readonly files: number;
  /** Bytes that they hold; at least so many are on the Fiwix ramdisk too. */
  readonly bytes: number;
  /** Bytes of the kexec ramdisk that the kernel and the root without distfiles take. */
  readonly kexecBytes: number;
}

/**
 * The costs of live-bootstrap's own steps, measured at commit 984b8322: a bootstrap in a chroot to
 * the end of kexec-fiwix-1.0 opened 5,867 files to be made or made anew and made 499 directories;
 * its root grew by 88,667,811 bytes. steps/jump/fiwix.sh says "as of 2024-05-27" that initramfs
 * (about 183 MiB, some 4 of them distfiles) and kernel (10.5 MiB) go into the kexec ramdisk.
 */
export const LIVE_BOOTSTRAP_COSTS: StepCosts = {
  files: 5_867 + 499,
  bytes: 88_667_811,
  kexecBytes: 189.5 * MIB,
};

/** Something that takes part of a limit. */
export interface Contributor {
  readonly name: string;
  /** In the unit of the limit. */
  readonly amount: number;
}

/** One limit of a plan. */
export interface Limit {
  readonly id:
    | "files"
    | "file-store"
    | "path"
    | "memory"
    | "fiwix-ramdisk"
    | "kexec-ramdisk"
    | "fiwix-disk"
    | "disk"
    | "file-system";
  /** What is limited, in a few words. */
  readonly title: string;
  readonly unit: "files" | "bytes" | "MiB";
  /** What the plan takes; a lower bound where sizes are not known yet. */
  readonly used: number;
  /** What there is. For `memory` and `disk` it is the least that will do, otherwise the most. */
  readonly limit: number;
  /** What the run itself will take on top: an estimate, 0 where there is none. */
  readonly expected: number;
  /** Certain to fail: `used` alone is too much. */
  readonly broken: boolean;
  /** Likely to fail: not broken, but `used` and `expected` together are too much. */
  readonly near: boolean;
  /** What is not in the figures. */
  readonly note?: string;
  /** The five that take most, largest first. */
  readonly contributors: readonly Contributor[];
  /** What helps where it is broken. */
  readonly remedy: string;
}

/** What the limits are computed from. */
export interface LimitInput {
  /** Entries of the boot image; a directory has size 0. */
  readonly entries: readonly { readonly path: string; readonly size: number }[];
  /** Number of files and directories that the commands behind them make. */
  readonly seedFiles: number;
  /** What is restored from the payload while Fiwix runs, with its place in the payload image. */
  readonly restored: readonly Contributor[];
  /** Offset behind the last of these in the payload image; 0 without a payload. */
  readonly restoredEnd: number;
  /** Distfiles on the Fiwix ramdisk that `improve: clean_sources` keeps. */
  readonly surviving: readonly Contributor[];
  /** Absent where the manifest does not jump to Fiwix. */
  readonly fiwix: FiwixSizes | undefined;
  /** Whether the manifest installs to the boot disk. */
  readonly movesToDisk: boolean;
  /** Memory of the guest; undefined on bare metal. */
  readonly ramMib: number | undefined;
  /** Size of the boot disk and of what is written to it; undefined on bare metal. */
  readonly disk: { readonly sizeBytes: number; readonly dataBytes: number } | undefined;
  /** What the steps take on top; undefined where nothing is known of them. */
  readonly costs: StepCosts | undefined;
  /** Option that moves distfiles out of the boot image; undefined where they are out already. */
  readonly payloadHelps: boolean;
}

/** Computes every limit that applies. */
export function computeLimits(input: LimitInput): Limit[] {
  const smaller = input.payloadHelps
    ? "Use --payload always: it moves distfiles out of the boot image onto a disk of their own"
    : "Take files that do not belong there out of seed/ and steps/ of the checkout";
  const limits: Limit[] = [
    atMost({
      id: "files",
      title: "files and directories in builder-hex0",
      unit: "files",
      used: input.entries.length + input.seedFiles,
      limit: MAX_FILES,
      expected: input.costs?.files ?? 0,
      note: onTop(input.costs?.files, "what the steps make before the jump"),
      contributors: largest(countByDirectory(input.entries)),
      remedy: smaller,
    }),
    fileStore(input, smaller),
    longestPath(input),
  ];
  if (input.ramMib !== undefined) {
    limits.push({
      id: "memory",
      title: "memory that builder-hex0 needs",
      unit: "MiB",
      used: input.ramMib,
      limit: MEMORY_MIB,
      expected: 0,
      broken: input.ramMib < MEMORY_MIB,
      near: false,
      contributors: [],
      remedy: `Use --qemu-ram ${MEMORY_MIB} or more`,
    });
  }
  if (input.fiwix !== undefined) limits.push(...fiwixLimits(input, input.fiwix));
  if (input.disk !== undefined) limits.push(diskLimit(input, input.disk));
  return limits;
}

function fileStore(input: LimitInput, remedy: string): Limit {
  const initrd = input.fiwix?.ramdiskBytes ?? 0;
  return atMost({
    id: "file-store",
    title: initrd > 0
      ? "bytes of files in builder-hex0, beside the Fiwix ramdisk"
      : "bytes of files in builder-hex0",
    unit: "bytes",
    used: total(bySize(input.entries)),
    limit: Math.max(0, FILE_STORE_BYTES - initrd),
    expected: input.costs?.bytes ?? 0,
    note: onTop(input.costs?.bytes, "what the steps build"),
    contributors: largest(bySize(input.entries)),
    remedy,
  });
}

function longestPath(input: LimitInput): Limit {
  const encoder = new TextEncoder();
  const lengths = input.entries.map(({ path }) => ({
    name: path,
    amount: encoder.encode(path).length + 1,
  }));
  const longest = largest(lengths).slice(0, 1);
  return atMost({
    id: "path",
    title: "longest file name with its NUL",
    unit: "bytes",
    used: longest[0]?.amount ?? 0,
    limit: 1024,
    expected: 0,
    contributors: longest,
    remedy: "Shorten the name",
  });
}

/** What is on a ramdisk, in bytes. */
export interface RamdiskUse {
  readonly used: number;
  /** What the steps take on top, by an estimate; 0 where nothing is known of them. */
  readonly expected: number;
  readonly limit: number;
}

/**
 * What is on the two ramdisks of the Fiwix jump: the root of Fiwix, and at `jump: linux` what is
 * packed for the kernel.
 *
 * @param root Files of the boot image, and what is restored while Fiwix runs.
 * @param surviving Distfiles among these that `improve: clean_sources` keeps.
 */
export function ramdiskUse(
  { ramdiskBytes, kexecBytes }: FiwixSizes,
  root: readonly Contributor[],
  surviving: readonly Contributor[],
  costs: StepCosts | undefined,
): Readonly<Record<"ramdisk" | "kexec", RamdiskUse>> {
  return {
    ramdisk: { used: total(root), expected: costs?.bytes ?? 0, limit: ramdiskBytes },
    kexec: { used: total(surviving), expected: costs?.kexecBytes ?? 0, limit: kexecBytes },
  };
}

function fiwixLimits(input: LimitInput, fiwix: FiwixSizes): Limit[] {
  const content = [...bySize(input.entries), ...input.restored];
  const { ramdisk, kexec } = ramdiskUse(fiwix, content, input.surviving, input.costs);
  const remedy = "Fewer or smaller distfiles have to be there before jump: move_disk";
  const limits = [
    atMost({
      id: "fiwix-ramdisk",
      title: "bytes on the Fiwix ramdisk",
      unit: "bytes",
      used: ramdisk.used,
      limit: ramdisk.limit,
      expected: ramdisk.expected,
      note: onTop(input.costs?.bytes, "what the steps build"),
      contributors: largest(content),
      remedy,
    }),
    atMost({
      id: "kexec-ramdisk",
      title: "bytes of distfiles in the kexec ramdisk at jump: linux",
      unit: "bytes",
      used: kexec.used,
      limit: kexec.limit,
      expected: kexec.expected,
      note: onTop(input.costs?.kexecBytes, "the kernel and the rest of the root"),
      contributors: largest(input.surviving),
      remedy,
    }),
  ];
  if (input.restoredEnd > 0) {
    limits.push(atMost({
      id: "fiwix-disk",
      title: "end of what Fiwix reads from the payload disk",
      unit: "bytes",
      used: input.restoredEnd,
      limit: FIWIX_DISK_BYTES,
      expected: 0,
      contributors: largest(input.restored),
      remedy,
    }));
  }
  return limits;
}

function diskLimit(
  input: LimitInput,
  disk: { readonly sizeBytes: number; readonly dataBytes: number },
): Limit {
  const partition = input.movesToDisk ? PARTITION_OFFSET_BYTES + MIB : 0;
  const least = Math.max(disk.dataBytes, partition);
  return {
    id: "disk",
    title: input.movesToDisk
      ? "boot disk: the boot image, and a partition from 1 GiB on"
      : "boot disk: the boot image",
    unit: "MiB",
    used: Math.floor(disk.sizeBytes / MIB),
    limit: Math.ceil(least / MIB),
    expected: 0,
    broken: disk.sizeBytes < least,
    near: false,
    contributors: [],
    remedy: "Use a larger --target-size: 16G is the default",
  };
}

/** A limit that must not be exceeded. */
export function atMost(limit: Omit<Limit, "broken" | "near">): Limit {
  const { used, expected } = limit;
  const broken = used > limit.limit;
  return { ...limit, broken, near: !broken && used + expected > limit.limit };
}

/** What the figure of a limit does not hold. */
function onTop(expected: number | undefined, what: string): string {
  return expected === undefined ? `${what}: not known, comes on top` : `${what} comes on top`;
}

/** Every entry with its size. */
export function bySize(entries: LimitInput["entries"]): Contributor[] {
  return entries.map(({ path, size }) => ({ name: path, amount: size }));
}

/** A distfile with its size; one that is not known yet counts as 0. */
export function contributor(
  { name, size }: { readonly name: string; readonly size: number | null },
): Contributor {
  return { name, amount: size ?? 0 };
}

/** Number of entries below each directory of the root, or of `steps/`. */
export function countByDirectory(entries: LimitInput["entries"]): Contributor[] {
  const counts = new Map<string, number>();
  for (const { path } of entries) {
    const parts = path.split("/");
    const dir = parts.slice(0, parts[1] === "steps" ? 3 : 2).join("/");
    counts.set(dir, (counts.get(dir) ?? 0) + 1);
  }
  return [...counts].map(([name, amount]) => ({ name, amount }));
}

/** The five that take most, largest first. */
export function largest(contributors: readonly Contributor[]): Contributor[] {
  return [...contributors].filter(({ amount }) => amount > 0)
    .sort((a, b) => b.amount - a.amount || (a.name < b.name ? -1 : 1)).slice(0, 5);
}

function total(contributors: readonly Contributor[]): number {
  return contributors.reduce((sum, { amount }) => sum + amount, 0);
}
