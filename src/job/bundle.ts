// SPDX-License-Identifier: MIT
/**
 * Makes bundles, and unpacks them: everything that an offline site needs, verified.
 *
 * @module
 */

import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Bundle, bundledFile, isBundle } from "../image/bundle.ts";
import { frameFaults } from "../image/bundle_verify.ts";
import { UserError } from "../errors.ts";
import {
  BUNDLE_DIR,
  type BundledDistfile,
  type BundleIndex,
  bundleSegments,
  DISTFILES_DIR,
  IMAGES_DIR,
  layOut,
  makeIndex,
  MAX_INDEX_BYTES,
  sortByPath,
} from "../format/bundle.ts";
import { isBootSector } from "../format/boot.ts";
import { isPayload } from "../format/payload.ts";
import {
  type Body,
  type FileSegment,
  fileSegment,
  segmentSize,
  textSegment,
} from "../format/segment.ts";
import { digestEach, digestOne, type HashTask } from "../hash/pool.ts";
import type { Located } from "../plan/images.ts";
import { SUMS_NAME } from "../plan/restore.ts";
import { isPreNetwork } from "../plan/split.ts";
import { WORK_DIR } from "../runtime/own.ts";
import { ownBinary } from "../runtime/binary.ts";
import { statIfThere } from "../runtime/stat.ts";
import { openImage } from "../source/file.ts";
import { openParts } from "../source/parts.ts";
import { checkStore } from "./check.ts";
import { UNWATCHED } from "../progress.ts";
import { walkTree } from "../tree/checkout.ts";
import type { Distfile } from "../tree/distfiles.ts";
import type { TreeEntry } from "../tree/entry.ts";
import { CONFIG_PATH, isBuildInput, readTree, type TreeModel } from "../tree/model.ts";
import { readTracked } from "../tree/tracked.ts";
import { VERSION } from "../version.ts";
import { type DirectoryEntry, writeDirectory } from "../write/directory.ts";
import { writeOutputDirectory } from "../write/output.ts";
import { checkOutput, writeOutputParts, type WrittenPart } from "../write/output_parts.ts";
import { streamImage } from "../write/stream.ts";
import { DigestMismatch } from "../write/writer.ts";
import type { BuildEvents } from "./build.ts";
import { type DistfileRequest, fetchAbsent, locateAll, locateRight } from "./distfiles.ts";
import { type BundlePiece, imagePieces } from "./bundle_images.ts";

/** The content of a bundle, and where it goes. */
export interface BundleRequest extends DistfileRequest {
  /** Directory of the checkout, or a bundle. */
  readonly tree: string;
  /** The step directories beside steps/ whose distfiles it has, too. */
  readonly extraBuilds?: readonly string[] | undefined;
  /** Whether to leave out distfiles that are only needed after the network is up. */
  readonly preNetwork: boolean;
  /** Whether builds from it are air-gapped, unless they are told otherwise. */
  readonly airGapped?: boolean;
  /** Whether the SHA-256 of each file of the bundle as a whole is wanted. */
  readonly wantsSha256?: boolean;
  /** Target whose images are included. */
  readonly images?: string | undefined;
  /** Whether our own binary is included. */
  readonly hasBinary: boolean;
  /** A new file, or a stream, which is verified as it goes, and aborted where it is incomplete. */
  readonly output: string | WritableStream<Uint8Array>;
  /** Size of each part in bytes; one file if absent. */
  readonly partBytes?: number | undefined;
}

/** A bundle that was made. */
export interface CreatedBundle {
  readonly index: BundleIndex;
  /** Size of the whole bundle. */
  readonly sizeBytes: number;
  /** Its files: one if it is not split, none if it went to a stream. */
  readonly parts: readonly WrittenPart[];
}

/** Path of the binary in a bundle; its images are in a directory of their own. */
export const BINARY_PATH = `${BUNDLE_DIR}/bin/seedstrap`;

/**
 * Makes a bundle. Missing distfiles are fetched first, as in a build.
 *
 * @throws {UserError} of every kind; no files are left then.
 */
