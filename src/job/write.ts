// SPDX-License-Identifier: MIT
/**
 * Prepares an image file for writing it to a device.
 *
 * @module
 */

import { realpathSync, type Stats } from "node:fs";
import { basename, dirname } from "node:path";
import { type DeviceImage, notAsBuilt } from "../device/write.ts";
import { UserError } from "../errors.ts";
import { PAYLOAD_NUMBER } from "../format/boot.ts";
import { DATA_PARTITION, readMbr } from "../format/mbr.ts";
import { leastDiskBytes } from "../plan/one_disk.ts";
import { type ByteSource, firstNonZero } from "../format/reader.ts";
import { piecesDigest } from "../format/pieces.ts";
import { type FileSegment, SECTOR_BYTES, type Segment } from "../format/segment.ts";
import { detectImage } from "../image/linear.ts";
import { piecesOfImage } from "../image/pieces.ts";
import { type ImageKind, plainPath } from "../image/types.ts";
import { checkWhole } from "../image/whole.ts";
import { shellQuote } from "../launch/process.ts";
import { readRecordIfThere } from "../record/read.ts";
import type { RecordedImage } from "../record/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import { type DataExtent, extentSegments, readExtents } from "../source/extents.ts";
import { type FileSource, openImage } from "../source/file.ts";
import { bmapBeside, mappedContent, needsNoBmap } from "./mapped.ts";

/** An image file that is ready to be written. */
export interface ImageToWrite extends DeviceImage {
  readonly path: string;
  readonly kind: ImageKind;
  /** Total size of the segments. */
  readonly dataBytes: number;
  /** Size that the disk has at least, where the system is installed after what is on it. */
  readonly leastBytes?: number;
  /** The bmap that it is written by, if any. */
  readonly bmap?: string;
}

/**
 * Checks an image file and returns its segments.
 *
 * If the image is in the seedstrap.json beside it, the written bytes must have the recorded digests,
 * and everything after its data must be zeros. Any other has to be whole as far as its format says;
 * if there is a bmap, each range must have the digest in it, and everything else must be zeros.
 *
 * @param namedBmap A bmap other than the one beside the image.
 * @throws {UserError} "format" if it is not an image, or not a whole one, "verify" if it is not as it was built,
 * "target" for a device, and for a seedstrap.json that cannot be parsed; "usage" for a bmap that is
 * named although there is a record; as `mappedContent()`.
 */
export function imageToWrite(path: string, namedBmap?: string): ImageToWrite {
  const before = statIfThere(path);
  const source = openImage(path);
  try {
    if (source.isDevice) {
      throw new UserError("target", `Cannot write ${path}: it is a device, not an image file`, {
        where: path,
        hint: "Name the image that was built, or a copy of it",
      });
    }
    const kind = detectImage(source);
    if (kind === "container") {
      throw new UserError("usage", `Cannot write ${path}: it is the image of a container`, {
        where: path,
        hint: `No machine boots it: ${shellQuote(["podman", "load", "-i", path])}`,
      });
    }
    const { sizeBytes } = source;
    const room = kind === "boot" ? roomAfterPayload(source) : {};
    const extents = readExtents(path, sizeBytes);
    const real = realpathSync(path);
    const record = readRecordIfThere(dirname(real))?.images
      .find(({ name }) => name === basename(real));
    if (record === undefined) {
      const bmap = namedBmap ?? bmapBeside(path);
      const mapped = bmap === undefined ? undefined : { bmap, ...mappedContent(source, bmap) };
      checkImage(source, kind);
      if (mapped !== undefined) return { path, kind, sizeBytes, ...room, ...mapped };
      const last = extents.at(-1);
      const dataBytes = last === undefined ? 0 : last.offsetBytes + last.sizeBytes;
      return {
        path,
        kind,
        sizeBytes,
        dataBytes,
        ...room,
        segments: extentSegments(path, extents, dataBytes),
        checkUnchanged: () => checkUnchanged(path, before),
      };
    }
    if (namedBmap !== undefined) throw needsNoBmap(path);
    const { dataBytes } = record;
    if (sizeBytes !== record.sizeBytes || firstNonZero(source, dataBytes) >= 0) {
      throw notAsBuilt(
        path,
        sizeBytes !== record.sizeBytes
          ? `it has ${sizeBytes} bytes, it was built with ${record.sizeBytes}`
          : `there is data after the ${dataBytes} bytes that were built`,
      );
    }
    return { path, kind, sizeBytes, dataBytes, ...room, ...contentOf(source, record, extents) };
  } finally {
    source.close();
  }
}

