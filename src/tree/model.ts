// SPDX-License-Identifier: MIT
/**
 * Everything that a plan needs to know about a checkout, read once.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { hasTreeFile, openCheckout, readTreeFile, readTreeText, walkTree } from "./checkout.ts";
import { type TreeEntry } from "./entry.ts";
import { type Distfile, mergeSources, type PlacedSource, readSources } from "./distfiles.ts";
import { type Downloads, readDownloads } from "./downloads.ts";
import { type PassScript, readPassScripts } from "./scripts.ts";
import { emptySubmoduleError, findEmptySubmodules, STAGE0 } from "./submodules.ts";
import { findUntracked, readTracked } from "./tracked.ts";
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
  /** The pass scripts of the steps that the manifest builds, by their path in the root. */
  readonly scripts: ReadonlyMap<string, PassScript>;
  /** Paths of submodules that are not cloned. */
  readonly emptySubmodules: readonly string[];
  /** Files in the root that git does not track, or directories of them; none without git. */
  readonly untracked: readonly string[];
  /** What is odd about the checkout but readable, each with its place. */
  readonly remarks: readonly string[];
}

/** The ramdisks of the Fiwix jump, in bytes; undefined where the script sets no number. */
export interface FiwixSizes {
  /** The ext2 root of Fiwix: `make_fiwix_initrd -s KIB`. */
  readonly ramdiskBytes: number | undefined;
  /** Space for the Linux kernel and its initramfs: `kexec_size=KIB`. */
  readonly kexecBytes: number | undefined;
}

/** Submodules without which no checkout can be read. */
const READ_HERE = ["builder-hex0", STAGE0];

/** Directories of stage0-posix for one architecture each, in the spelling of its ARCH_DIR. */
const ARCH_DIRS = ["AArch64", "AMD64", "armv7l", "riscv32", "riscv64", "x86"];

/**
 * Returns the empty submodules that a bootstrap needs: those of stage0-posix itself, except those
 * for other architectures. Each of these has its own copy of M2libc, which only its own tests use.
 *
 * @param archDir Architecture in the spelling of stage0-posix; that of none if it is not known.
 */
export function neededSubmodules(
  { emptySubmodules }: Pick<TreeModel, "emptySubmodules">,
  archDir?: string,
): string[] {
  return emptySubmodules.filter((path) => {
    if (!path.startsWith(`${STAGE0}/`)) return false;
    const inner = path.slice(STAGE0.length + 1);
    return !inner.includes("/") && (inner === archDir || !ARCH_DIRS.includes(inner));
  });
}

/**
 * Reads a checkout.
 *
 * @throws {UserError} "tree" if a file is missing or not valid.
 */
export function readTree(dir: string): TreeModel {
  const root = openCheckout(dir);
  const emptySubmodules = findEmptySubmodules(root);
  const unread = emptySubmodules.filter((path) => READ_HERE.includes(path));
  if (unread.length > 0) {
    const others = neededSubmodules({ emptySubmodules });
    throw emptySubmoduleError(root, [...unread, ...others]);
  }
  const manifest = readManifest(root);
  const remarks = [...manifest.remarks];
  const sources = readSources(root, manifest, (where, what) => remarks.push(`${where}: ${what}`));
  const files = readRootFiles(root);
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
    downloads: readDownloads(root, manifest),
    files,
    scripts: readPassScripts(root, files, new Set(stepsNamed(manifest, ""))),
    procImproves: findProcImproves(root, manifest),
    ...findOwnImporter(root, manifest),
    ...findKexecFiwix(root, manifest),
    ...(fiwix && { fiwix }),
    emptySubmodules,
    untracked: findUntrackedFiles(root, files),
    remarks,
  };
}

function findUntrackedFiles(root: string, files: readonly TreeEntry[]): string[] {
  const tracked = readTracked(root);
  if (tracked === undefined) return [];
  const sources = files.flatMap(({ kind, source }) => kind === "file" ? [source] : []);
  return findUntracked(tracked, sources.map((source) => source.slice(root.length + 1)));
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
  for (const entry of walkTree(root, STAGE0)) add(entry);
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

/** The script of the jump to Fiwix. */
export const FIWIX_PATH = "steps/jump/fiwix.sh";

/** Finds the sizes of the ramdisks in the script of the Fiwix jump. */
export function parseFiwixSizes(script: string): FiwixSizes {
  const code = script.replace(/(^|\s)#.*$/gm, "$1");
  return {
    ramdiskBytes: kibibytes(code, /\bmake_fiwix_initrd\s+-s\s+(?<kib>\S+)/),
    kexecBytes: kibibytes(code, /\bkexec_size=(?<kib>[^\s"'\\]+)/),
  };
}

/** A variable as a whole word of a script. */
const VARIABLE = /^"?\$(?:\{(\w+)\}|(\w+))"?$/;

/** Returns a size that stands in a script as a number, or as a variable that it sets to one once. */
function kibibytes(code: string, pattern: RegExp): number | undefined {
  const word = pattern.exec(code)?.groups?.["kib"] ?? "";
  const variable = VARIABLE.exec(word);
  const name = variable?.[1] ?? variable?.[2];
  const values = name === undefined
    ? [word]
    : [...code.matchAll(new RegExp(`^\\s*${name}=(\\S*)\\s*$`, "gm"))].map(([, value]) => value!);
  const [value] = values;
  if (value === undefined || values.length > 1 || !/^\d{1,12}$/.test(value)) return undefined;
  return Number(value) * 1024;
}
