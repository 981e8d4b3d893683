// SPDX-License-Identifier: MIT
/**
 * Everything that a plan needs to know about a checkout, read once.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import {
  hasTreeFile,
  holdsAnything,
  openCheckout,
  readTreeFile,
  readTreeText,
  walkTree,
} from "./checkout.ts";
import { type TreeEntry } from "./entry.ts";
import { type Distfile, mergeSources, type PlacedSource, readSources } from "./distfiles.ts";
import { type Downloads, readDownloads } from "./downloads.ts";
import {
  type ExtraBuild,
  type ExtraReader,
  findExtraBuilds,
  findExtraReader,
  isStepPath,
  type Manifests,
  readExtraBuilds,
} from "./extra.ts";
import { type PassScript, readPassScripts } from "./scripts.ts";
import { emptySubmoduleError, findEmptySubmodules, STAGE0 } from "./submodules.ts";
import { findUntracked, readTracked } from "./tracked.ts";
import { importsPayload, type Manifest, parseManifest } from "./manifest.ts";

/** The directory of builder-hex0 in a checkout, and paths in it. */
export const BUILDER = "builder-hex0";
export const STAGE1_PATH = "builder-hex0/builder-hex0-x86-stage1.hex0";
export const STAGE2_PATH = "builder-hex0/builder-hex0-x86-stage2.hex0";

/**
 * Directories of a checkout that builds read. All that lies in them is of the checkout, whatever its
 * name: images, digests and bundles have the same files. Only `.git` and an existing
 * steps/bootstrap.cfg are left out. Step directories of extra builds are of it, too.
 */
const BUILD_DIRS = [BUILDER, "seed"];
/** Generated anew for each build. */
export const CONFIG_PATH = "steps/bootstrap.cfg";

/** Reports whether a path, relative to the checkout, is of what builds read. */
export function isBuildInput(path: string): boolean {
  return path !== CONFIG_PATH && (isStepPath(path) ||
    BUILD_DIRS.some((dir) => path === dir || path.startsWith(`${dir}/`)));
}

