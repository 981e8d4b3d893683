// SPDX-License-Identifier: MIT
/**
 * The limits of the machine that will run the bootstrap, and how close a plan comes to them.
 *
 * Above a limit of builder-hex0, its README promises "a random, mysterious failure", which mostly
 * comes hours into the run. So the limits are checked before anything is written.
 *
 * @module
 */

import { formatBytes, formatCount } from "../text.ts";
import { GIB, MIB } from "../format/segment.ts";
import type { FiwixSizes } from "../tree/model.ts";

/** Most files and directories of builder-hex0, including those that are created while it runs. */
export const MAX_FILES = 14_332;
/** Size of the file store of builder-hex0: 0x54000000 to 0xC0000000. */
export const FILE_STORE_BYTES = 0xc0000000 - 0x54000000;
/** Memory that builder-hex0 needs. */
export const MEMORY_MIB = 4096;
/** For reads at or above this offset, Fiwix silently returns data from the beginning of the disk. */
export const FIWIX_DISK_BYTES = 4 * GIB;
/** Offset of the partition that `jump: move_disk` creates for the system: sector 2,097,152. */
export const PARTITION_OFFSET_BYTES = GIB;

/** What the steps themselves add to the figures of a plan. */
export interface StepCosts {
  /** Files and directories created in builder-hex0 before the jump. */
  readonly files: number;
  /** Total size of these files; at least as many bytes are also on the Fiwix ramdisk. */
  readonly bytes: number;
  /** Size of the kernel and the root without distfiles in the kexec ramdisk. */
  readonly kexecBytes: number;
}

/**
 * The costs of live-bootstrap's own steps, measured at commit 984b8322: up to the end of
 * kexec-fiwix-1.0, a bootstrap in a chroot opened 5,867 files to create or truncate them, and
 * created 499 directories; its root grew by 88,667,811 bytes. According to steps/jump/fiwix.sh, "as
 * of 2024-05-27" the initramfs (about 183 MiB, of which about 4 are distfiles) and the kernel
 * (10.5 MiB) go into the kexec ramdisk.
 */
export const LIVE_BOOTSTRAP_COSTS: StepCosts = {
  files: 5_867 + 499,
  bytes: 88_667_811,
  kexecBytes: 189.5 * MIB,
};

/** Something that uses part of a limit. */
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
    | "system-disk"
    | "file-system";
  /** What is limited, in a few words. */
  readonly title: string;
  readonly unit: "files" | "bytes" | "MiB";
  /** The amount that the plan uses; a lower bound if some sizes are not known yet. */
  readonly used: number;
  /**
   * The limit: for `memory` and `disk` the minimum, otherwise the maximum; null where the checkout
   * does not say it.
   */
  readonly limit: number | null;
  /** Estimate of the amount that the run itself adds; 0 if there is none. */
  readonly expected: number;
  /** Whether it is certain to fail, as `used` alone is too much. */
  readonly broken: boolean;
  /** Whether it is likely to fail: not broken, but `used` and `expected` together are too much. */
  readonly near: boolean;
  /**
   * Number of files whose size is not known yet and counts as 0, so that the plan uses at least
   * what it says; absent if all sizes are known, or do not matter.
   */
  readonly unknownSizes?: number;
  /** What the figures do not include. */
  readonly note?: string;
  /** The five largest contributors, largest first. */
  readonly contributors: readonly Contributor[];
  /** What to do if it is broken. */
  readonly remedy: string;
}

/**
 * What a plan knows about a limit: `unknown` if it holds with the sizes that are known, or the
 * checkout does not say what it is.
 */
export type LimitState = "broken" | "near" | "unknown" | "ok";

/** Returns what a plan knows about a limit. */
export function limitState({ broken, near, limit, unknownSizes = 0 }: Limit): LimitState {
  if (broken) return "broken";
  if (near) return "near";
  return limit === null || unknownSizes > 0 ? "unknown" : "ok";
}

/** Reports whether a limit is the least that there has to be, and not the most. */
export function isFloor({ id }: Limit): boolean {
  return id === "memory" || id === "disk";
}

/** Counts the distfiles whose size is not known, of all that are included or of some. */
export function countUnknown<T extends { readonly size: number | null; readonly place: string }>(
  distfiles: readonly T[],
  test = ({ place }: T): boolean => place !== "network",
): number {
  return distfiles.filter((distfile) => distfile.size === null && test(distfile)).length;
}

/** Returns the figures of a limit for people; exact ones where they would look the same. */
export function limitFigures({ used, limit, unit }: Limit): { used: string; limit: string } {
  const figures = { used: formatAmount(used, unit), limit: formatAmount(limit, unit) };
  if (limit === null || figures.used !== figures.limit || used === limit) return figures;
  return { used: `${formatCount(used)} ${unit}`, limit: `${formatCount(limit)} ${unit}` };
}

/** Formats an amount for people; null is not known. */
export function formatAmount(amount: number | null, unit: Limit["unit"]): string {
  if (amount === null) return "?";
  return unit === "bytes"
    ? formatBytes(amount)
    : formatCount(amount) + (unit === "MiB" ? " MiB" : "");
}

