// SPDX-License-Identifier: MIT
/**
 * The shape of a plan.
 *
 * @module
 */

import type { PayloadLayout } from "../format/payload.ts";
import type { ServedMirror } from "./config.ts";
import type { Limit } from "./limits.ts";
import type { BuildOptions } from "./options.ts";
import type { Phase } from "./split.ts";

/** Names of what a build leaves in its target directory. */
export const BOOT_IMAGE = "init.img";
export const PAYLOAD_IMAGE = "payload.img";

/** Where a distfile goes. */
export type Place = "boot" | "payload" | "network";

/** A distfile with its place. */
export interface PlannedDistfile {
  readonly name: string;
  readonly sha256: string;
  readonly urls: readonly string[];
  /** In bytes; null where it is not known before it is there. */
  readonly size: number | null;
  readonly phase: Phase;
  readonly place: Place;
  /** Of a payload file: where the importer restores it. */
  readonly restored?: "fiwix" | "disk";
  /** Why it goes there, as a phrase. */
  readonly why: string;
  /** The steps whose build needs it, in manifest order, each once. */
  readonly steps: readonly string[];
}

/** An entry of the boot image, in image order. */
export interface PlannedEntry {
  /** Path in the image, beginning with `./`, or `.` itself. */
  readonly path: string;
  readonly content:
    | { readonly kind: "directory" }
    /** A file of the checkout. */
    | { readonly kind: "tree"; readonly source: string }
    | { readonly kind: "distfile"; readonly name: string }
    /** Made by seedstrap, it exists only in the image. */
    | { readonly kind: "generated"; readonly bytes: Uint8Array };
  /** In bytes; 0 for a distfile whose size is not known. */
  readonly size: number;
  /** Whether it gets mode 755 in a directory; a boot image knows no modes. */
  readonly isExecutable: boolean;
}

/** How the booted machine gets the files of a payload back. */
export interface PlannedRestore {
  /** 1: all behind the split. 2: the rest behind `jump: move_disk`. */
  readonly phases: 1 | 2;
  /** What one phase would take of the two ramdisks, in bytes; `expected` is an estimate. */
  readonly inOneGo?: Readonly<
    Record<
      "ramdisk" | "kexec",
      { readonly used: number; readonly expected: number; readonly limit: number }
    >
  >;
  /** Why there is one phase although two would be needed. */
  readonly obstacle?: string;
  readonly layout: PayloadLayout;
  /** Whose importer reads it. */
  readonly importer: "overlay" | "checkout";
}

export interface Plan {
  readonly options: BuildOptions;
  /** The checkout, absolute. */
  readonly tree: string;
  /** bootstrap.cfg as it goes into the image. */
  readonly config: string;
  readonly distfiles: readonly PlannedDistfile[];
  readonly stage1: Uint8Array;
  readonly stage2: Uint8Array;
  readonly entries: readonly PlannedEntry[];
  readonly hasPayload: boolean;
  /** Why there is a payload image, or none. */
  readonly payloadReason: string;
  readonly limits: readonly Limit[];
  /** Names of images in the order of the drives; none for a directory. */
  readonly images: readonly string[];
  /** How the payload is restored; absent where there is none. */
  readonly restore?: PlannedRestore;
  /** How the manifest differs from the checkout's, and files that exist only in the image. */
  readonly overlay: {
    readonly manifestLines: readonly { readonly text: string; readonly place: string }[];
    readonly files: readonly string[];
  };
  readonly servedMirrors: readonly ServedMirror[];
  readonly warnings: readonly string[];
  /** What could be better, without being wrong. */
  readonly advice: readonly string[];
}

/**
 * Directories behind the tree of a boot image, and the commands behind these: they make the seeds
 * from hex0 and start the first shell.
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
