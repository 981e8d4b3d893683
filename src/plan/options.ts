// SPDX-License-Identifier: MIT
/**
 * The options of a build, as data.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { Mirror } from "../fetch/mirror.ts";

/**
 * How the bootstrap is started: by builder-hex0 from images (`qemu`, `bare-metal`), or under the
 * running kernel in a directory (`chroot`, `bwrap`) or in a container of podman or docker.
 */
export type Mode = "qemu" | "bare-metal" | "chroot" | "bwrap" | "container";

/** Reports whether a mode starts in a directory. */
export function startsInDirectory(mode: Mode): boolean {
  return mode === "chroot" || mode === "bwrap";
}

/** Reports whether a mode starts under the running kernel: nothing is installed to a disk then. */
export function usesRunningKernel(mode: Mode): boolean {
  return startsInDirectory(mode) || mode === "container";
}

/**
 * What a bootstrap starts from: builder-hex0 in a boot image, a disk that a kernel of the user
 * mounts, or under the running kernel a directory, or the image of a container.
 */
export type Start = "builder-hex0" | "disk" | "directory" | "container";

/** Returns what a bootstrap with these options starts from. */
export function startOf({ mode, kernel }: Pick<BuildOptions, "mode" | "kernel">): Start {
  if (mode === "container") return "container";
  return startsInDirectory(mode) ? "directory" : kernel === undefined ? "builder-hex0" : "disk";
}

/** Whether distfiles go to a disk of their own. */
export type PayloadChoice = "auto" | "always" | "never";

/** Reports whether options alone make a payload, however little it would be needed. */
export function asksForPayload(
  options: Pick<
    BuildOptions,
    "mode" | "kernel" | "payload" | "externalSources" | "addedPaths" | "hasRepo" | "oneDisk"
  >,
): boolean {
  const { payload, externalSources, addedPaths = [], hasRepo, oneDisk = false } = options;
  return startOf(options) === "builder-hex0" && payload !== "never" &&
    (payload === "always" || externalSources || addedPaths.length > 0 || (hasRepo && oneDisk));
}

/**
 * Reports whether prebuilt packages of a kernel bootstrap are on a second disk with a file system:
 * they are in the payload if the options make one.
 */
export function hasExternalDisk(
  options: Parameters<typeof asksForPayload>[0],
): boolean {
  return startOf(options) === "builder-hex0" && options.hasRepo && !asksForPayload(options);
}

/** A pass of live-bootstrap's own CI. The first prepares the target, the others continue in it. */
export type CiPass = "pass1" | "pass2" | "pass3";
export const CI_PASSES: readonly CiPass[] = ["pass1", "pass2", "pass3"];

/** Reports whether a build continues in what an earlier pass has left: a directory, or a container. */
export function continuesPass(
  { mode, internalCi }: Pick<BuildOptions, "mode" | "internalCi">,
): boolean {
  const hasPasses = mode === "bwrap" || mode === "container";
  return hasPasses && internalCi !== undefined && internalCi !== "pass1";
}

/** Reports whether the configurator runs in the guest, which asks until it is told. */
export function asksUser(
  options: Pick<BuildOptions, "mode" | "internalCi" | "configurator" | "createConfig">,
): boolean {
  return (options.configurator || !options.createConfig) && !continuesPass(options);
}

/** Options of `plan` and `build`: those of rootfs.py with its defaults, and our own. */
export interface BuildOptions {
  readonly mode: Mode;
  readonly arch: string;
  readonly cores: number;
  readonly forceTimestamps: boolean;
  readonly updateChecksums: boolean;
  readonly buildKernels: boolean;
  /** False leaves bootstrap.cfg empty. */
  readonly createConfig: boolean;
  readonly interactive: boolean;
  readonly configurator: boolean;
  /** The pass of live-bootstrap's own CI. */
  readonly internalCi: CiPass | undefined;
  /** Names of the step directories beside steps/ to include, in order; absent if there are none. */
  readonly extraBuilds?: readonly string[];
  readonly externalSources: boolean;
  readonly mirrors: readonly Mirror[];
  /** The machine gets the mirrors with their user names, passwords and queries. */
  readonly mirrorCredentials?: true;
  readonly swapMib: number;
  readonly qemuCommand: string;
  readonly qemuRamMib: number;
  /** Path of the kernel that boots instead of builder-hex0; undefined if builder-hex0 boots. */
  readonly kernel: string | undefined;
  /** Whether prebuilt packages are included. */
  readonly hasRepo: boolean;
  /** Where the machine has directories of the user, relative to its root. */
  readonly addedPaths?: readonly string[];
  /** Whether an archive replaces stage0-posix and the files of seed/. */
  readonly hasPreseed: boolean;
  /** Size of the boot disk under QEMU; 0 on bare metal, where the medium decides. */
  readonly targetSizeMib: number;
  readonly payload: PayloadChoice;
  /** auto: 64, or 32 where the checkout's own importer reads nothing else. */
  readonly payloadLayout: 64 | 32 | "auto";
  /** Number of phases of the restore from the payload; auto: one if everything fits. */
  readonly payloadPhases: "auto" | "one" | "two";
  /** What the system is installed to, as Linux names it; see {@link isDiskName}. */
  readonly disk?: string;
  /** The machine may install to a disk that is neither empty nor its boot disk. */
  readonly overwriteDisk?: true;
  /** The payload is on the boot disk too. */
  readonly oneDisk?: true;
  /** Whether nothing on the booted machine waits for a network. */
  readonly airGapped: boolean;
  /** The SHA-256 of each image as a whole is recorded, for other tools. */
  readonly sha256?: true;
  /** First port for mirrors that are directories, when the guest needs them. */
  readonly mirrorPort: number;
  /** What boots: builder-hex0, or the preflight program, which expects a closing record. */
  readonly bootProgram: "builder-hex0" | "preflight";
}

