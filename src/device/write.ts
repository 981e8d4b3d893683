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
import { streamSegments, type WrittenImage } from "../write/writer.ts";

/** An image to write. */
export interface DeviceImage {
  /** Without the zeros at the end of the image. */
  readonly segments: readonly Segment[];
  /** Size of the image, zeros at its end included. */
  readonly sizeBytes: number;
  /** The expected SHA-256 of the segments together, where it is known. */
  readonly sha256?: string;
  /** Computes the digest even if `sha256` is absent. */
  readonly wantsDigest?: true;
}

/** The result of a write. */
export interface DeviceReport {
  readonly sizeBytes: number;
  /**
   * SHA-256 of the segments; absent where it was not needed (not read back, and none expected), and
   * where it leaves out holes.
   */
  readonly sha256?: string;
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
  const { segments, sizeBytes } = image;
  const needsDigest = image.sha256 !== undefined || image.wantsDigest === true;
  const out = BlockFile.open(target);
  let sink: DeviceSink | undefined;
  try {
    progress.begin(`writing ${target.path}`, sizeBytes);
    sink = await DeviceSink.begin(out, {
      sizeBytes,
      digests: isVerified ? "reading back" : needsDigest ? "writing" : "never",
      hashesHoles: needsDigest,
      onDone: (bytes) => progress.add(bytes),
      signal,
    });
    const fileDigests = await streamSegments(segments, sink, signal ? { signal } : {});
    let digest = await sink.finish();
    if (isVerified) {
      progress.begin(`reading ${target.path} back`, sizeBytes);
      digest = await sink.readBack();
    }
    if (image.sha256 !== undefined && digest?.sha256 !== image.sha256) {
      throw notAsBuilt("the image", `its SHA-256 is ${digest?.sha256}, expected ${image.sha256}`);
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
