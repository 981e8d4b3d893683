// SPDX-License-Identifier: MIT
/**
 * Writes an image to a device: an image file, or the segments of a plan.
 *
 * @module
 */

import { type Progress, UNWATCHED } from "../progress.ts";
import { UserError } from "../errors.ts";
import type { Segment } from "../format/segment.ts";
import type { WriteTarget } from "./candidates.ts";
import { BlockFile, type Partitions } from "./block_file.ts";
import { DeviceSink } from "./sink.ts";
import type { WrittenImage } from "../write/writer.ts";
import { streamSegments } from "./stream.ts";

/** An image to write. */
export interface DeviceImage {
  /** Without the zeros at the end of the image. */
  readonly segments: readonly Segment[];
  /** Size of the image, zeros at its end included. */
  readonly sizeBytes: number;
  /** The segments that are its files, where the digest of its pieces is wanted. */
  readonly files?: ReadonlySet<Segment>;
  /** The expected digest of its pieces, where it is known. */
  readonly piecesSha256?: string;
  /** The expected digest of a disk with a file system, where it is known. */
  readonly blocksSha256?: string;
  /** Says what is wrong where that digest is another one. */
  readonly faultOf?: (digests: ReadonlyMap<Segment, string>) => string;
  /** Throws where the file may have changed since the segments were made, and no digest tells. */
  readonly checkUnchanged?: () => void;
}

/** The result of a write. */
export interface DeviceReport {
  readonly sizeBytes: number;
  /** Digest of the pieces that were written, see `format/pieces.ts`; where it was wanted. */
  readonly piecesSha256?: string;
  /** Digest of the disk that was written, see `format/blocks.ts`; where it was known before. */
  readonly blocksSha256?: string;
  /** Whether it was read back and compared. */
  readonly isVerified: boolean;
  /** Whether the bytes that were read back came from the device, and not from the page cache. */
  readonly isDirect: boolean;
  readonly partitions: Partitions;
}

/** The result of a write, and SHA-256 of each file segment. */
export interface WrittenDevice {
  readonly report: DeviceReport;
  readonly fileDigests: WrittenImage["fileDigests"];
}

/**
 * Writes an image to a target that {@link chooseTarget} and {@link checkFit} have accepted, and
 * reads it back. The first MiB, which booting needs, is cleared first, and written after the rest
 * was verified.
 *
 * @param isVerified Whether to read the image back.
 * @throws {UserError} "verify" for a wrong digest of the image or of a file in it, and for other
 * bytes when it is read back; "target" for a device that is in use or fails; "interrupt". The
 * message says what state the device is in.
 */
export async function writeToDevice(
  image: DeviceImage,
  target: WriteTarget,
  isVerified: boolean,
  progress: Progress = UNWATCHED,
  signal?: AbortSignal,
): Promise<WrittenDevice> {
  const { segments, sizeBytes, files } = image;
  const out = BlockFile.open(target);
  let sink: DeviceSink | undefined;
  try {
    progress.begin(`writing ${target.path}`, sizeBytes);
    const onDone = (bytes: number) => progress.add(bytes);
    sink = await DeviceSink.begin(out, { sizeBytes, onDone, signal });
    const wantsBlocks = image.blocksSha256 !== undefined;
    const request = { segments, files, wantsBlocks, signal };
    const { digests, piecesSha256, blocksSha256 } = await streamSegments(request, sink);
    await sink.finish();
    image.checkUnchanged?.();
    const isOther = image.piecesSha256 !== undefined && piecesSha256 !== image.piecesSha256;
    if (isOther || blocksSha256 !== image.blocksSha256) {
      throw notAsBuilt(
        "the image",
        image.faultOf?.(digests) ?? "it is not as it was built",
      );
    }
    if (isVerified) {
      progress.begin(`reading ${target.path} back`, sizeBytes);
      await sink.readBack();
    }
    await sink.seal(isVerified);
    const partitions = target.kind === "device" ? out.rereadPartitions() : "none";
    const report = {
      sizeBytes,
      ...(piecesSha256 !== undefined && { piecesSha256 }),
      ...(blocksSha256 !== undefined && { blocksSha256 }),
      isVerified,
      isDirect: out.isDirect,
      partitions,
    };
    return { report, fileDigests: digests };
  } catch (error) {
    await addState(error, sink, target.path);
    throw error;
  } finally {
    await sink?.close();
    await out.close();
  }
}

/** Adds the state of the device to the message of an error. */
async function addState(
  error: unknown,
  sink: DeviceSink | undefined,
  path: string,
): Promise<void> {
  if (!(error instanceof UserError)) return;
  const isCleared = sink !== undefined && await sink.clear().then(() => true, () => false);
  const state = isCleared
    ? `${path} does not boot: its first MiB is zeros, and the rest is incomplete`
    : `${path} may hold a part of the image: its first MiB could not be cleared`;
  error.message = `${error.message}\n${state}`;
}

/** Returns the error for an image that is not as seedstrap built it. */
export function notAsBuilt(path: string, what: string): UserError {
  return new UserError("verify", `Cannot trust ${path}: ${what}`, {
    hint: "A guest that was started from an image changes it; build the target again",
  });
}
