// SPDX-License-Identifier: MIT
/**
 * The record of a target: its type, and the schema by which it is read. It may come from anywhere:
 * every field is checked, and unknown fields are refused.
 *
 * @module
 */

import * as v from "valibot";
import { isExtraName } from "../tree/extra.ts";
import { distfileNameFault } from "../fetch/distfile_name.ts";
import { type Mirror, parseMirror } from "../fetch/mirror.ts";
import { originFields } from "../fetch/origin.ts";
import {
  amount,
  anyText,
  bool,
  count,
  list,
  object,
  objectOf,
  oneOf,
  sha256,
  size,
  textThat,
} from "../json.ts";
import type { Image } from "../plan/images.ts";
import type { ServedMirror } from "../plan/config.ts";
import type { Contributor, Limit } from "../plan/limits.ts";
import { isAddedPath } from "../plan/added.ts";
import {
  type BuildOptions,
  CI_PASSES,
  isArchName,
  isDiskName,
  MAX_SIZE_MIB,
} from "../plan/options.ts";
import {
  BOOT_IMAGE,
  CONTAINER_IMAGE,
  DISK_IMAGE,
  EXTERNAL_IMAGE,
  PAYLOAD_IMAGE,
  type Plan,
  type PlannedDistfile,
  type PlannedRestore,
} from "../plan/types.ts";

/** Format of the record. */
export const TARGET_FORMAT = "seedstrap-target/2";
/** Name of the record in a target. */
export const RECORD_NAME = "seedstrap.json";
/** Name of the list of distfiles in a target. */
export const SBOM_NAME = "sbom.cdx.json";

const absolutePath = textThat((value) => /^\/[^\0]*$/.test(value), "an absolute path");

/** The options of a build, with the values that the command line accepts. */
export const buildOptions = objectOf<BuildOptions>({
  mode: oneOf(["qemu", "bare-metal", "chroot", "bwrap", "container"]),
  arch: textThat(isArchName, "an architecture"),
  cores: count(1, 4096),
  forceTimestamps: bool,
  updateChecksums: bool,
  buildKernels: bool,
  createConfig: bool,
  interactive: bool,
  configurator: bool,
  internalCi: v.exactOptional(oneOf(CI_PASSES)),
  extraBuilds: v.exactOptional(list(textThat(isExtraName, "an extra build"))),
  externalSources: bool,
  mirrors: list(v.variant("kind", [
    object({ kind: v.literal("directory"), path: absolutePath }),
    object({
      kind: v.literal("http"),
      url: textThat(isMirrorUrl("http"), "a mirror, without user name, password and query"),
    }),
    object({
      kind: v.literal("oci"),
      url: textThat(isMirrorUrl("oci"), "a repository of a registry"),
      isPlain: v.exactOptional(v.literal(true)),
    }),
    object({ kind: v.literal("s3"), url: textThat(isMirrorUrl("s3"), "a bucket") }),
  ])),
  mirrorCredentials: v.exactOptional(v.literal(true)),
  swapMib: count(0, MAX_SIZE_MIB),
  qemuCommand: anyText,
  qemuRamMib: count(1, MAX_SIZE_MIB),
  kernel: v.exactOptional(absolutePath),
  hasRepo: bool,
  addedPaths: v.exactOptional(list(textThat(isAddedPath, "a path of --add"))),
  hasPreseed: bool,
  targetSizeMib: count(0, MAX_SIZE_MIB),
  payload: oneOf(["auto", "always", "never"]),
  payloadLayout: oneOf([64, 32, "auto"]),
  payloadPhases: oneOf(["auto", "one", "two"]),
  disk: v.exactOptional(textThat(isDiskName, "a disk")),
  overwriteDisk: v.exactOptional(v.literal(true)),
  oneDisk: v.exactOptional(v.literal(true)),
  airGapped: bool,
  sha256: v.exactOptional(v.literal(true)),
  mirrorPort: count(1, 65000),
  bootProgram: oneOf(["builder-hex0", "preflight"]),
});

