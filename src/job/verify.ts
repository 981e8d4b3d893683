// SPDX-License-Identifier: MIT
/**
 * Verifies an image: against the record of its build, or against a checkout.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { dirname, relative, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import { STEPS } from "../assets.gen.ts";
import { UserError } from "../errors.ts";
import { blocksDigest } from "../format/blocks.ts";
import { type Piece, piecesDigest } from "../format/pieces.ts";
import { type ByteSource, firstNonZero } from "../format/reader.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { watched } from "../source/watched.ts";
import { kindOf, recordFor } from "../record/find.ts";
import { type FileSource, openImage } from "../source/file.ts";
import { digestRange } from "../image/linear.ts";
import { digestOne } from "../hash/pool.ts";
import { digestEntries, runsTask } from "../image/digests.ts";
import { digestPieces } from "../image/pieces.ts";
import { openView } from "../image/view.ts";
import {
  type DiskReport,
  type ImageReport,
  type ImageView,
  isOfPayload,
  type LinearKind,
  PAYLOAD_PATH,
  plainPath,
  type ViewEntry,
} from "../image/types.ts";
import { bootEntries } from "../plan/entries.ts";
import { isTarName } from "../plan/payload_extras.ts";
import { SUMS_NAME } from "../plan/restore.ts";
import { digestTreeFile, openCheckout } from "../tree/checkout.ts";
import { type Manifest } from "../tree/manifest.ts";
import { extraDir, findExtraBuilds } from "../tree/extra.ts";
import { readTree, type TreeModel } from "../tree/model.ts";
import {
  ADD_FILES_LIST,
  ADDED_LIST,
  FIRST_LIST,
  GUARD_BOOT,
  overlayManifest,
  REPO_LIST,
  REST_LIST,
  RESTORE_EMPTY_SCRIPT,
} from "../plan/overlay.ts";
import { recordPlace } from "../record/read.ts";
import type { RecordedImage } from "../record/types.ts";
import { builtStep, distfileName } from "../record/steps.ts";

/** The result for an image that is as it should be. */
export interface VerifiedImage {
  readonly report: ImageReport | DiskReport;
  /** Its part of the record; undefined if there is no record. */
  readonly record: RecordedImage | undefined;
  /** The comparison with a checkout; undefined if none was requested. */
  readonly tree: TreeCheck | undefined;
}

/** What to compare an image with. */
export interface CheckOptions {
  /** A record, or its directory; if absent, the record beside the image. */
  readonly recordPath?: string | undefined;
  /** Directory of a checkout, if any. */
  readonly tree?: string | undefined;
  /** Told of the stages; the content of files is for the view to tell. */
  readonly progress?: Progress;
}

/**
 * Verifies an image: its whole structure, then against the record of its build and a checkout.
 *
 * @throws {UserError} "format", "verify"; "target" if the record cannot be read; "usage" for a
 * bundle, which has an index of its own.
 */
export async function checkImage(
  view: ImageView,
  source: FileSource,
  { recordPath, tree, progress = UNWATCHED }: CheckOptions = {},
): Promise<VerifiedImage> {
  progress.begin("checking the structure");
  const report = openView(watched(source, progress), view.kind).verify();
  if (report.kind === "bundle") throw hasOwnIndex(source.name);
  const record = recordFor(source.name, view.kind, recordPath)?.image;
  if (record !== undefined) {
    const remedy = remedyFor(source, recordPath);
    await checkRecord(view, record, { isDevice: source.isDevice, remedy }, progress);
  }
  if (tree === undefined) return { report, record, tree };
  progress.begin("comparing with the checkout", report.fileBytes);
  return { report, record, tree: await checkTree(view, tree, progress) };
}

/** Returns the error for a bundle that should be compared with a record or a checkout. */
export function hasOwnIndex(path: string): UserError {
  return new UserError(
    "usage",
    `Cannot compare ${path} with a record or a checkout: it is a bundle`,
    {
      hint: "A bundle is verified against its own index: leave out --record and --tree",
    },
  );
}

/**
 * Compares an image with its record. On a device, other data may follow it.
 *
 * @throws {UserError} "verify" if it is not as it was built.
 */