/** Returns the defaults of rootfs.py for a mode. */
export function defaultOptions(mode: Mode): BuildOptions {
  return {
    mode,
    arch: "x86",
    cores: 2,
    forceTimestamps: false,
    updateChecksums: false,
    buildKernels: false,
    createConfig: true,
    interactive: false,
    configurator: false,
    internalCi: undefined,
    externalSources: false,
    mirrors: [],
    swapMib: 0,
    qemuCommand: "qemu-system-x86_64",
    qemuRamMib: 4096,
    kernel: undefined,
    hasRepo: false,
    hasPreseed: false,
    targetSizeMib: mode === "qemu" ? 16 * 1024 : 0,
    payload: "auto",
    payloadLayout: "auto",
    payloadPhases: "auto",
    airGapped: false,
    mirrorPort: MIRROR_PORT,
    bootProgram: "builder-hex0",
  };
}

/**
 * Port on 127.0.0.1 for the first mirror that is a directory; the others get the next ports. It is
 * part of the image, so it changes only where it is in use, and is below the range of ephemeral
 * ports of Linux (32768).
 */
export const MIRROR_PORT = 24816;

/** Largest size that an option accepts, in MiB: 16 TiB, the largest file of ext4. */
export const MAX_SIZE_MIB = 16 * 1024 * 1024;

/** MiB of each suffix of a size. */
const SIZE_UNITS: Readonly<Record<string, number>> = { "": 1, m: 1, g: 1024, t: 1024 * 1024 };

/** Reports whether a text can be an architecture. It goes into bootstrap.cfg, which shells read. */
export function isArchName(text: string): boolean {
  return /^[A-Za-z0-9_.-]{1,64}$/.test(text);
}

/**
 * Reports whether `jump: move_disk` can install to a disk of this name. It makes a partition on a
 * whole disk and takes its name with "1" for that, so a name that ends in a digit has to be that of
 * a partition: sda, sdb1, nvme0n1p2.
 */
export function isDiskName(text: string): boolean {
  return /^(?:[a-z]{2,12}|[a-z]{3}[1-9][0-9]?|[a-z]{2,8}[0-9]{1,3}(?:n[0-9]{1,3})?p[1-9][0-9]?)$/
    .test(text);
}

/** Reports whether a name that {@link isDiskName} accepts is that of a partition. */
export function isPartitionName(disk: string): boolean {
  return /\d$/.test(disk);
}

/**
 * Parses a size: in TiB with the suffix t or T, in GiB with g or G, in MiB with m, M or none.
 *
 * @param text `512`, `512M`, `4G`, `1T`.
 * @param option For messages.
 * @param least Smallest size that makes sense.
 * @returns MiB.
 * @throws {UserError} "usage"
 */
export function parseSizeMib(text: string, option: string, least: number): number {
  const match = /^(\d{1,15})([mgt]?)$/i.exec(text);
  const size = match === null ? NaN : Number(match[1]) * SIZE_UNITS[match[2]!.toLowerCase()]!;
  if (!(size >= least && size <= MAX_SIZE_MIB)) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for ${option}`, {
      hint: `It takes a size from ${least} MiB to 16 TiB: 512, 512M, 4G or 1T`,
    });
  }
  return size;
}

/**
 * Parses a whole number.
 *
 * @throws {UserError} "usage"
 */
export function parseCount(text: string, option: string, least: number, most: number): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(count >= least && count <= most)) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for ${option}`, {
      hint: `It takes a whole number from ${least} to ${most}`,
    });
  }
  return count;
}