/** The input for the computation of limits. */
export interface LimitInput {
  /** Entries of the boot image; a directory has size 0. */
  readonly entries: readonly { readonly path: string; readonly size: number }[];
  /** Number of files and directories that the commands after the entries create. */
  readonly seedFiles: number;
  /** The distfiles that are restored from the payload while Fiwix runs. */
  readonly restored: readonly Contributor[];
  /** Whether prebuilt packages lie among them in the payload. */
  readonly hasPackages?: boolean;
  /** Offset of the end of the last of these in the payload image; 0 without a payload. */
  readonly restoredEnd: number;
  /** Numbers of files of unknown size among the entries, the restored and the surviving ones. */
  readonly unknown: {
    readonly entries: number;
    readonly restored: number;
    readonly surviving: number;
    /** Of those that are installed, without what the machine downloads. */
    readonly installed: number;
  };
  /** Distfiles on the Fiwix ramdisk that `improve: clean_sources` keeps. */
  readonly surviving: readonly Contributor[];
  /** What comes to lie on the disk of the system: what is restored, and the file for swap. */
  readonly installed: readonly Contributor[];
  /** Undefined if the manifest does not jump to Fiwix. */
  readonly fiwix: FiwixSizes | undefined;
  /** Whether the manifest installs to the boot disk. */
  readonly movesToDisk: boolean;
  /** Memory of the guest; undefined on bare metal. */
  readonly ramMib: number | undefined;
  /** Size of the boot disk, and of the data that is written to it; undefined on bare metal. */
  readonly disk: { readonly sizeBytes: number; readonly dataBytes: number } | undefined;
  /** Start of the partition of the system, if not that of `jump: move_disk`. */
  readonly systemStartBytes?: number | undefined;
  /** The costs of the steps; undefined if they are not known. */
  readonly costs: StepCosts | undefined;
  /** Whether `--payload always` would move distfiles out of the boot image. */
  readonly payloadHelps: boolean;
}