async function checkRecord(
  view: ImageView,
  record: RecordedImage,
  { isDevice, remedy }: { readonly isDevice: boolean; readonly remedy: string },
  progress: Progress,
): Promise<void> {
  const source = watched(view.source, progress);
  if (view.kind !== kindOf(record.role)) {
    throw new UserError(
      "verify",
      `Cannot trust ${source.name}: it is a ${view.kind} now, it was built as a ${record.role} image`,
      { where: source.name, hint: "A guest that was started from it has installed a system on it" },
    );
  }
  const sizeBytes = isDevice ? Math.min(source.sizeBytes, record.sizeBytes) : source.sizeBytes;
  const isWhole = isDevice ? sizeBytes >= record.dataBytes : sizeBytes === record.sizeBytes;
  const fileBytes = record.files.reduce((sum, { size }) => sum + size, 0);
  // An image as a whole is on one core, its files are on the others.
  const readsWhole = isWhole && (record.sha256 ?? record.blocksSha256) !== undefined;
  const piecesBytes = record.piecesSha256 !== undefined && isWhole ? record.dataBytes : fileBytes;
  progress.begin("checking files and image", piecesBytes + (readsWhole ? record.dataBytes : 0));
  const whole = readsWhole ? startDigest(source, record, progress) : undefined;
  try {
    const pieces = await checkFiles(view, record, { remedy, isWhole }, progress);
    const fault = !isWhole
      ? `it has ${source.sizeBytes} bytes, it was built with ${record.sizeBytes}`
      : pieces !== record.piecesSha256
      ? "the bytes between its files are not as they were built"
      : await wholeFault(whole, record);
    if (fault === undefined) return;
    throw new UserError("verify", `Cannot trust ${source.name}: ${fault}`, {
      where: source.name,
      hint: `A guest that was started from it also changes it. ${remedy}`,
    });
  } catch (error) {
    await whole?.giveUp();
    throw error;
  }
}

/** Compares the digest of an image as a whole, where its record has one. */
async function wholeFault(
  whole: WholeDigest | undefined,
  { sha256, blocksSha256 }: RecordedImage,
): Promise<string | undefined> {
  if (whole === undefined) return undefined;
  const wanted = sha256 ?? blocksSha256;
  const got = await whole.sha256();
  return got === wanted ? undefined : `SHA-256 is ${got}, it was built with ${wanted}`;
}

/**
 * Compares every file of an image with its record.
 *
 * @returns The digest of its pieces, where the record has it.
 * @throws {UserError} "verify" for the first that differs, or is missing.
 */
async function checkFiles(
  view: ImageView,
  { files, piecesSha256, dataBytes }: RecordedImage,
  { remedy, isWhole }: { readonly remedy: string; readonly isWhole: boolean },
  progress: Progress,
): Promise<string | undefined> {
  const recorded = new Map(files.map((file) => [plainPath(file.path), file]));
  const check = (entry: ViewEntry, got: string) => {
    const path = plainPath(entry.path);
    const file = recorded.get(path);
    recorded.delete(path);
    if (file?.sha256 === got) return;
    const what = file === undefined
      ? `${entry.path} was not put into it`
      : `SHA-256 of ${entry.path} is ${got}, it was built with ${file.sha256}`;
    throw distrust(view, entry, what, remedy);
  };
  const pieces: Piece[] = [];
  if (piecesSha256 !== undefined && view.kind !== "disk" && view.kind !== "bundle") {
    // What the threads read is told by them; what is read to find the files counts as nothing.
    const source = view.source.runs ? view.source : watched(view.source, progress);
    for await (
      const { file, size, sha256 } of digestPieces(source, view.kind, isWhole ? dataBytes : 0, {
        progress,
      })
    ) {
      if (sha256 === undefined) break;
      pieces.push({ sizeBytes: size, sha256 });
      if (file !== undefined) check(file, sha256);
    }
  } else {
    for await (const [entry, got] of digestEntries(view, view.entries(), { progress })) {
      if (got !== undefined) check(entry, got);
    }
  }
  const missing = [...recorded.values()].find(({ size }) => size > 0);
  if (missing !== undefined) {
    const what = `${JSON.stringify(missing.path)} is missing`;
    throw new UserError("verify", `Cannot trust ${view.source.name}: ${what}`, {
      where: view.source.name,
      hint: `A guest that was started from it also changes it. ${remedy}`,
    });
  }
  return piecesSha256 === undefined ? undefined : piecesDigest(pieces);
}

/** The digest of an image that is computed while its files are. */
interface WholeDigest {
  sha256(): Promise<string>;
  /** Ends it, as its result is of no use. */
  giveUp(): Promise<void>;
}

/** Begins the digest of an image that its record has, on another core where that can be. */
function startDigest(
  source: ByteSource,
  { sha256, sizeBytes, dataBytes }: RecordedImage,
  progress: Progress,
): WholeDigest {
  const { name, runs } = source;
  const end = new AbortController();
  const compute = async () => {
    if (sha256 === undefined) return await diskDigest(source, sizeBytes, end.signal);
    if (runs === undefined) return digestRange(source, 0, dataBytes);
    const onBytes = (bytes: number) => progress.add(bytes);
    const task = runsTask(name, name, runs(0, dataBytes));
    return await digestOne(task, { onBytes, signal: end.signal });
  };
  const digest = compute();
  // Whoever waits for it gets the error; nobody may.
  digest.catch(() => {});
  return {
    sha256: () => digest,
    giveUp: async () => {
      end.abort();
      await digest.catch(() => {});
    },
  };
}