export async function createBundle(
  request: BundleRequest,
  events: BuildEvents = {},
  signal?: AbortSignal,
): Promise<CreatedBundle> {
  const binary = request.hasBinary ? checkBinary() : undefined;
  if (typeof request.output === "string") checkOutput(request.output);
  checkStore(request.store);
  const tree = readTree(request.tree, request.extraBuilds);
  const wanted = tree.distfiles.filter(({ uses }) =>
    !request.preNetwork || uses.some(({ index }) => isPreNetwork(index, tree))
  );
  const places = { ...request, root: tree.root };
  const located = await fetchAbsent(
    wanted,
    await locateAll(wanted, places),
    places,
    request,
    events,
    signal,
  );
  const { progress = UNWATCHED } = events;
  progress.begin("reading the checkout");
  const fixed = [
    ...await checkoutPieces(tree, events, signal),
    ...(request.images === undefined ? [] : [
      directoryPiece(IMAGES_DIR),
      ...await imagePieces(request.images, IMAGES_DIR, progress, signal),
    ]),
    ...(binary === undefined ? [] : await binaryPieces(binary, signal)),
    directoryPiece(BUNDLE_DIR),
    directoryPiece(DISTFILES_DIR),
  ];
  const bundle = { request, tree, wanted, fixed };
  try {
    return await writeBundle(bundle, located, events, signal);
  } catch (error) {
    // As in a build: files that were here are verified only now.
    if (!(error instanceof DigestMismatch)) throw error;
    const right = await locateRight(wanted, places, events, signal);
    const { wrong } = right;
    const again = { ...request, wrong };
    const whole = await fetchAbsent(wanted, right.located, places, again, events, signal);
    return await writeBundle(bundle, whole, events, signal);
  }
}

/** The content of a bundle, without the files of its distfiles. */
interface BundleParts {
  readonly request: BundleRequest;
  readonly tree: TreeModel;
  /** The distfiles in it. */
  readonly wanted: readonly Distfile[];
  /** Everything that is not a distfile. */
  readonly fixed: readonly BundlePiece[];
}

