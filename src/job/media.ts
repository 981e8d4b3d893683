// SPDX-License-Identifier: MIT
/**
 * Writes the media of a plan: images, or a directory to start in.
 *
 * The image of a container names its layer by a digest, before the layer itself: so its files are
 * read twice, and the second time they have to be what they were.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { sha256Of } from "../bytes.ts";
import { checkFit, chooseTarget, type WriteTarget } from "../device/candidates.ts";
import { BMAP_SUFFIX } from "../format/bmap.ts";
import { MIB, runsOf, type Segment, segmentSize, totalSize } from "../format/segment.ts";
import { digestOne } from "../hash/pool.ts";
import { makeBmap } from "../image/bmap.ts";
import {
  containerOf,
  type Image,
  type ImageFile,
  type Located,
  planImages,
  planLayer,
  planRoot,
  type RootEntry,
} from "../plan/images.ts";
import { DISK_IMAGE, type Plan, type PlannedDisk } from "../plan/types.ts";
import { leastDiskBytes } from "../plan/one_disk.ts";
import type { Progress } from "../progress.ts";
import { openImage } from "../source/file.ts";
import { writeDirectory } from "../write/directory.ts";
import { type UnnamedImage, writeUnnamed } from "../write/output_parts.ts";
import { digestStream, streamImage } from "../write/stream.ts";
import { checkSpace, type Target } from "../write/target.ts";
import { digestImage, writeImage, type WrittenImage } from "../write/writer.ts";
import { writeToDevice } from "../device/write.ts";
import { writeDisk } from "../write/disk.ts";
import { type RecordedFile, type RecordedImage, type Written } from "../record/types.ts";

/** Devices that images are streamed to, without an image file in the target. */
export interface ImageDevices {
  /** Paths that {@link chooseTarget} has accepted, by the role of the image. */
  readonly paths: ReadonlyMap<Image["role"], string>;
  /** Whether they are read back. */
  readonly isVerified: boolean;
}

/** Where images go that are in no target: to a new file, or to a stream, which is closed then. */
export type ImageOutputs = ReadonlyMap<Image["role"], string | WritableStream<Uint8Array>>;