/** Returns the size that a disk has at least, where a boot image has a payload on it. */
function roomAfterPayload(source: ByteSource): Pick<ImageToWrite, "leastBytes"> {
  const found = readMbr(source).partitions.find(({ number, type }) =>
    number === PAYLOAD_NUMBER && type === DATA_PARTITION
  );
  if (found === undefined) return {};
  return { leastBytes: leastDiskBytes((found.startSector + found.sectorCount) * SECTOR_BYTES) };
}

/** Checks that an image without any digest is the one that was looked at. */
function checkUnchanged(path: string, before: Stats | undefined): void {
  const now = statIfThere(path);
  const isSame = now !== undefined && now.dev === before?.dev && now.ino === before.ino &&
    now.size === before.size && now.mtimeMs === before.mtimeMs;
  if (isSame) return;
  throw new UserError("verify", `Cannot trust ${path}: it has changed since the write began`, {
    where: path,
    hint: "Write it again when nothing else writes to it",
  });
}

/** What of a recorded image is written, and how it is known to be right. */
function contentOf(
  source: FileSource,
  record: RecordedImage,
  extents: readonly DataExtent[],
): Omit<DeviceImage, "sizeBytes"> {
  const { name: path } = source;
  const { role, sizeBytes, dataBytes, piecesSha256, sha256, blocksSha256, files } = record;
  if (blocksSha256 !== undefined) {
    return { segments: extentSegments(path, extents, sizeBytes), blocksSha256 };
  }
  if (piecesSha256 === undefined || role === "disk" || role === "external") {
    const segments = extentSegments(path, extents, dataBytes);
    if (sha256 === undefined) return { segments };
    const whole = piecesDigest([{ sizeBytes: dataBytes, sha256 }]);
    return { segments, files: new Set(), piecesSha256: whole };
  }
  const recorded = new Map(files.map((file) => [plainPath(file.path), file.sha256]));
  const pathOf = new Map<Segment, string>();
  const segments = Array.from(piecesOfImage(source, role, dataBytes), ({ offset, size, file }) => {
    const segment: FileSegment = {
      kind: "file",
      path,
      offsetBytes: offset,
      sizeBytes: size,
      isPart: true,
    };
    if (file !== undefined) pathOf.set(segment, file.path);
    return segment;
  });
  const faultOf: DeviceImage["faultOf"] = (digests) => {
    for (const [segment, name] of pathOf) {
      if (digests.get(segment) !== recorded.get(plainPath(name))) {
        return `${name} is not as it was built`;
      }
    }
    return "the bytes between its files are not as they were built";
  };
  return { segments, files: new Set(pathOf.keys()), piecesSha256, faultOf };
}

/** Refuses an image that ends early, or is damaged where that shows, before anything is written. */
function checkImage(source: ByteSource, kind: ImageKind): void {
  try {
    checkWhole(source, kind);
  } catch (error) {
    if (!(error instanceof UserError) || error.kind !== "format") throw error;
    throw new UserError("format", error.message, {
      ...(error.where !== undefined && { where: error.where }),
      hint: "Copy or build it again; with seedstrap.json beside it, every byte of it is compared",
      cause: error,
    });
  }
}