async function writeBundle(
  { request, tree, wanted, fixed }: BundleParts,
  located: Located,
  { progress = UNWATCHED }: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<CreatedBundle> {
  const { output, partBytes, airGapped, wantsSha256 = false } = request;
  const pieces = [...fixed, ...wanted.map((distfile) => distfilePiece(distfile, located))];
  const names = new Set(wanted.map(({ name }) => name));
  const distfiles = tree.distfiles.map(({ name, sha256, urls, uses }): BundledDistfile => ({
    name,
    sha256,
    urls,
    steps: [...new Set(uses.map(({ step }) => step))],
    isBundled: names.has(name),
  }));
  const index = makeIndex(VERSION, distfiles, pieces.map(({ member }) => member), airGapped);
  const layout = layOut(index);
  const indexBytes = layout.members[1]!.size;
  if (indexBytes > MAX_INDEX_BYTES) {
    throw new UserError(
      "usage",
      `Cannot make this bundle: its index would have ${indexBytes} bytes, at most ${MAX_INDEX_BYTES} are read`,
      { hint: "Are there files in the checkout that are not of it?" },
    );
  }
  const bodies = new Map(pieces.map(({ member, body }) => [member.path, body]));
  const segments = bundleSegments(layout, (path) => bodies.get(path)!);
  const options = { onBytes: (bytes: number) => progress.add(bytes), ...(signal && { signal }) };
  if (typeof output !== "string") {
    progress.begin("streaming", layout.sizeBytes);
    await streamImage(segments, output, options);
    return { index, sizeBytes: layout.sizeBytes, parts: [] };
  }
  const total = segments.reduce(
    (sum, segment) => sum + (segment.kind === "file" ? segment.sizeBytes : 0),
    0,
  );
  progress.begin("writing", total);
  const parts = await writeOutputParts(output, segments, partBytes, { wantsSha256, ...options });
  return { index, sizeBytes: layout.sizeBytes, parts };
}

/**
 * Everything of a checkout that builds read, and of the rest what is of the checkout: neither what
 * is made or fetched, nor what git does not track. Without git, targets, images, bundles and
 * harvests are known by what is in them.
 */
async function checkoutPieces(
  { root, untracked }: TreeModel,
  { onNotice }: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<BundlePiece[]> {
  const pieces: BundlePiece[] = [];
  const tracked = readTracked(root);
  if (untracked.length > 0) {
    onNotice?.(`git does not track these files, which builds read: ${untracked.join(", ")}`);
  }
  const skips = (path: string) => {
    if (isBuildInput(path)) return false;
    if (isMade(root, path)) return true;
    if (tracked === undefined) return !path.includes("/") && isOurs(join(root, path));
    if (tracked.hasBelow(path)) return false;
    onNotice?.(`${path} is left out: git does not track it`);
    return true;
  };
  const entries = walkTree(root, "", "the checkout", skips);
  const tasks = function* (): Generator<HashTask | undefined> {
    for (const entry of entries) {
      // What is in a bundle has a digest.
      const isHashed = entry.kind === "file" && entry.bundled === undefined;
      yield isHashed ? { segment: segmentOf(entry), kind: "tree" } : undefined;
    }
  };
  for await (const digest of digestEach(tasks(), { signal })) {
    const entry = entries[pieces.length]!;
    if (entry.kind === "directory") {
      pieces.push(directoryPiece(entry.path));
      continue;
    }
    const sha256 = digest ?? entry.bundled!.sha256;
    pieces.push(filePiece(entry.path, segmentOf(entry, sha256), sha256, entry.isExecutable));
  }
  return pieces;
}

function segmentOf({ source, ...file }: TreeEntry, sha256?: string): FileSegment {
  return fileSegment({ ...file, path: source }, sha256);
}

const LEFT_OUT: ReadonlySet<string> = new Set([DISTFILES_DIR, BUNDLE_DIR, CONFIG_PATH]);

/** Reports whether something of a checkout is made or fetched by programs, whatever git says. */
function isMade(root: string, path: string): boolean {
  const place = join(root, path);
  if (LEFT_OUT.has(path) || /(^|\/)__pycache__$/.test(path)) return true;
  if (existsSync(join(place, WORK_DIR))) return true;
  if (path.includes("/")) return false;
  // A bundle, one of its parts, or one that is being written.
  if (/^\..*\.part-/.test(path)) return true;
  const first = place.replace(/\.\d{3,6}$/, ".001");
  return statIfThere(first)?.isFile() === true && isBundle(first);
}

/** Reports whether something is an image that seedstrap has made, or a harvest. */
function isOurs(place: string): boolean {
  const stat = statIfThere(place);
  if (stat?.isFile() === true) {
    const source = openImage(place);
    try {
      return isPayload(source) || isBootSector(source);
    } finally {
      source.close();
    }
  }
  if (stat?.isDirectory() !== true) return false;
  const names = readdirSync(place);
  return names.includes(SUMS_NAME) &&
    names.every((name) => name === SUMS_NAME || /_\d+\.tar\.bz2$/.test(name));
}

function distfilePiece({ name, sha256 }: Distfile, located: Located): BundlePiece {
  const body = fileSegment(located.get(name)!, sha256);
  return filePiece(`${DISTFILES_DIR}/${name}`, body, sha256, false);
}

async function binaryPieces(path: string, signal: AbortSignal | undefined): Promise<BundlePiece[]> {
  const file = { path, sizeBytes: statIfThere(path)!.size };
  const sha256 = await digestOne({ segment: fileSegment(file), kind: "tree" }, { signal });
  return [
    directoryPiece(`${BUNDLE_DIR}/bin`),
    filePiece(BINARY_PATH, fileSegment(file, sha256), sha256, true),
  ];
}

/**
 * Returns the path of our own binary.
 *
 * @throws {UserError} "usage" if we run from source.
 */
function checkBinary(): string {
  const path = ownBinary();
  if (path !== undefined) return path;
  throw new UserError("usage", "Cannot use --binary: seedstrap runs from source", {
    hint: "Run the binary that scripts/build.sh makes",
  });
}

function filePiece(path: string, body: Body, sha256: string, isExecutable: boolean): BundlePiece {
  const member = { kind: "file", path, size: segmentSize(body), sha256, isExecutable } as const;
  return { member, body: [body] };
}

function directoryPiece(path: string): BundlePiece {
  return { member: { kind: "directory", path }, body: [] };
}

/**
 * Unpacks a bundle, and verifies every byte of it: the checkout with its distfiles, and
 * `seedstrap-bundle/`.
 *
 * @param dir A directory that does not exist, or is empty.
 * @returns The number of files.
 * @throws {UserError} "verify", "target", "interrupt"; no files are left then.
 */
export async function unpackBundle(
  bundle: Bundle,
  dir: string,
  { progress = UNWATCHED }: BuildEvents = {},
  signal?: AbortSignal,
): Promise<number> {
  const { layout } = bundle;
  checkFrame(bundle);
  const texts = [layout.sumsText, layout.indexText];
  const entries = layout.members.map((placed, at): DirectoryEntry => {
    const { member, size } = placed;
    const { path } = member;
    if (member.kind === "directory") return { path, isExecutable: true };
    const { isExecutable } = member;
    const text = texts[at];
    if (text !== undefined) return { path, isExecutable, body: textSegment(text) };
    const file = { path: bundle.path, sizeBytes: size, bundled: bundledFile(bundle, placed) };
    return { path, isExecutable, body: fileSegment(file) };
  });
  const total = layout.members.reduce((sum, { size }) => sum + size, 0);
  progress.begin("unpacking", total);
  const digests = await writeOutputDirectory(
    resolve(dir),
    (part) =>
      writeDirectory(part, sortByPath(entries), {
        isThere: true,
        isDurable: true,
        followsUmask: true,
        onBytes: (bytes) => progress.add(bytes),
        ...(signal && { signal }),
      }),
  );
  return digests.size;
}

/** Checks what no digest of the index covers; the files are checked as they are written. */
function checkFrame({ path, parts, layout }: Bundle): void {
  const source = openParts(parts);
  try {
    const [fault] = frameFaults(source, layout);
    if (fault === undefined) return;
    const { member, kind, offset, message } = fault;
    const what = member === undefined ? "" : `${kind} of ${member}: `;
    throw new UserError("verify", `Cannot unpack ${path}: ${what}${message}`, {
      where: `${path}, offset ${offset}`,
      hint: "seedstrap bundle verify lists all damage; copy the bundle again",
    });
  } finally {
    source.close();
  }
}