/** The input for writing the media of a plan. */
export interface WriteJob {
  readonly plan: Plan;
  /** Every distfile that the plan needs. */
  readonly located: Located;
  readonly target: Target;
  readonly devices: ImageDevices | undefined;
  readonly outputs: ImageOutputs | undefined;
  /** Whether only the digests are wanted, of what would be written. */
  readonly isDry?: boolean;
  readonly progress: Progress;
  /** Takes a message about a file that could not be written as it is. */
  readonly onNotice: ((text: string) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes the images of a plan, each under its temporary name, to its device, or to its output.
 *
 * @throws {UserError} Like `writeImage()`, `writeDisk()`, `writeToDevice()` and `streamImage()`.
 */
export async function writeImages(job: WriteJob): Promise<Written> {
  const { plan, located, target, devices, outputs, isDry, progress, signal } = job;
  const images = plan.start === "container"
    ? [await hashContainer(job)]
    : planImages(plan, located);
  const isElsewhere = ({ role }: Image) =>
    devices?.paths.has(role) === true || outputs?.has(role) === true;
  const inTarget = images.filter((image) => !isElsewhere(image));
  const onDevices = deviceTargets(images, plan, devices);
  const diskFiles = plan.disk === undefined ? [] : planRoot(plan, located);
  const diskBytes = bytesOf(diskFiles);
  const total = inTarget.reduce((sum, { dataBytes }) => sum + dataBytes, diskBytes);
  // The files of a disk are beside it until they are in it.
  if (!isDry || diskBytes > 0) checkSpace(target.dir, isDry ? 2 * diskBytes : total + diskBytes);
  progress.begin("writing", total);
  const written: RecordedImage[] = [];
  const wholes = new Map<string, Promise<string>>();
  for (const image of inTarget) {
    written.push(await writeToTarget(image, job));
    // On a core of its own while the next image is written.
    // A container is always known by it.
    if (image.role === "container" ? !isDry : plan.options.sha256) {
      wholes.set(image.name, wholeDigest(image, target.partPath(image.name), signal));
    }
  }
  const disk = plan.disk && await writeDiskImage(plan.disk, diskFiles, job);
  if (disk !== undefined) written.push(disk.image);
  const unnamed: UnnamedImage[] = [];
  try {
    for (const image of images) {
      const path = outputs?.get(image.role);
      if (typeof path !== "string") continue;
      const output = await writeToFile(image, path, job);
      unnamed.push(output);
      const record = recordImage(image, output.written);
      const isHashed = image.role === "container";
      written.push(
        isHashed ? { ...record, sha256: await wholeDigest(image, output.path, signal) } : record,
      );
    }
    // The boot device comes last, so that nothing boots before its payload is written.
    for (const image of images.toReversed()) {
      const device = onDevices.get(image);
      const output = outputs?.get(image.role);
      if (device !== undefined) written.push(await writeStraight(image, device, job));
      else if (output instanceof WritableStream) {
        written.push(await writeToStream(image, output, job));
      }
    }
    for (const output of unnamed) output.name();
  } finally {
    for (const output of unnamed) output.discard();
  }
  const order = (image: RecordedImage) => plan.images.indexOf(image.name);
  for (const [index, image] of written.entries()) {
    const sha256 = await wholes.get(image.name);
    if (sha256 !== undefined) written[index] = { ...image, sha256 };
  }
  written.sort((a, b) => order(a) - order(b));
  const elsewhere = new Set(images.filter(isElsewhere).map(({ name }) => name));
  const names = plan.images.filter((name) => !elsewhere.has(name));
  return { names, images: written, files: [], mke2fs: disk?.mke2fs };
}

/** Writes an image under its temporary name. */
async function writeToTarget(
  image: Image,
  { plan, target, isDry, progress, signal }: WriteJob,
): Promise<RecordedImage> {
  target.removePart(image.name);
  const { name, segments, sizeBytes } = image;
  const options = {
    sizeBytes,
    files: filesOf(image),
    onBytes: (bytes: number) => progress.add(bytes),
    ...(signal && { signal }),
  };
  // The checksum in a preflight image, and that of a whole image, are of what is in a file.
  const canBeDry = !plan.options.sha256 && segments.every(({ kind }) => kind !== "crc32");
  if (isDry && image.role === "container") {
    const digested = await digestStream(segments, options);
    return { ...recordImage(image, digested), sha256: digested.sha256 };
  }
  return recordImage(
    image,
    isDry && canBeDry
      ? await digestImage(segments, options)
      : await writeImage(target.partPath(name), segments, options),
  );
}

/** Reads a container for the digest of its layer, and returns its image of the files as they were. */
async function hashContainer(
  { plan, located, isDry, progress, onNotice, signal }: WriteJob,
): Promise<Image> {
  const found = planLayer(plan, located);
  if (!isDry) {
    for (const path of found.leftOut) {
      onNotice?.(`${path} is left out: the engine of a container makes its devices`);
    }
  }
  progress.begin("hashing the layer", totalSize(found.segments));
  const onBytes = (bytes: number) => progress.add(bytes);
  const { sha256, fileDigests } = await digestStream(found.segments, {
    onBytes,
    ...(signal && { signal }),
  });
  const digests = found.contents.map(({ path, body }) =>
    [path, digestOfBody(body, fileDigests)] as const
  );
  return containerOf(plan, planLayer(plan, located, new Map(digests)), sha256);
}

/** Reads an image that was written for the SHA-256 of its data. */
function wholeDigest(
  { dataBytes }: Image,
  path: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const segment = {
    kind: "file",
    path,
    offsetBytes: 0,
    sizeBytes: dataBytes,
    isPart: true,
  } as const;
  const sha256 = digestOne({ segment, kind: "target" }, { signal });
  // Whoever waits for it gets the error; nobody may.
  sha256.catch(() => {});
  return sha256;
}

/** Writes a disk with a file system under its temporary name. */
async function writeDiskImage(
  { name, sizeMib, partitionMib }: PlannedDisk,
  entries: readonly RootEntry[],
  { target, progress, signal }: WriteJob,
): Promise<{ readonly image: RecordedImage; readonly mke2fs: string | undefined }> {
  target.removePart(name);
  const sizeBytes = sizeMib * MIB;
  const { blocksSha256, digests, mke2fs } = await writeDisk({
    path: target.partPath(name),
    sizeBytes,
    partitionBytes: partitionMib * MIB,
    entries,
    scratch: (what) => target.scratchPath(`${name}.${what}`),
    progress,
    signal,
  });
  const role = name === DISK_IMAGE ? "disk" : "external";
  const files = recordFiles(entries, digests);
  return { image: { name, role, sizeBytes, dataBytes: sizeBytes, blocksSha256, files }, mke2fs };
}

/** Writes an image to its device, with no file in between. */
async function writeStraight(
  image: Image,
  device: WriteTarget,
  { devices, progress, signal }: WriteJob,
): Promise<RecordedImage> {
  const { segments, sizeBytes } = image;
  const { report, fileDigests } = await writeToDevice(
    { segments, sizeBytes, files: filesOf(image) },
    device,
    devices?.isVerified ?? true,
    progress,
    signal,
  );
  return recordImage(image, { piecesSha256: report.piecesSha256!, fileDigests });
}

/** Writes an image to a file outside of the target, which gets its name when all is written. */
async function writeToFile(
  image: Image,
  path: string,
  { progress, signal }: WriteJob,
): Promise<UnnamedImage> {
  const { name, segments, sizeBytes, dataBytes } = image;
  progress.begin(`writing ${name}`, dataBytes);
  return await writeUnnamed(path, segments, {
    sizeBytes,
    files: filesOf(image),
    onBytes: (bytes) => progress.add(bytes),
    ...(signal && { signal }),
  });
}

/** Streams an image; what was streamed cannot be taken back. */
async function writeToStream(
  image: Image,
  to: WritableStream<Uint8Array>,
  { progress, signal }: WriteJob,
): Promise<RecordedImage> {
  const { name, role, segments, sizeBytes } = image;
  progress.begin(`streaming ${name}`, sizeBytes);
  const hash = createHash("sha256");
  const isHashed = role === "container";
  const written = await streamImage(segments, isHashed ? hashedOnTheWay(to, hash) : to, {
    sizeBytes,
    files: filesOf(image),
    onBytes: (bytes) => progress.add(bytes),
    ...(signal && { signal }),
  });
  const record = recordImage(image, written);
  return isHashed ? { ...record, sha256: hash.digest("hex") } : record;
}

/** Returns a stream that hashes what goes to another one. */
function hashedOnTheWay(to: WritableStream<Uint8Array>, hash: Hash): WritableStream<Uint8Array> {
  const writer = to.getWriter();
  return new WritableStream({
    write: (chunk) => {
      hash.update(chunk);
      return writer.write(chunk);
    },
    close: () => writer.close(),
    abort: (reason) => writer.abort(reason),
  });
}

/**
 * Writes the bmap of each image that is in the target, under its temporary name.
 *
 * @returns Their names.
 * @throws {UserError} "target" where an image cannot be read; "interrupt".
 */
export async function writeBmaps(
  { names, images }: Written,
  target: Target,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const bmaps: string[] = [];
  for (const { name } of images.filter(({ name }) => names.includes(name))) {
    const source = openImage(target.partPath(name));
    try {
      const bmap = `${name}${BMAP_SUFFIX}`;
      progress.begin(`making ${bmap}`, source.sizeBytes);
      target.writePart(bmap, await makeBmap(source, { progress, signal }));
      bmaps.push(bmap);
    } finally {
      source.close();
    }
  }
  return bmaps;
}

/** Checks the devices again now that the sizes are known, before the first one is written. */
function deviceTargets(
  images: readonly Image[],
  { oneDisk }: Pick<Plan, "oneDisk">,
  devices: ImageDevices | undefined,
): Map<Image, WriteTarget> {
  const least = oneDisk?.systemStartBytes === undefined
    ? 0
    : leastDiskBytes(oneDisk.payloadEndBytes);
  const targets = images.flatMap((image) => {
    const path = devices?.paths.get(image.role);
    if (path === undefined) return [];
    const device = chooseTarget(path, false);
    const read = image.segments.flatMap(filesOfSegment);
    checkFit(device, image.sizeBytes, [...new Set(read)], least);
    return [[image, device] as const];
  });
  return new Map(targets);
}

/** Returns the paths of the files that a segment is read from. */
function filesOfSegment(segment: Segment): string[] {
  switch (segment.kind) {
    case "file":
      return runsOf(segment).map(({ path }) => path);
    case "member":
      return [segment.archive];
    case "joined":
      return segment.parts.flatMap(filesOfSegment);
    default:
      return [];
  }
}

/**
 * Writes the directory of a plan under a temporary name.
 *
 * @throws {UserError} Like `writeDirectory()`.
 */
export async function writeRoot(
  { plan, located, target, isDry, progress, onNotice, signal }: WriteJob,
): Promise<Written> {
  const root = "root";
  const entries = planRoot(plan, located);
  const total = bytesOf(entries);
  if (isDry) {
    progress.begin("reading", total);
    return { names: [], images: [], files: await digestRoot(entries, progress, signal) };
  }
  checkSpace(target.dir, total);
  target.removePart(root);
  progress.begin("writing", total);
  const digests = await writeDirectory(target.scratchPath(root), entries, {
    onBytes: (bytes: number) => progress.add(bytes),
    onLeftOut: (path, why) => onNotice?.(`${path} is left out: ${why}`),
    ...(signal && { signal }),
  });
  const files = recordFiles(entries, digests);
  return { names: target.adopt(root), images: [], files };
}

/** Returns what would be recorded of the files of a directory. */
async function digestRoot(
  entries: readonly RootEntry[],
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<RecordedFile[]> {
  const bodies = entries.flatMap(({ body }) => body === undefined ? [] : [body]);
  const onBytes = (bytes: number) => progress.add(bytes);
  const { fileDigests } = await digestImage(bodies, { onBytes, ...(signal && { signal }) });
  const digests = entries.flatMap(({ path, body }) =>
    body === undefined ? [] : [[path, digestOfBody(body, fileDigests)] as const]
  );
  return recordFiles(entries, new Map(digests));
}

function digestOfBody(body: ImageFile["body"], fileDigests: WrittenImage["fileDigests"]): string {
  return body.kind === "bytes" ? sha256Of(body.bytes) : fileDigests.get(body)!;
}

function bytesOf(entries: readonly RootEntry[]): number {
  return entries.reduce((sum, { body }) => sum + (body ? segmentSize(body) : 0), 0);
}

function recordFiles(
  entries: readonly RootEntry[],
  digests: ReadonlyMap<string, string>,
): RecordedFile[] {
  return entries.flatMap(({ path, origin, body }) =>
    body === undefined
      ? []
      : [{ path, origin, size: segmentSize(body), sha256: digests.get(path)! }]
  );
}

/** The segments that are files of an image. */
function filesOf({ contents }: Image): ReadonlySet<Segment> {
  return new Set(contents.map(({ body }) => body));
}

function recordImage(
  { name, role, sizeBytes, dataBytes, contents }: Image,
  { piecesSha256, fileDigests }: WrittenImage,
): RecordedImage {
  const files = contents.map(({ path, origin, body }) => ({
    path,
    origin,
    size: segmentSize(body),
    sha256: digestOfBody(body, fileDigests),
  }));
  return { name, role, sizeBytes, dataBytes, piecesSha256, files };
}
