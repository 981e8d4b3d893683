// SPDX-License-Identifier: MIT
/**
 * Everything that a plan needs to know about a checkout, read once.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { hasTreeFile, openCheckout, readTreeFile, readTreeText, walkTree } from "./checkout.ts";
import { type TreeEntry } from "./entry.ts";
import { type Distfile, mergeSources, type PlacedSource, readSources } from "./distfiles.ts";
import { type Downloads, readDownloads } from "./downloads.ts";
import { importsPayload, type Manifest, parseManifest } from "./manifest.ts";

/** Paths of builder-hex0 in a checkout. */
export const STAGE1_PATH = "builder-hex0/builder-hex0-x86-stage1.hex0";
export const STAGE2_PATH = "builder-hex0/builder-hex0-x86-stage2.hex0";

/**
 * Directories of a checkout that builds read. All that lies in them is of the checkout, whatever its
 * name: images, digests and bundles have the same files. Only `.git` and an existing
 * steps/bootstrap.cfg are left out.
 */
const BUILD_DIRS = ["builder-hex0", "seed", "steps"];
/** Generated anew for each build. */
export const CONFIG_PATH = "steps/bootstrap.cfg";

/** Reports whether a path, relative to the checkout, is of what builds read. */
export function isBuildInput(path: string): boolean {
  return path !== CONFIG_PATH &&
    BUILD_DIRS.some((dir) => path === dir || path.startsWith(`${dir}/`));
}

/** A checkout as data. */
export interface TreeModel {
  /** Absolute path. */
  readonly root: string;
  readonly manifest: Manifest;
  /** hex0 text of the boot sector of builder-hex0, and of the second stage that it loads. */
  readonly stage1: Uint8Array;
  readonly stage2: Uint8Array;
  readonly sources: readonly PlacedSource[];
  readonly distfiles: readonly Distfile[];
  /** Entries of the root directory of the booted machine, with paths relative to it. */
  readonly files: readonly TreeEntry[];
  /** How the booted machine downloads. */
  readonly downloads: Downloads;
  /** Names of the improves whose script mounts proc. */
  readonly procImproves: readonly string[];
  /** The layouts that the checkout's own importer reads; absent if it has none. */
  readonly ownImporter?: { readonly readsLayout64: boolean };
  /** Path and SHA-256 of kexec-fiwix.c; absent if there is none. */
  readonly kexecFiwix?: { readonly path: string; readonly sha256: string };
  /** Sizes set in steps/jump/fiwix.sh; absent if the checkout has no such jump. */
  readonly fiwix?: FiwixSizes;
}

/** The ramdisks of the Fiwix jump, in bytes. */
export interface FiwixSizes {
  /** The ext2 root of Fiwix: `make_fiwix_initrd -s KIB`. */
  readonly ramdiskBytes: number;
  /** Space for the Linux kernel and its initramfs: `kexec_size=KIB`. */
  readonly kexecBytes: number;
}

/**
 * Reads a checkout.
 *
 * @throws {UserError} "tree" if a file is missing or not valid.
 */
export function readTree(dir: string): TreeModel {
  const root = openCheckout(dir);
  const manifest = readManifest(root);
  const sources = readSources(root, manifest);
  const fiwix = hasTreeFile(root, FIWIX_PATH)
    ? parseFiwixSizes(readTreeText(root, FIWIX_PATH))
    : undefined;
  return {
    root,
    manifest,
    stage1: readTreeFile(root, STAGE1_PATH),
    stage2: readTreeFile(root, STAGE2_PATH),
    sources,
    distfiles: mergeSources(sources),
    files: readRootFiles(root),
    downloads: readDownloads(root, manifest),
    procImproves: findProcImproves(root, manifest),
    ...findOwnImporter(root, manifest),
    ...findKexecFiwix(root, manifest),
    ...(fiwix && { fiwix }),
  };
}