function isMirrorUrl(kind: Mirror["kind"]): (value: string) => boolean {
  return (value) => {
    try {
      const mirror = parseMirror(value);
      return mirror.kind === kind && !("secret" in mirror);
    } catch {
      return false;
    }
  };
}

/** null for a limit that the checkout did not say. */
const amountOrNone = v.custom<number | null>(
  (value) => value === null || v.is(amount, value),
  "an amount or null",
);

const limit = objectOf<Limit>({
  id: v.custom<Limit["id"]>((value) => typeof value === "string", "a string"),
  title: anyText,
  unit: oneOf(["files", "bytes", "MiB"]),
  used: amount,
  limit: amountOrNone,
  expected: amount,
  broken: bool,
  near: bool,
  unknownSizes: v.exactOptional(amount),
  note: v.exactOptional(anyText),
  contributors: list(objectOf<Contributor>({ name: anyText, amount })),
  remedy: anyText,
});

const distfileOrigin = v.variant("kind", [
  object({ kind: oneOf(["checkout", "mirror", "store"]) }),
  object({ kind: v.literal("url"), ...originFields }),
]);

/**
 * Where a distfile came from: distfiles/ of the checkout, a mirror that is a directory, the store
 * if it does not know the URL, or a URL, in this build or an earlier one.
 */
export type DistfileOrigin = v.InferOutput<typeof distfileOrigin>;

/** A distfile of a plan, and where it came from. */
export interface RecordedDistfile extends Omit<PlannedDistfile, "isInNoMirror"> {
  /** Absent where the build did not need it. */
  readonly origin?: DistfileOrigin;
}

const recordedDistfile = objectOf<RecordedDistfile>({
  name: textThat((name) => distfileNameFault(name) === undefined, "a distfile name"),
  sha256,
  urls: list(anyText),
  size: v.union([size, v.null()], "a size, or null"),
  phase: oneOf(["boot", "fiwix", "disk", "network"]),
  place: oneOf(["boot", "payload", "external", "network"]),
  restored: v.exactOptional(oneOf(["fiwix", "disk"])),
  why: anyText,
  steps: list(anyText),
  origin: v.exactOptional(distfileOrigin),
});

/** Origins of files; the type has those of other entries, too. */
const fileOrigin: v.GenericSchema<unknown, Image["contents"][number]["origin"]> = oneOf([
  "tree",
  "repo",
  "added",
  "preseed",
  "distfile",
  "generated",
]);

const recordedFile = object({
  path: anyText,
  origin: fileOrigin,
  size,
  sha256,
});

/** A file in an image. */
export type RecordedFile = v.InferOutput<typeof recordedFile>;

const imageName: v.GenericSchema<unknown, string> = oneOf([
  BOOT_IMAGE,
  EXTERNAL_IMAGE,
  PAYLOAD_IMAGE,
  DISK_IMAGE,
  CONTAINER_IMAGE,
]);

const recordedImage = object({
  name: imageName,
  /** A disk has a file system; the external one is the second disk of a kernel bootstrap. */
  role: oneOf(["boot", "payload", "disk", "external", "container"]),
  /** Size of the file. */
  sizeBytes: size,
  /** Bytes from the beginning that the digests are of; the rest is zeros. */
  dataBytes: size,
  /** Of all but disks: see `format/pieces.ts`; absent in records before version 0.2. */
  piecesSha256: v.exactOptional(sha256),
  /** Of a container; of a boot or payload image where it was asked for, or has no pieces here. */
  sha256: v.exactOptional(sha256),
  /** Of a disk with a file system: see `format/blocks.ts`. */
  blocksSha256: v.exactOptional(sha256),
  files: list(recordedFile),
});

/** An image as it was written. */
export type RecordedImage = v.InferOutput<typeof recordedImage>;