/**
 * Reports whether an image file is as it was built, by its content.
 *
 * @throws {UserError} "target" if it cannot be read.
 */
export async function isAsBuilt(
  path: string,
  record: RecordedImage,
  progress: Progress,
): Promise<boolean> {
  const opened = openImage(path);
  const source = watched(opened, progress);
  try {
    progress.begin(`checking ${path}`, record.dataBytes);
    const { role, sizeBytes, dataBytes, piecesSha256, sha256, blocksSha256 } = record;
    if (source.isDevice || source.sizeBytes !== sizeBytes) return false;
    if (blocksSha256 !== undefined) return await diskDigest(source, sizeBytes) === blocksSha256;
    if (firstNonZero(source, dataBytes) >= 0) return false;
    if (piecesSha256 === undefined || role === "disk" || role === "external") {
      return digestRange(source, 0, dataBytes) === sha256;
    }
    return await hasPieces(source, { kind: role, dataBytes, piecesSha256 }, progress);
  } finally {
    opened.close();
  }
}

/** Reports whether an image has certain pieces. */
async function hasPieces(
  source: ByteSource,
  { kind, dataBytes, piecesSha256 }: {
    readonly kind: LinearKind;
    readonly dataBytes: number;
    readonly piecesSha256: string;
  },
  progress: Progress,
): Promise<boolean> {
  const pieces: Piece[] = [];
  try {
    for await (const { size, sha256 } of digestPieces(source, kind, dataBytes, { progress })) {
      if (sha256 === undefined) return false;
      pieces.push({ sizeBytes: size, sha256 });
    }
  } catch (error) {
    // Where its structure is damaged it is not what was built.
    if (error instanceof UserError && error.kind === "format") return false;
    throw error;
  }
  return piecesDigest(pieces) === piecesSha256;
}