/** A checkout as data. */
export interface TreeModel {
  /** Absolute path. */
  readonly root: string;
  readonly manifest: Manifest;
  /** The step directories beside steps/ that the build includes. */
  readonly extraBuilds: readonly ExtraBuild[];
  /** The script by which the machine comes to such directories, if there are any. */
  readonly extraReader?: ExtraReader;
  /** Names of those that the checkout has and the build does not include. */
  readonly otherBuilds: readonly string[];
  /**
   * hex0 text of the boot sector of builder-hex0, and of the second stage that it loads; absent where
   * the checkout does not have both. Only a kernel bootstrap of x86 needs them.
   */
  readonly stages?: BuilderStages;
  /** Names of the hex0 files in builder-hex0/: ports to other machines have others. */
  readonly builderFiles: readonly string[];
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
  /** A list of files that the machine reads and rootfs.py generates; absent without one. */
  readonly generatedList?: GeneratedList;
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

/** builder-hex0 as hex0 text. */
export interface BuilderStages {
  readonly stage1: Uint8Array;
  readonly stage2: Uint8Array;
}

/** The list of the files that come to Fiwix: those of a file of the checkout, then all of steps/. */
export interface GeneratedList {
  /** Its path in the root. */
  readonly path: string;
  /** What the list begins with, a path from the root in each line. */
  readonly begin: string;
}

/** The ramdisks of the Fiwix jump, in bytes; undefined where the script sets no number. */
export interface FiwixSizes {
  /** The ext2 root of Fiwix: `make_fiwix_initrd -s KIB`. */
  readonly ramdiskBytes: number | undefined;
  /** Space for the Linux kernel and its initramfs: `kexec_size=KIB`. */
  readonly kexecBytes: number | undefined;
}

/** Submodules without which no checkout can be read. */
const READ_HERE = [BUILDER, STAGE0];

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
 * @param names The extra builds to include, in order.
 * @throws {UserError} "tree" if a file is missing or not valid; "usage" for an extra build that it
 * does not have.
 */
export function readTree(dir: string, names: readonly string[] = []): TreeModel {
  const root = openCheckout(dir);
  const emptySubmodules = findEmptySubmodules(root);
  const unread = emptySubmodules.filter((path) => READ_HERE.includes(path));
  if (unread.length > 0) {
    const others = neededSubmodules({ emptySubmodules });
    throw emptySubmoduleError(root, [...unread, ...others]);
  }
  const manifests = readManifests(root, names);
  const { manifest, extraBuilds } = manifests;
  const remarks = [manifest, ...extraBuilds.map((extra) => extra.manifest)]
    .flatMap((read) => read.remarks);
  const sources = readSources(root, manifests, (where, what) => remarks.push(`${where}: ${what}`));
  const files = readRootFiles(root, extraBuilds);
  const otherBuilds = findExtraBuilds(root).filter((name) => !names.includes(name));
  const hasExtras = extraBuilds.length + otherBuilds.length > 0;
  const extraReader = hasExtras ? findExtraReader(root, files) : undefined;
  const steps = [{ dir: "steps", manifest }, ...extraBuilds].flatMap((extra) =>
    stepsNamed(extra.manifest, "").map((step) => `${extra.dir}/${step}`)
  );
  const fiwix = hasTreeFile(root, FIWIX_PATH)
    ? parseFiwixSizes(readTreeText(root, FIWIX_PATH))
    : undefined;
  return {
    root,
    manifest,
    extraBuilds,
    ...(extraReader !== undefined && { extraReader }),
    otherBuilds,
    ...readStages(root),
    sources,
    distfiles: mergeSources(sources),
    downloads: readDownloads(root, manifest),
    files,
    scripts: readPassScripts(root, files, new Set(steps)),
    procImproves: findProcImproves(root, manifest),
    ...findOwnImporter(root, manifest),
    ...findKexecFiwix(root, manifest),
    ...findGeneratedList(root),
    ...(fiwix && { fiwix }),
    emptySubmodules,
    untracked: findUntrackedFiles(root, files),
    remarks,
  };
}

function readStages(root: string): Pick<TreeModel, "stages" | "builderFiles"> {
  const isDeeper = (path: string) => path.split("/").length > 2;
  const entries = holdsAnything(root, BUILDER) ? walkTree(root, BUILDER, undefined, isDeeper) : [];
  const builderFiles = entries.map(({ path }) => path).filter((path) => path.endsWith(".hex0"));
  const isWhole = hasTreeFile(root, STAGE1_PATH) && hasTreeFile(root, STAGE2_PATH);
  return {
    ...(isWhole && {
      stages: {
        stage1: readTreeFile(root, STAGE1_PATH),
        stage2: readTreeFile(root, STAGE2_PATH),
      },
    }),
    builderFiles: builderFiles.sort(),
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
 * numbers only. A version that reads the wider layout says so in its source, or has a function for
 * its numbers: the later versions of pull request 578, which read no other.
 */
function findOwnImporter(root: string, manifest: Manifest): Pick<TreeModel, "ownImporter"> {
  if (!importsPayload(manifest)) return {};
  const readsLayout64 = stepsNamed(manifest, "payload-import-").some((step) => {
    const path = `steps/${step}/src/payload-import.c`;
    return hasTreeFile(root, path) && READS_64.test(readTreeText(root, path));
  });
  return { ownImporter: { readsLayout64 } };
}

const READS_64 = /layout 64|\b\w*u64_?le\w*\s*\(/i;

function findKexecFiwix(root: string, manifest: Manifest): Pick<TreeModel, "kexecFiwix"> {
  for (const step of stepsNamed(manifest, "kexec-fiwix-")) {
    const path = `steps/${step}/src/kexec-fiwix.c`;
    if (!hasTreeFile(root, path)) continue;
    const sha256 = sha256Of(readTreeFile(root, path));
    return { kexecFiwix: { path, sha256 } };
  }
  return {};
}

/**
 * Finds the list of the files that come to Fiwix. From December 2023 to February 2024 it was generated
 * by rootfs.py, and script-generator, which cannot do without, added to it.
 */
function findGeneratedList(root: string): Pick<TreeModel, "generatedList"> {
  if (!hasTreeFile(root, GENERATOR_PATH)) return {};
  const [, path, dir] = FILE_LIST.exec(readTreeText(root, GENERATOR_PATH)) ?? [];
  if (path === undefined) return {};
  const begin = readTreeText(root, `${dir}/early-artifacts-needed-after-fiwix.txt`);
  return { generatedList: { path, begin } };
}

const FILE_LIST = /"\/((steps\/[^"\s]*)\/fiwix-file-list\.txt)"/;
const GENERATOR_PATH = "seed/script-generator.c";

function stepsNamed(manifest: Manifest, prefix: string): string[] {
  return manifest.lines.flatMap((line) =>
    line.kind === "build" && line.name.startsWith(prefix) ? [line.name] : []
  );
}

/**
 * Reads the manifests of a checkout.
 *
 * @param names The extra builds, in order.
 * @throws {UserError} as {@link readTree}
 */
export function readManifests(root: string, names: readonly string[] = []): Manifests {
  const manifest = parseManifest(readTreeText(root, "steps/manifest"), "steps/manifest");
  return { manifest, extraBuilds: readExtraBuilds(root, manifest, names) };
}

/**
 * Reads the distfiles of a checkout and of each of its extra builds, those of steps/ first. A name
 * may be there more than once.
 *
 * @throws {UserError} "tree"
 */
export function readEveryDistfile(dir: string): Distfile[] {
  const root = openCheckout(dir);
  return [[], ...findExtraBuilds(root).map((name) => [name])].flatMap((names) =>
    mergeSources(readSources(root, readManifests(root, names)))
  );
}

/**
 * Lists the files for the root of a bootstrap: stage0-posix, the files (not the directories) of
 * seed/, steps/, and the directories of extra builds. A file of seed/ replaces one of stage0-posix, and
 * an existing bootstrap.cfg is left out, since it is generated.
 */
function readRootFiles(root: string, extraBuilds: readonly ExtraBuild[]): TreeEntry[] {
  const files = new Map<string, TreeEntry>();
  const add = (entry: TreeEntry, path = entry.path) => files.set(path, { ...entry, path });
  for (const entry of walkTree(root, STAGE0)) add(entry);
  for (const entry of walkTree(root, "seed")) {
    if (entry.kind === "file" && !entry.path.includes("/")) add(entry);
  }
  for (const dir of ["steps", ...extraBuilds.map((extra) => extra.dir)]) {
    files.set(dir, {
      path: dir,
      kind: "directory",
      source: `${root}/${dir}`,
      sizeBytes: 0,
      isExecutable: true,
    });
    for (const entry of walkTree(root, dir)) {
      const path = `${dir}/${entry.path}`;
      if (path !== CONFIG_PATH) add(entry, path);
    }
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
