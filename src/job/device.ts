// SPDX-License-Identifier: MIT
/**
 * Writing an image to a device: an image file, or the segments of a plan.
 *
 * @module
 */

import { basename, dirname } from "node:path";
import { realpathSync } from "node:fs";
import { UserError } from "../errors.ts";
import { firstNonZero } from "../format/reader.ts";
import type { Segment } from "../format/segment.ts";
import type { WriteTarget } from "../device/candidates.ts";
import { type Extent, extentSegments, readExtents } from "../image/extents.ts";
import { openImage } from "../image/file_source.ts";
import { detectImage, type ImageKind } from "../image/image.ts";
import { BlockFile, type Partitions } from "../write/block_file.ts";
import { DeviceSink } from "../write/device_sink.ts";
import { streamSegments, type WrittenImage } from "../write/writer.ts";
import { readRecordIfThere } from "./record.ts";

/** What is to be written. */
export interface DeviceImage {
  /** Without the zeros at the end of the image. */
  readonly segments: readonly Segment[];
  /** Size of the image, zeros at its end included. */
  readonly sizeBytes: number;
  /** SHA-256 that the segments together must have, where that is known. */
  readonly sha256?: string;
  /** Whether the digest is wanted although nothing is known to compare it with. */
  readonly wantsDigest?: true;
}

/** An image file, ready to be written. */
export interface ImageToWrite extends DeviceImage {
  readonly path: string;
  readonly kind: ImageKind;
  /** Length of the segments together. */
  readonly dataBytes: number;
}

/** What goes on. */
export interface DeviceEvents {
  /** Bytes of the image that are done, of all. */
  readonly onProgress?: (stage: "writing" | "reading back", done: number, total: number) => void;
}

/** What was done. */
export interface DeviceReport {
  readonly sizeBytes: number;
  /**
   * SHA-256 of the segments; absent where it was not needed (not read back, and nothing to compare
   * with), and where runs of zeros between data were left out of it.
   */
  readonly sha256?: string;
  /** Whether it was read back and compared. */
  readonly isVerified: boolean;
  /** Whether what was compared came from the device, and not from this machine's memory. */
  readonly isDirect: boolean;
  readonly partitions: Partitions;
}

/** What was done, and SHA-256 of each file segment. */
export interface WrittenDevice {
  readonly report: DeviceReport;
  readonly fileDigests: WrittenImage["fileDigests"];
}

/**
 * Looks at an image file.
 *
 * Where a seedstrap.json beside it knows it, its digest is what is written must have, and what is
 * behind its data must be zeros.
 *
 * @throws {UserError} "format" for what is no image, "verify" for what is not as it was built,
 * "target" for a device, and for a seedstrap.json that cannot be understood.
 */
export function imageToWrite(path: string): ImageToWrite {
  const source = openImage(path);
  try {
    if (source.isDevice) {
      throw new UserError("target", `Cannot write ${path}: it is a device, and no image file`, {
        where: path,
        hint: "Name the image that was built, or a copy of it",
      });
    }
    const kind = detectImage(source);
    const { size: sizeBytes } = source;
    const extents = readExtents(path, sizeBytes);
    const real = realpathSync(path);
    const record = readRecordIfThere(dirname(real))?.images
      .find(({ name }) => name === basename(real));
    if (record === undefined) {
      const last = extents.at(-1);
      const dataBytes = last === undefined ? 0 : last.offset + last.size;
      return {
        path,
        kind,
        sizeBytes,
        dataBytes,
        segments: extentSegments(path, extents, dataBytes),
      };
    }
    // Of a disk with a file system another digest is known, which is not computed on the way.
    const { dataBytes, sha256 } = record;
    if (sizeBytes !== record.sizeBytes || !isZeroBehind(source, extents, dataBytes)) {
      throw notAsBuilt(
        path,
        sizeBytes !== record.sizeBytes
          ? `it has ${sizeBytes} bytes, built were ${record.sizeBytes}`
          : `there is data behind the ${dataBytes} bytes that were built`,
      );
    }
    const segments = extentSegments(path, extents, dataBytes);
    return { path, kind, sizeBytes, dataBytes, segments, ...(sha256 !== undefined && { sha256 }) };
  } finally {
    source.close();
  }
}

/**
 * Writes an image to a target that {@link chooseTarget} and {@link checkFit} let pass, and reads it
 * back. Its first MiB, without which nothing boots, is cleared at the beginning and written when all
 * the rest was found to be right.
 *
 * @throws {UserError} "verify" for a wrong digest, of the image, of a file in it, or of what is read
 * back; "target" for a device that is in use or fails; "interrupt". The message says whether the
 * device was changed.
 */
export async function writeToDevice(
  image: DeviceImage,
  target: WriteTarget,
  isVerified: boolean,
  events: DeviceEvents = {},
  signal?: AbortSignal,
): Promise<WrittenDevice> {
  const { segments, sizeBytes } = image;
  const needsDigest = image.sha256 !== undefined || image.wantsDigest === true;
  const out = BlockFile.open(target);
  let sink: DeviceSink | undefined;
  let stage: "writing" | "reading back" = "writing";
  let done = 0;
  try {
    sink = await DeviceSink.begin(out, {
      sizeBytes,
      digests: isVerified ? "reading back" : needsDigest ? "writing" : "never",
      hashesHoles: needsDigest,
      onDone: (bytes) => events.onProgress?.(stage, done += bytes, sizeBytes),
      signal,
    });
    const fileDigests = await streamSegments(segments, sink, signal ? { signal } : {});
    let digest = await sink.finish();
    if (isVerified) {
      stage = "reading back";
      done = 0;
      digest = await sink.readBack();
    }
    if (image.sha256 !== undefined && digest?.sha256 !== image.sha256) {
      throw notAsBuilt("the image", `its SHA-256 is ${digest?.sha256}, built was ${image.sha256}`);
    }
    await sink.seal(isVerified);
    const partitions = target.kind === "device" ? out.rereadPartitions() : "none";
    const report = {
      sizeBytes,
      ...(digest?.isWhole && { sha256: digest.sha256 }),
      isVerified,
      isDirect: out.isDirect,
      partitions,
    };
    return { report, fileDigests };
  } catch (error) {
    await addState(error, sink, target.path);
    throw error;
  } finally {
    await sink?.close();
    await out.close();
  }
}

/** Says in an error what became of the device; the error stays what it is. */
async function addState(
  error: unknown,
  sink: DeviceSink | undefined,
  path: string,
): Promise<void> {
  if (!(error instanceof UserError)) return;
  const isCleared = sink !== undefined && await sink.clear().then(() => true, () => false);
  const state = isCleared
    ? `${path} does not boot: its first MiB is zeros, what is behind is not whole`
    : `${path} may hold a part of the image: its first MiB could not be cleared`;
  error.message = `${error.message}\n${state}`;
}

function isZeroBehind(
  source: ReturnType<typeof openImage>,
  extents: readonly Extent[],
  dataBytes: number,
): boolean {
  return extents.every(({ offset, size }) => {
    const start = Math.max(offset, dataBytes);
    const end = offset + size;
    return start >= end || firstNonZero({ ...source, size: end, read: limited(end) }, start) < 0;
  });

  function limited(end: number): typeof source.read {
    return (at, into) => source.read(at, into.subarray(0, Math.max(0, end - at)));
  }
}

function notAsBuilt(path: string, what: string): UserError {
  return new UserError("verify", `Cannot trust ${path}: ${what}`, {
    hint: "A guest that was started from an image changes it; build the target again",
  });
}