const wholeImage = v.pipe(
  recordedImage,
  v.check(
    ({ piecesSha256, sha256, blocksSha256 }) =>
      (piecesSha256 === undefined && sha256 === undefined) !== (blocksSha256 === undefined),
    "one with the digests of an image or those of a disk",
  ),
  v.check(
    ({ dataBytes, sizeBytes }) => dataBytes <= sizeBytes,
    "one whose dataBytes is at most its sizeBytes",
  ),
);

const recordedCheckout = object({
  /** Digest of all its files that a build uses, see `tree/digest.ts`. */
  digest: sha256,
  /** The commits that it and its submodules are at, if it is a Git repository. */
  commits: list(object({
    path: textThat((value) => /^[\w./-]{1,255}$/.test(value), "a path"),
    commit: textThat((value) => /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(value), "a commit"),
  })),
});

/** The checkout of a build, by its digest and commits. */
export type RecordedCheckout = v.InferOutput<typeof recordedCheckout>;

function namesDiffer(items: readonly { readonly name: string }[]): boolean {
  return new Set(items.map(({ name }) => name)).size === items.length;
}

/** Returns the name that a file of a directory has as the subject of a statement. */
export function subjectName(path: string): string {
  return path.replace(/^\.?\//, "");
}

const NAMES_DIFFER = "one with unique names";

const estimate = object({
  used: amount,
  expected: amount,
  limit: amountOrNone,
  unknownSizes: v.exactOptional(amount),
});

/** All of a record except the options, which the statement holds in another field. */
export const recordBody = object({
  format: v.literal(TARGET_FORMAT),
  /** Version of the seedstrap that built it. */
  seedstrap: textThat((value) => /^[\w.+-]{1,64}$/.test(value), "a version"),
  /** Text of the bootstrap.cfg in the image. */
  config: anyText,
  payload: objectOf<
    { readonly present: boolean; readonly reason: string } & Partial<PlannedRestore>
  >({
    present: bool,
    reason: anyText,
    phases: v.exactOptional(oneOf([1, 2])),
    inOneGo: v.exactOptional(object({ ramdisk: estimate, kexec: estimate })),
    obstacle: v.exactOptional(anyText),
    layout: v.exactOptional(oneOf([64, 32])),
    importer: v.exactOptional(oneOf(["overlay", "checkout"])),
  }),
  overlay: objectOf<Plan["overlay"]>({
    manifestLines: list(object({ text: anyText, place: anyText })),
    files: list(anyText),
    madeAgain: list(anyText),
  }),
  warnings: list(anyText),
  limits: list(limit),
  distfiles: v.pipe(list(recordedDistfile), v.check((items) => namesDiffer(items), NAMES_DIFFER)),
  images: v.pipe(list(wholeImage), v.check((items) => namesDiffer(items), NAMES_DIFFER)),
  /** Files of a target that is a directory to start in; empty otherwise. */
  files: v.pipe(
    list(recordedFile),
    v.check(
      (files) => namesDiffer(files.map(({ path }) => ({ name: subjectName(path) }))),
      "one with unique paths",
    ),
  ),
  servedMirrors: list(objectOf<ServedMirror>({ path: absolutePath, port: count(1, 65535) })),
  checkout: recordedCheckout,
  /** SHA-256 of the kernel that the user gave, if any. */
  kernelSha256: v.exactOptional(sha256),
  /** SHA-256 of the archive to begin from, if any. */
  preseedSha256: v.exactOptional(sha256),
  /** SHA-256 of the binary that built it; absent where it ran from source. */
  builderSha256: v.exactOptional(sha256),
  /** Version of the mke2fs that made the disk; absent without a disk, or if it is unknown. */
  mke2fs: v.exactOptional(anyText),
});

/** The record of a target. */
export type TargetRecord = v.InferOutput<typeof recordBody> & { readonly options: BuildOptions };

/** What a record holds besides the plan and the files that were written. */
export interface Materials {
  readonly checkout: RecordedCheckout;
  readonly origins: ReadonlyMap<string, DistfileOrigin>;
  readonly kernelSha256: string | undefined;
  readonly preseedSha256: string | undefined;
  readonly builderSha256: string | undefined;
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
