// SPDX-License-Identifier: MIT
/**
 * Turns a plan and the files that it needs into the segments of its images.
 *
 * @module
 */

import type { SpecialFile } from "../archive/entries.ts";
import { bootImage, bootImageBytes } from "../format/boot.ts";
import { closingRecord } from "../format/preflight.ts";
import { containerImage, type LayerEntry, layerSegments } from "../format/oci.ts";
import { payload } from "../format/payload.ts";
import {
  type Body,
  type BundledFile,
  fileSegment,
  type JoinedSegment,
  MIB,
  type Segment,
  textSegment,
  totalSize,
} from "../format/segment.ts";
import { PAYLOAD_PATH } from "../image/types.ts";
import { containerSettings } from "./container.ts";
import { payloadSums, SUMS_NAME } from "./restore.ts";
import { srcfs, srcfsBytes, type SrcfsEntry } from "../format/srcfs.ts";
import {
  BOOT_IMAGE,
  CONTAINER_IMAGE,
  PAYLOAD_IMAGE,
  type Plan,
  type PlannedEntry,
  SEED_COMMANDS,
  SEED_DIRECTORIES,
} from "./types.ts";

/** A distfile on this machine. */
export interface LocatedFile {
  readonly path: string;
  /** Where it is: in distfiles/ of the checkout, in the store, or in a mirror directory. */
  readonly from: "checkout" | "store" | "mirror";
  readonly sizeBytes: number;
  /** Set if it is in a bundle. */
  readonly bundled?: BundledFile;
}

/** The distfiles of a checkout that are on this machine, by name. */
export type Located = ReadonlyMap<string, LocatedFile>;

/** An image as data: its segments, and the origin of each of its files. */
export interface Image {
  /** Name in the target directory. */
  readonly name: string;
  readonly role: "boot" | "payload" | "container";
  readonly segments: readonly Segment[];
  /** Size of the segments. */
  readonly dataBytes: number;
  /** Size of the image: `dataBytes`, or more if it ends in a sparse tail of zeros. */
  readonly sizeBytes: number;
  /** Files of the image, each with its segment. */
  readonly contents: readonly ImageFile[];
}

/** A file of an image. */
export interface ImageFile {
  /** Path or name in the image. */
  readonly path: string;
  /** Kind of its source, such as the checkout or a distfile. */
  readonly origin: PlannedEntry["content"]["kind"];
  readonly body: Body | JoinedSegment;
}

/**
 * Returns the images of a plan that are lists of segments as soon as there is a plan: all except a
 * disk with a file system, and a container, whose layer has to be read first.
 *
 * @param located Every distfile that {@link neededDistfiles} names.
 */
export function planImages(plan: Plan, located: Located): Image[] {
  if (plan.start !== "builder-hex0") return [];
  const distfileBody = bodiesOf(plan, located);
  const payload = plan.hasPayload ? payloadImageOf(plan, distfileBody) : undefined;
  if (payload === undefined) return [bootImageOf(plan, distfileBody)];
  return plan.oneDisk === undefined
    ? [bootImageOf(plan, distfileBody), payload]
    : [bootImageOf(plan, distfileBody, payload)];
}

/** An entry of the directory to start in, of a container, or of the file system of a disk. */
export interface RootEntry {
  readonly path: string;
  readonly origin: PlannedEntry["content"]["kind"];
  /** Absent for a directory, a link and a device. */
  readonly body?: Body;
  readonly special?: SpecialFile;
  readonly isExecutable: boolean;
  /** The lowest 12 bits, instead of those that follow from `isExecutable`. */
  readonly mode?: number;
}

/**
 * Returns the entries of the directory of a plan, or of its disk, without the root itself.
 *
 * @param located Every distfile that {@link neededDistfiles} names.
 */
export function planRoot(plan: Plan, located: Located): RootEntry[] {
  const distfileBody = bodiesOf(plan, located);
  return (plan.disk?.entries ?? plan.entries).filter(({ path }) => path !== ".").map((entry) => {
    const { path, isExecutable, mode, content } = entry;
    const body = entryBody(entry, distfileBody);
    return {
      path,
      origin: content.kind,
      isExecutable,
      ...(mode !== undefined && { mode }),
      ...(body && { body }),
      ...(content.kind === "special" && { special: content.special }),
    };
  });
}

/** The layer of a container, in whose image there is its digest. */
export interface ContainerLayer {
  readonly segments: readonly Segment[];
  readonly contents: readonly ImageFile[];
  /** Devices, which the engine makes that runs the container. */
  readonly leftOut: readonly string[];
}

/**
 * Returns the layer of the container of a plan.
 *
 * @param located Every distfile that {@link neededDistfiles} names.
 * @param digests SHA-256 of its files, where they are known: then no other will do.
 */