/** Computes every limit that applies. */
export function computeLimits(input: LimitInput): Limit[] {
  const smaller = input.payloadHelps
    ? "Use --payload always: it moves distfiles from the boot image to a disk of their own"
    : "Remove files that do not belong there from seed/ and steps/ of the checkout";
  const limits: Limit[] = [
    atMost({
      id: "files",
      title: "files and directories in builder-hex0",
      unit: "files",
      used: input.entries.length + input.seedFiles,
      limit: MAX_FILES,
      expected: input.costs?.files ?? 0,
      note: onTop(input.costs?.files, "what the steps create before the jump"),
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
  if (input.disk !== undefined) {
    limits.push(diskLimit(input, input.disk), ...systemLimit(input, input.disk.sizeBytes));
  }
  return limits;
}

function fileStore(input: LimitInput, remedy: string): Limit {
  const initrd = input.fiwix?.ramdiskBytes ?? 0;
  return atMost({
    id: "file-store",
    title: initrd > 0
      ? "bytes of files in builder-hex0, beside the Fiwix ramdisk"
      : input.fiwix !== undefined && input.fiwix.ramdiskBytes === undefined
      ? "bytes of files in builder-hex0, without the Fiwix ramdisk"
      : "bytes of files in builder-hex0",
    unit: "bytes",
    used: total(bySize(input.entries)),
    ...unknownSizes(input.unknown.entries),
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

/** The use of a ramdisk, in bytes. */
export interface RamdiskUse {
  readonly used: number;
  /** Estimate of the amount that the steps add; 0 if it is not known. */
  readonly expected: number;
  /** null if it is not known. */
  readonly limit: number | null;
  /** Number of files whose size is not known yet; absent if all are known. */
  readonly unknownSizes?: number;
}

/** Returns the field for a number of unknown sizes, which is absent if there are none. */
export function unknownSizes(count: number | undefined): { readonly unknownSizes?: number } {
  return count === undefined || count === 0 ? {} : { unknownSizes: count };
}

/**
 * Returns the use of the two ramdisks of the Fiwix jump: the root of Fiwix, and the kernel and
 * initramfs that are packed at `jump: linux`.
 *
 * @param root Files of the boot image, and distfiles that are restored while Fiwix runs.
 * @param surviving Distfiles among these that `improve: clean_sources` keeps.
 */
export function ramdiskUse(
  { ramdiskBytes, kexecBytes }: FiwixSizes,
  root: readonly Contributor[],
  surviving: readonly Contributor[],
  costs: StepCosts | undefined,
  unknown: { readonly root: number; readonly surviving: number },
): Readonly<Record<"ramdisk" | "kexec", RamdiskUse>> {
  return {
    ramdisk: {
      used: total(root),
      expected: costs?.bytes ?? 0,
      limit: ramdiskBytes ?? null,
      ...unknownSizes(unknown.root),
    },
    kexec: {
      used: total(surviving),
      expected: costs?.kexecBytes ?? 0,
      limit: kexecBytes ?? null,
      ...unknownSizes(unknown.surviving),
    },
  };
}

function fiwixLimits(input: LimitInput, fiwix: FiwixSizes): Limit[] {
  const content = [...bySize(input.entries), ...input.restored];
  const { ramdisk, kexec } = ramdiskUse(fiwix, content, input.surviving, input.costs, {
    root: input.unknown.entries + input.unknown.restored,
    surviving: input.unknown.surviving,
  });
  const remedy = "Use fewer or smaller distfiles before jump: move_disk";
  const limits = [
    atMost({
      id: "fiwix-ramdisk",
      title: "bytes on the Fiwix ramdisk",
      unit: "bytes",
      used: ramdisk.used,
      ...unknownSizes(ramdisk.unknownSizes),
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
      ...unknownSizes(kexec.unknownSizes),
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
      title: "end of the data that Fiwix reads from the payload disk",
      unit: "bytes",
      used: input.restoredEnd,
      ...unknownSizes(input.unknown.restored),
      limit: FIWIX_DISK_BYTES,
      expected: 0,
      contributors: largest(input.restored),
      remedy: input.hasPackages
        ? "Use --payload never: then packages are on a disk of their own"
        : remedy,
    }));
  }
  return limits;
}

function diskLimit(
  input: LimitInput,
  disk: { readonly sizeBytes: number; readonly dataBytes: number },
): Limit {
  const startBytes = input.systemStartBytes ?? PARTITION_OFFSET_BYTES;
  const partition = input.movesToDisk ? startBytes + MIB : 0;
  const least = Math.max(disk.dataBytes, partition);
  return {
    id: "disk",
    title: input.movesToDisk
      ? `boot disk: the boot image, and a partition that starts at ${formatBytes(startBytes)}`
      : "boot disk: the boot image",
    unit: "MiB",
    used: Math.floor(disk.sizeBytes / MIB),
    limit: Math.ceil(least / MIB),
    ...unknownSizes(input.unknown.entries),
    expected: 0,
    broken: disk.sizeBytes < least,
    near: false,
    contributors: [],
    remedy: "Use a larger --target-size: 16G is the default",
  };
}

/**
 * Returns the limit of the partition that the system is installed to. mkfs.ext4 takes 256 of each
 * 16,384 bytes for inodes; a partition without any room is a disk that is too small, see `disk`.
 */
function systemLimit(input: LimitInput, diskBytes: number): Limit[] {
  const partitionBytes = diskBytes - (input.systemStartBytes ?? PARTITION_OFFSET_BYTES);
  if (!input.movesToDisk || partitionBytes <= 0) return [];
  return [atMost({
    id: "system-disk",
    title: "bytes on the partition of the system: what is restored, and swap",
    unit: "bytes",
    used: total(input.installed),
    limit: partitionBytes - Math.floor(partitionBytes / 16_384) * 256,
    expected: input.costs?.kexecBytes ?? 0,
    ...unknownSizes(input.unknown.installed),
    note: "plus all that is downloaded and built after it is installed, not known",
    contributors: largest(input.installed),
    remedy: "Use a larger --target-size: 16G is the default",
  })];
}

/** Returns a limit that is a maximum; one that is not known is neither broken nor near. */
export function atMost(limit: Omit<Limit, "broken" | "near">): Limit {
  const { used, expected } = limit;
  const most = limit.limit ?? Infinity;
  const broken = used > most;
  return { ...limit, broken, near: !broken && used + expected > most };
}

/** Returns the note about what the figures of a limit do not include. */
function onTop(expected: number | undefined, what: string): string {
  return expected === undefined ? `plus ${what}, not known` : `plus ${what}, estimated`;
}

/** Returns every entry with its size. */
export function bySize(entries: LimitInput["entries"]): Contributor[] {
  return entries.map(({ path, size }) => ({ name: path, amount: size }));
}

/** Returns a distfile with its size, or 0 if that is not known yet. */
export function contributor(
  { name, size }: { readonly name: string; readonly size: number | null },
): Contributor {
  return { name, amount: size ?? 0 };
}

/** Counts the entries below each directory of the root, or of `steps/`. */
export function countByDirectory(entries: LimitInput["entries"]): Contributor[] {
  const counts = new Map<string, number>();
  for (const { path } of entries) {
    const parts = path.split("/");
    const dir = parts.slice(0, parts[1] === "steps" ? 3 : 2).join("/");
    counts.set(dir, (counts.get(dir) ?? 0) + 1);
  }
  return [...counts].map(([name, amount]) => ({ name, amount }));
}

/** Returns the five largest contributors, largest first. */
export function largest(contributors: readonly Contributor[]): Contributor[] {
  return [...contributors].filter(({ amount }) => amount > 0)
    .sort((a, b) => b.amount - a.amount || (a.name < b.name ? -1 : 1)).slice(0, 5);
}

function total(contributors: readonly Contributor[]): number {
  return contributors.reduce((sum, { amount }) => sum + amount, 0);
}
