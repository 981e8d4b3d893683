// SPDX-License-Identifier: MIT
/**
 * The data types of a plan.
 *
 * @module
 */

import type { SpecialFile } from "../archive/entries.ts";
import type { PayloadLayout } from "../format/payload.ts";
import type { FileSegment, JoinedSegment, MemberSegment } from "../format/segment.ts";
import type { ServedMirror } from "./config.ts";
import type { TreeEntry } from "../tree/entry.ts";
import type { Limit, RamdiskUse } from "./limits.ts";
import type { BuildOptions, Start } from "./options.ts";
import type { Phase } from "./split.ts";

/** Names of the files that a build writes to its target directory. */
export const BOOT_IMAGE = "init.img";
export const PAYLOAD_IMAGE = "payload.img";
export const EXTERNAL_IMAGE = "external.img";
export const DISK_IMAGE = "disk.img";
export const CONTAINER_IMAGE = "container.oci.tar";

/**
 * Where a distfile goes: into the root that the bootstrap starts in, into the payload image, only
 * to the second disk with a file system, or nowhere, as the machine downloads it. The second disk
 * also has the distfiles of the first two.
 */
export type Place = "boot" | "payload" | "external" | "network";

/** A distfile, and where it goes. */
export interface PlannedDistfile {
  readonly name: string;
  readonly sha256: string;
  readonly urls: readonly string[];
  /** In bytes; null if it is not known before the distfile is fetched. */
  readonly size: number | null;
  readonly phase: Phase;
  readonly place: Place;
  /** Phase in which the importer restores it; for a file of the payload only. */
  readonly restored?: "fiwix" | "disk";
  /** The reason why it goes there, as a phrase. */
  readonly why: string;
  /** The steps whose build needs it, in manifest order, each once. */
  readonly steps: readonly string[];
  /** Set where every mirror was asked, and none has it. */
  readonly isInNoMirror?: true;
}

/** A file that a walk of a directory or a bundle has found, see `tree/entry.ts`. */
type FoundFile = Pick<TreeEntry, "source" | "bundled" | "identity">;

/** An entry of the boot image, in image order. */
export interface PlannedEntry {
  /** Path in the image, beginning with `./`, or `.` itself. */
  readonly path: string;
  readonly content:
    | { readonly kind: "directory" }
    /** A file of the checkout. */
    | ({ readonly kind: "tree" } & FoundFile)
    /** A file of the directory of prebuilt packages. */
    | ({ readonly kind: "repo" } & FoundFile)
    /** A file of a directory that the user adds. */
    | ({ readonly kind: "added" } & FoundFile)
    /** A file of the archive that replaces stage0-posix. */
    | { readonly kind: "preseed"; readonly body: MemberSegment }
    /** A link or device of that archive; only in a directory, and on a disk. */
    | { readonly kind: "special"; readonly special: SpecialFile }
    | { readonly kind: "distfile"; readonly name: string }
    /** A file made by seedstrap, which exists only in the image. */
    | { readonly kind: "generated"; readonly bytes: Uint8Array };
  /** In bytes; 0 for a distfile of unknown size. */
  readonly size: number;
  /** Whether it gets mode 755 in a directory; a boot image has no modes. */
  readonly isExecutable: boolean;
  /** The mode in a directory, if it is neither the default nor 755. */
  readonly mode?: number;
}

/** How the booted machine restores the files of a payload. */
export interface PlannedRestore {
  /** 1: everything right after the split. 2: the rest after `jump: move_disk`. */
  readonly phases: 1 | 2;
  /** The use of the two ramdisks with one phase, in bytes; `expected` is an estimate. */
  readonly inOneGo?: Readonly<Record<"ramdisk" | "kexec", RamdiskUse>>;
  /** The reason why there is one phase although two would be needed. */
  readonly obstacle?: string;
  readonly layout: PayloadLayout;
  /** Whether the importer is that of the overlay or of the checkout. */
  readonly importer: "overlay" | "checkout";
}

/** A file of the payload that is no distfile; it is restored after `jump: move_disk`. */
export interface PayloadExtra {
  /** In the payload. */
  readonly name: string;
  /** A prebuilt package, or a directory of the user as a tar. */
  readonly origin: "repo" | "added";
  /** In bytes. */
  readonly size: number;
  /** Directory of the machine that a package is put into, or a tar unpacked in. */
  readonly to: string;
  readonly body: FileSegment | JoinedSegment;
}

