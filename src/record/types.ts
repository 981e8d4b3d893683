// SPDX-License-Identifier: MIT
/**
 * The record of a target, as data.
 *
 * @module
 */

import type { Origin } from "../fetch/origin.ts";
import type { Image } from "../plan/images.ts";
import type { Limit } from "../plan/limits.ts";
import type { BuildOptions } from "../plan/options.ts";
import type { Plan, PlannedDistfile, PlannedRestore } from "../plan/types.ts";

/** Format of the record in a statement. */
export const TARGET_FORMAT = "seedstrap-target/2";
/** Name of the record in a target. */
export const RECORD_NAME = "seedstrap.json";
/** Name of the list of distfiles in a target. */
export const SBOM_NAME = "sbom.cdx.json";

/** The record of a target. */
export interface TargetRecord {
  readonly format: typeof TARGET_FORMAT;
  /** Version of the seedstrap that built it. */
  readonly seedstrap: string;
  readonly options: BuildOptions;
  /** Text of the bootstrap.cfg in the image. */
  readonly config: string;
  readonly payload:
    & { readonly present: boolean; readonly reason: string }
    & Partial<PlannedRestore>;
  readonly overlay: Plan["overlay"];
  readonly warnings: readonly string[];
  readonly limits: readonly Limit[];
  readonly distfiles: readonly RecordedDistfile[];
  readonly images: readonly RecordedImage[];
  /** Files of a target that is a directory to start in; none otherwise. */
  readonly files: readonly RecordedFile[];
  readonly servedMirrors: Plan["servedMirrors"];
  readonly checkout: RecordedCheckout;
  /** SHA-256 of the kernel of the user's, where there is one. */
  readonly kernelSha256?: string;
  /** SHA-256 of the archive to begin from, where there is one. */
  readonly preseedSha256?: string;
  /** SHA-256 of the binary that built it; absent where it ran from source. */
  readonly builderSha256?: string;
  /** Version of the mke2fs that made the disk; absent where there is none, or it did not say. */
  readonly mke2fs?: string;
}

/** What the checkout was. */
export interface RecordedCheckout {
  /** Of all its files that a build uses, see `tree/digest.ts`. */
  readonly digest: string;
  /** The commit that each of its repositories is at, where it has any: itself, and submodules. */
  readonly commits: readonly { readonly path: string; readonly commit: string }[];
}

/**
 * Where a distfile was had: in distfiles/ of the checkout, in a mirror that is a directory, in the
 * store without anybody knowing how it came there, or from a URL, in this build or an earlier one.
 */
export type DistfileOrigin =
  | { readonly kind: "checkout" | "mirror" | "store" }
  | { readonly kind: "url" } & Origin;

/** A distfile, and where it was had. */
export type RecordedDistfile = PlannedDistfile & {
  /** Absent where the build did not need it. */
  readonly origin?: DistfileOrigin;
};

/** What a record says beside the plan and what was written. */
export interface Materials {
  readonly checkout: RecordedCheckout;
  readonly origins: ReadonlyMap<string, DistfileOrigin>;
  readonly kernelSha256: string | undefined;
  readonly preseedSha256: string | undefined;
  readonly builderSha256: string | undefined;
}

/** An image as it was written. */
export interface RecordedImage {
  readonly name: string;
  /** A disk has a file system; the external one is the second disk of a kernel bootstrap. */
  readonly role: "boot" | "payload" | "disk" | "external";
  /** Size of the file. */
  readonly sizeBytes: number;
  /** Bytes from the beginning that `sha256` is of; whatever follows is zeros. */
  readonly dataBytes: number;
  /** Of a boot or payload image. */
  readonly sha256?: string;
  /** Of a disk with a file system: see `format/blocks.ts`. */
  readonly blocksSha256?: string;
  readonly files: readonly RecordedFile[];
}

/** A file in an image. */
export interface RecordedFile {
  readonly path: string;
  readonly origin: Image["contents"][number]["origin"];
  readonly size: number;
  readonly sha256: string;
}

/** What was written, ready to be committed. */
export interface Written {
  /** Names in the target. */
  readonly names: readonly string[];
  readonly images: readonly RecordedImage[];
  /** Files of a directory. */
  readonly files: readonly RecordedFile[];
  /** Version of the mke2fs that made a disk. */
  readonly mke2fs?: string | undefined;
}