/** Computes the digest of a disk in a file, or at the beginning of a device. */
async function diskDigest(
  source: ByteSource,
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<string> {
  const { name, read, nextData } = source;
  const disk = { name, sizeBytes, read, ...(nextData && { nextData }) };
  return await blocksDigest(disk, undefined, async () => {
    await setImmediate();
    signal?.throwIfAborted();
  });
}

/** The result of a comparison with a checkout. */
export interface TreeCheck {
  /** Number of files with the content in the checkout, or with the SHA-256 of its sources. */
  readonly same: number;
  /** Files that a build generates from its options; their content was not compared. */
  readonly generated: readonly string[];
  /** Number of files that are not in the checkout, on a disk, in a container or in a payload. */
  readonly others: number;
}

/**
 * Compares an image with a checkout.
 *
 * @throws {UserError} "tree" if `dir` is not a checkout, "verify" if a file differs from it. A disk
 * or a container may also contain other files, and a payload prebuilt packages and directories of the
 * user.
 */
async function checkTree(view: ImageView, dir: string, progress: Progress): Promise<TreeCheck> {
  const tree = readTree(dir, extraBuildsIn(view, dir));
  const distfiles = new Map(tree.distfiles.map(({ name, sha256 }) => [name, sha256]));
  const sources = new Map(
    bootEntries(tree, []).map((entry) => [plainPath(entry.path), entry]),
  );
  const manifests = overlaidManifests(tree);
  const generated: string[] = [];
  const missing = new Set(
    view.kind !== "boot" ? [] : [...sources.values()]
      .filter(({ size, content }) => content.kind === "tree" && size > 0)
      .map(({ path }) => plainPath(path)),
  );
  let same = 0;
  let others = 0;
  for await (const [entry, got] of digestEntries(view, view.entries(), { progress })) {
    if (got === undefined) continue;
    const path = plainPath(entry.path);
    missing.delete(path);
    const name = distfileName(entry.path, view.kind);
    const known = sources.get(path)?.content;
    const wanted = name !== undefined
      ? distfiles.get(name)
      : known?.kind === "tree"
      ? digestTreeFile(tree.root, relative(tree.root, known.source))
      : OVERLAY.get(path);
    if (got === wanted || manifests.get(path)?.has(got)) same++;
    else if (BUILD_ONLY.has(path)) generated.push(path);
    else if (wanted === undefined && holdsMore(view, entry.path)) others++;
    else if (wanted === undefined) {
      throw distrust(view, entry, `${entry.path} is not of this checkout`);
    } else {
      throw distrust(
        view,
        entry,
        `SHA-256 of ${entry.path} is ${got}, the checkout says ${wanted}`,
      );
    }
  }
  const [first] = missing;
  if (first !== undefined) {
    throw new UserError("verify", `Cannot trust ${view.source.name}: ${first} is missing`, {
      where: view.source.name,
      hint: "Was it built from this checkout?",
    });
  }
  return { same, generated, others };
}

/** Whether the disk is looked at, and a partition made on it, which is never done unseen. */
const DISK_STEPS = [[false, false], [true, false], [true, true]] as const;

/**
 * Reports whether an image may contain a file that is not of a checkout: the seeds, a prebuilt
 * package, or a directory of the user in a payload.
 */
function holdsMore({ kind }: ImageView, path: string): boolean {
  if (kind === "disk" || kind === "container") return true;
  const name = distfileName(path, kind);
  const isInPayload = kind === "payload" || (kind === "boot" && isOfPayload(path));
  return isInPayload && name !== undefined && (builtStep(name) !== undefined || isTarName(name));
}

/** Returns the names of the extra builds of a checkout that an image has. */
function extraBuildsIn(view: ImageView, dir: string): string[] {
  const there = findExtraBuilds(openCheckout(dir));
  if (there.length === 0) return [];
  const paths = new Set([...view.entries()].map(({ path }) => plainPath(path)));
  return there.filter((name) => paths.has(`${extraDir(name)}/manifest`));
}

/** Paths of the files that a build generates from its options. */
const BUILD_ONLY: ReadonlySet<string> = new Set([
  "steps/bootstrap.cfg",
  FIRST_LIST,
  REST_LIST,
  REPO_LIST,
  ADDED_LIST,
  ADD_FILES_LIST,
  RESTORE_EMPTY_SCRIPT,
  GUARD_BOOT,
  SUMS_NAME,
  `${PAYLOAD_PATH}/${SUMS_NAME}`,
]);
/** SHA-256 of the fixed files of the overlay, by path. */
const OVERLAY: ReadonlyMap<string, string> = new Map(
  Object.entries(STEPS).map(([path, text]) => [`steps/${path}`, sha256Of(text)]),
);

/** Returns the SHA-256 of every manifest that a build can make from those of the checkout, by path. */
function overlaidManifests({ manifest, extraBuilds, procImproves }: TreeModel) {
  return new Map([
    [manifest.file, overlaidTexts(manifest, procImproves)],
    ...extraBuilds.map((extra) =>
      [extra.manifest.file, overlaidTexts(extra.manifest, [])] as const
    ),
  ]);
}

function overlaidTexts(manifest: Manifest, procImproves: readonly string[]): Set<string> {
  const digests = new Set<string>();
  for (const payloadPhases of [0, 1, 2] as const) {
    for (const airGapped of [false, true]) {
      for (const restoresEmpty of [false, true]) {
        for (const [guardsDisk, oneDisk] of DISK_STEPS) {
          for (const extras of EXTRAS) {
            const request = {
              payloadPhases,
              airGapped,
              restoresEmpty,
              guardsDisk,
              oneDisk,
              ...extras,
            };
            const text = overlaid(manifest, request, procImproves);
            if (text !== undefined) digests.add(sha256Of(text));
          }
        }
      }
    }
  }
  return digests;
}

/** What a payload may have besides distfiles. */
const EXTRAS = [{}, { extras: "packages" }, { extras: "tars" }] as const;

function overlaid(
  manifest: Manifest,
  request: Parameters<typeof overlayManifest>[1],
  procImproves: readonly string[],
): string | undefined {
  try {
    return overlayManifest(manifest, request, procImproves).text;
  } catch (error) {
    // A manifest that lacks a needed line was not built with this overlay.
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** Says how to get the image right again: a copy comes from its target. */
function remedyFor({ name, isDevice }: FileSource, recordPath: string | undefined): string {
  if (isDevice) return "Write it again";
  const isCopy = recordPath !== undefined &&
    dirname(resolve(recordPlace(recordPath))) !== dirname(resolve(name));
  return isCopy ? "Copy it again from its target" : "Build the target again";
}

function distrust(
  view: ImageView,
  entry: ViewEntry,
  what: string,
  hint = "Build the target again",
): UserError {
  const offset = "dataOffset" in entry ? `, offset ${entry.dataOffset}` : "";
  return new UserError(
    "verify",
    `Cannot trust ${view.source.name}: ${what}`,
    { where: `${view.source.name}${offset}`, hint },
  );
}