/** A disk with one partition, which contains an ext3 file system. */
export interface PlannedDisk {
  readonly name: typeof DISK_IMAGE | typeof EXTERNAL_IMAGE;
  readonly sizeMib: number;
  /** Start of the partition, which extends to the end of the disk. */
  readonly partitionMib: number;
  /** The content of the file system. */
  readonly entries: readonly PlannedEntry[];
}

/** A part of a boot disk that has all, and who uses it. */
export interface DiskPart {
  readonly what: string;
  readonly startBytes: number;
  /** Offset after its last byte; absent where it goes to the end of the disk. */
  readonly endBytes?: number;
  /** What reads it, and when, as a phrase. */
  readonly readBy: string;
  /** What may write to it, and when, as a phrase. */
  readonly writtenBy: string;
}

/** The layout of a boot disk that has the payload and the system too. */
export interface OneDisk {
  readonly payloadStartBytes: number;
  readonly payloadEndBytes: number;
  /** Start of the partition of the system; absent where none is installed. */
  readonly systemStartBytes?: number;
  /** All parts, in order and without a gap. */
  readonly parts: readonly DiskPart[];
}

/** How a distfile can be downloaded by the machine that needs it. */
export interface Reach {
  /** Whether its first step is built before or after the machine has TLS. */
  readonly when: "before TLS" | "after TLS";
  /** The plainest way that is sure to lead to it. */
  readonly by: "http" | "https" | "nowhere";
  /** Set where the machine does not read the line that names it. */
  readonly isUnread?: true;
}

/** A distfile that the machine would download, and how it can. */
export interface PlannedDownload extends Reach {
  readonly name: string;
}

export interface Plan {
  readonly options: BuildOptions;
  readonly start: Start;
  /** The checkout, absolute. */
  readonly tree: string;
  /** The text of bootstrap.cfg in the image. */
  readonly config: string;
  readonly distfiles: readonly PlannedDistfile[];
  /**
   * The distfiles that are first needed after the network is up, and not included on request. One
   * that the machine cannot download is carried where that is possible.
   */
  readonly downloads: readonly PlannedDownload[];
  /** The manifest line after which the machine has TLS; undefined if none is known. */
  readonly tls: string | undefined;
  readonly stage1: Uint8Array;
  readonly stage2: Uint8Array;
  /** The root that the bootstrap starts in: of the boot image, directory, disk or container. */
  readonly entries: readonly PlannedEntry[];
  /** The disk with a file system; absent if there is none. */
  readonly disk?: PlannedDisk;
  readonly hasPayload: boolean;
  /** The boot disk, where the payload is on it; absent where there is none, or it has its own. */
  readonly oneDisk?: OneDisk;
  /** What the payload has besides distfiles; absent if that is nothing. */
  readonly extras?: readonly PayloadExtra[];
  /** The reason why there is a payload image, or none. */
  readonly payloadReason: string;
  readonly limits: readonly Limit[];
  /** Names of the images in the order of the drives; none for a directory. */
  readonly images: readonly string[];
  /** How the payload is restored; absent if there is none. */
  readonly restore?: PlannedRestore;
  /** Changes to the manifest of the checkout, and files that exist only in the image. */
  readonly overlay: {
    readonly manifestLines: readonly { readonly text: string; readonly place: string }[];
    readonly files: readonly string[];
    /** Empty files, and directories with a trailing slash, that are recreated after the jump. */
    readonly madeAgain: readonly string[];
  };
  readonly servedMirrors: readonly ServedMirror[];
  /** What the manifest names and the checkout does not have: the bootstrap would stop there. */
  readonly missing: readonly string[];
  /** Files of the checkout that git does not track, or directories of them. */
  readonly untracked: readonly string[];
  readonly warnings: readonly string[];
  /** Suggestions for a plan that is correct but could be better. */
  readonly advice: readonly string[];
}

/**
 * Directories that follow the tree in a boot image, and the commands after them, which make the
 * seeds from hex0 and start the first shell.
 */
export const SEED_DIRECTORIES: readonly string[] = [
  "/bootstrap-seeds",
  "/bootstrap-seeds/POSIX",
  "/bootstrap-seeds/POSIX/x86",
];
export const SEED_COMMANDS: readonly string[] = [
  "hex0 /x86/hex0_x86.hex0 /bootstrap-seeds/POSIX/x86/hex0-seed",
  "hex0 /x86/kaem-minimal.hex0 /bootstrap-seeds/POSIX/x86/kaem-optional-seed",
  "hex0 /x86/kaem-minimal.hex0 /init",
  "/bootstrap-seeds/POSIX/x86/kaem-optional-seed /kaem.x86",
];
