// SPDX-License-Identifier: MIT
/**
 * Writing an image to a device: an image file, or the segments of a plan.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { Segment } from "../format/segment.ts";
import type { WriteTarget } from "./candidates.ts";
import { BlockFile, type Partitions } from "./block_file.ts";
import { DeviceSink } from "./sink.ts";
import { streamSegments, type WrittenImage } from "../write/writer.ts";

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

export function notAsBuilt(path: string, what: string): UserError {
  return new UserError("verify", `Cannot trust ${path}: ${what}`, {
    hint: "A guest that was started from an image changes it; build the target again",
  });
}