function findProcImproves(root: string, manifest: Manifest): string[] {
  const names = new Set(
    manifest.lines.flatMap((line) => line.kind === "improve" ? [line.name] : []),
  );
  return [...names].filter((name) => {
    const path = `steps/improve/${name}.sh`;
    return hasTreeFile(root, path) && /\bmount\s+-t\s+proc\b/.test(readTreeText(root, path));
  });
}

/**
 * Finds the payload importer of a checkout, if it has one. The first published version reads 32-bit
 * numbers only; a version that reads the wider layout says so in its source.
 */
function findOwnImporter(root: string, manifest: Manifest): Pick<TreeModel, "ownImporter"> {
  if (!importsPayload(manifest)) return {};
  const readsLayout64 = stepsNamed(manifest, "payload-import-").some((step) => {
    const path = `steps/${step}/src/payload-import.c`;
    return hasTreeFile(root, path) && /layout 64/i.test(readTreeText(root, path));
  });
  return { ownImporter: { readsLayout64 } };
}

function findKexecFiwix(root: string, manifest: Manifest): Pick<TreeModel, "kexecFiwix"> {
  for (const step of stepsNamed(manifest, "kexec-fiwix-")) {
    const path = `steps/${step}/src/kexec-fiwix.c`;
    if (!hasTreeFile(root, path)) continue;
    const sha256 = sha256Of(readTreeFile(root, path));
    return { kexecFiwix: { path, sha256 } };
  }
  return {};
}

function stepsNamed(manifest: Manifest, prefix: string): string[] {
  return manifest.lines.flatMap((line) =>
    line.kind === "build" && line.name.startsWith(prefix) ? [line.name] : []
  );
}

/** Reads the manifest of a checkout. */
export function readManifest(root: string): Manifest {
  return parseManifest(readTreeText(root, "steps/manifest"), "steps/manifest");
}

/**
 * Lists the files for the root of a bootstrap: stage0-posix, the files (not the directories) of
 * seed/, and steps/. A file of seed/ replaces one of stage0-posix, and an existing bootstrap.cfg is
 * left out, since it is generated.
 */
function readRootFiles(root: string): TreeEntry[] {
  const files = new Map<string, TreeEntry>();
  const add = (entry: TreeEntry, path = entry.path) => files.set(path, { ...entry, path });
  for (const entry of walkTree(root, "seed/stage0-posix")) add(entry);
  for (const entry of walkTree(root, "seed")) {
    if (entry.kind === "file" && !entry.path.includes("/")) add(entry);
  }
  files.set("steps", {
    path: "steps",
    kind: "directory",
    source: `${root}/steps`,
    sizeBytes: 0,
    isExecutable: true,
  });
  for (const entry of walkTree(root, "steps")) {
    const path = `steps/${entry.path}`;
    if (isBuildInput(path)) add(entry, path);
  }
  return [...files.values()];
}

const FIWIX_PATH = "steps/jump/fiwix.sh";

/**
 * Finds the sizes of the ramdisks in the script of the Fiwix jump.
 *
 * @throws {UserError} "tree" if it does not set them, as the limits cannot be checked without them.
 */
export function parseFiwixSizes(script: string): FiwixSizes {
  const code = script.replace(/(^|\s)#.*$/gm, "$1");
  return {
    ramdiskBytes: kibibytes(
      code,
      /\bmake_fiwix_initrd\s+-s\s+(\d{1,12})\b/,
      "make_fiwix_initrd -s",
    ),
    kexecBytes: kibibytes(code, /\bkexec_size=(\d{1,12})\b/, "kexec_size="),
  };
}

function kibibytes(code: string, pattern: RegExp, what: string): number {
  const match = pattern.exec(code);
  if (match === null) {
    throw new UserError("tree", `Cannot find the number after "${what}"`, {
      where: FIWIX_PATH,
      hint: "The limits of the Fiwix jump are read from this script",
    });
  }
  return Number(match[1]) * 1024;
}