export function planLayer(
  plan: Plan,
  located: Located,
  digests: ReadonlyMap<string, string> = new Map(),
): ContainerLayer {
  const contents: ImageFile[] = [];
  const leftOut: string[] = [];
  const entries = planRoot(plan, located).flatMap((entry): LayerEntry[] => {
    const { origin, body, special, isExecutable } = entry;
    const path = entry.path.replace(/^\.\//, "");
    if (special?.kind === "device") {
      leftOut.push(entry.path);
      return [];
    }
    const isPlain = body !== undefined && !isExecutable;
    const mode = entry.mode ?? (isPlain ? 0o644 : 0o755);
    if (special !== undefined) return [{ path, mode, target: special.target }];
    if (body === undefined) return [{ path, mode }];
    const sha256 = digests.get(entry.path);
    const known = body.kind === "file" && sha256 !== undefined ? { ...body, sha256 } : body;
    contents.push({ path: entry.path, origin, body: known });
    return [{ path, mode, body: known }];
  });
  return { segments: layerSegments(entries), contents, leftOut };
}

/** Returns the image of a container around its layer. */
export function containerOf(
  { options }: Plan,
  { segments: layer, contents }: ContainerLayer,
  layerSha256: string,
): Image {
  const { segments } = containerImage(layer, layerSha256, containerSettings(options));
  const sizeBytes = totalSize(segments);
  return {
    name: CONTAINER_IMAGE,
    role: "container",
    segments,
    dataBytes: sizeBytes,
    sizeBytes,
    contents,
  };
}

function bodiesOf(
  plan: Plan,
  located: Located,
): (name: string) => Body {
  const sha256 = new Map(plan.distfiles.map((distfile) => [distfile.name, distfile.sha256]));
  return (name) => {
    const file = located.get(name);
    const digest = sha256.get(name);
    if (file === undefined || digest === undefined) throw new Error(`${name} is not located`);
    return fileSegment(file, digest);
  };
}

function entryBody(
  { content, size }: PlannedEntry,
  distfileBody: (name: string) => Body,
): Body | undefined {
  switch (content.kind) {
    case "directory":
    case "special":
      return undefined;
    case "preseed":
      return content.body;
    case "generated":
      return { kind: "bytes", bytes: content.bytes };
    case "distfile":
      return distfileBody(content.name);
    case "tree":
    case "repo":
    case "added":
      return fileSegment({ ...content, path: content.source, sizeBytes: size });
  }
}

/** @param payload What the boot disk has too. */
function bootImageOf(plan: Plan, distfileBody: (name: string) => Body, payload?: Image): Image {
  const contents: ImageFile[] = [];
  const entries = plan.entries.map((entry): SrcfsEntry => {
    const { path, content } = entry;
    const body = entryBody(entry, distfileBody);
    if (body === undefined) return { path };
    contents.push({ path, origin: content.kind, body });
    return { path, body };
  });
  const segments = bootImage({
    stage1: plan.stage1,
    stage2: { kind: "bytes", bytes: plan.stage2 },
    srcfs: [...withSeeds(entries), ...closing(plan)],
    payload: payload?.segments,
  });
  for (const file of payload?.contents ?? []) {
    contents.push({ ...file, path: `${PAYLOAD_PATH}/${file.path}` });
  }
  const dataBytes = totalSize(segments);
  return {
    name: BOOT_IMAGE,
    role: "boot",
    segments,
    dataBytes,
    sizeBytes: Math.max(dataBytes, plan.options.targetSizeMib * MIB),
    contents,
  };
}

function payloadImageOf(plan: Plan, distfileBody: (name: string) => Body): Image {
  const contents = plan.distfiles.filter(({ place }) => place === "payload")
    .map(({ name }): ImageFile => ({ path: name, origin: "distfile", body: distfileBody(name) }));
  for (const { name, origin, body } of plan.extras ?? []) {
    contents.push({ path: name, origin, body });
  }
  if (plan.restore?.importer === "overlay") {
    const body = textSegment(payloadSums(plan.distfiles));
    contents.push({ path: SUMS_NAME, origin: "generated", body });
  }
  const segments = payload(
    contents.map(({ path, body }) => ({ name: path, body })),
    plan.restore?.layout,
  );
  const dataBytes = totalSize(segments);
  return {
    name: PAYLOAD_IMAGE,
    role: "payload",
    segments,
    dataBytes,
    sizeBytes: dataBytes,
    contents,
  };
}

/** Returns the closing record that the preflight program expects at the end of the srcfs. */
function closing({ options, hasPayload }: Plan): Segment[] {
  if (options.bootProgram !== "preflight") return [];
  return closingRecord({ payload: hasPayload, read: true, memory: true });
}

/** Returns a srcfs with the directories and commands that every kernel bootstrap has at its end. */
function withSeeds(entries: readonly SrcfsEntry[]): Segment[] {
  return srcfs([...entries, ...SEED_DIRECTORIES.map((path) => ({ path }))], SEED_COMMANDS);
}

/**
 * Returns the size in bytes of a boot image without a payload and its sparse tail.
 *
 * @param stage2Bytes Length of the stage2 text.
 */
export function bootDataBytes(stage2Bytes: number, entries: readonly PlannedEntry[]): number {
  const directories = SEED_DIRECTORIES.map((path) => ({ path, size: 0 }));
  return bootImageBytes(stage2Bytes, srcfsBytes([...entries, ...directories], SEED_COMMANDS));
}
