// SPDX-License-Identifier: MIT
/**
 * Images of a target for a bundle, verified against the record of the build.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { readWhole } from "../read.ts";
import { blocksDigest } from "../format/blocks.ts";
import type { BundleMember } from "../format/bundle.ts";
import { type Piece, piecesDigest } from "../format/pieces.ts";
import { firstNonZero, readRange } from "../format/reader.ts";
import { digestOne } from "../hash/pool.ts";
import { runsTask } from "../image/digests.ts";
import { digestPieces } from "../image/pieces.ts";
import type { LinearKind } from "../image/types.ts";
import type { Progress } from "../progress.ts";
import { MIB, type Segment, totalSize } from "../format/segment.ts";
import { isZero, sha256Of } from "../bytes.ts";
import { type FileSource, openImage } from "../source/file.ts";
import { SBOM_NAME } from "../record/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import { MAX_RECORD_BYTES, readRecord } from "../record/read.ts";
import { RECORD_NAME, type RecordedImage } from "../record/types.ts";

/** A member of a bundle, and the segments of its data. */
export interface BundlePiece {
  readonly member: BundleMember;
  readonly body: readonly Segment[];
}

/**
 * Returns the images of a target and its record as members of a bundle.
 *
 * @param into Directory in the bundle.
 * @throws {UserError} "target" if there is no target with images; "verify" if an image is not as it
 * was built; "interrupt".
 */
export async function imagePieces(
  dir: string,
  into: string,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<BundlePiece[]> {
  const { images } = readRecord(dir);
  if (images.length === 0) {
    throw new UserError(
      "target",
      `Cannot include images of ${dir}: it is a directory to start in`,
      {
        where: dir,
        hint: "Build with --qemu or --bare-metal",
      },
    );
  }
  const pieces = [RECORD_NAME, SBOM_NAME].flatMap((name) => {
    const path = join(dir, name);
    if (statIfThere(path)?.isFile() !== true) return [];
    const bytes = readWhole(path, { limitBytes: MAX_RECORD_BYTES });
    return [piece(`${into}/${name}`, [{ kind: "bytes", bytes }], sha256Of(bytes))];
  });
  progress.begin("reading images", images.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  for (const image of images) {
    const source = openImage(join(dir, image.name));
    try {
      const { sha256, segments } = await scan(source, image, progress, signal);
      pieces.push(piece(`${into}/${image.name}`, segments, sha256));
    } finally {
      source.close();
    }
  }
  return pieces;
}

/**
 * Reads an image to verify it, and to know its zeros, which need not be read again.
 *
 * @returns The SHA-256 of the whole image, and its segments.
 */
async function scan(
  source: FileSource,
  image: RecordedImage,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ sha256: string; segments: Segment[] }> {
  const { sizeBytes, role } = image;
  if (source.sizeBytes !== sizeBytes) {
    throw distrust(source, `it has ${source.sizeBytes} bytes, it was built with ${sizeBytes}`);
  }
  if (image.piecesSha256 === undefined || role === "disk" || role === "external") {
    return await scanWhole(source, image, progress, signal);
  }
  // The image as a whole is on one core, its pieces are on the others.
  const stop = new AbortController();
  const signals = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const onBytes = (bytes: number) => progress.add(bytes);
  const task = runsTask(source.name, source.name, source.runs!(0, sizeBytes));
  const whole = digestOne(task, { onBytes, signal: signals });
  // Whoever waits for it gets the error; nobody may.
  whole.catch(() => {});
  try {
    const segments = await scanPieces(source, { ...image, role }, signal);
    return { sha256: await whole, segments };
  } finally {
    stop.abort();
    await whole.catch(() => {});
  }
}

/** Verifies the pieces of an image, and returns them as segments. */
async function scanPieces(
  source: FileSource,
  { role, dataBytes, sizeBytes, piecesSha256 }: RecordedImage & { readonly role: LinearKind },
  signal: AbortSignal | undefined,
): Promise<Segment[]> {
  const pieces: Piece[] = [];
  const segments: Segment[] = [];
  for await (
    const { offset, size, sha256 } of digestPieces(source, role, dataBytes, { signal })
  ) {
    if (sha256 === undefined) break;
    pieces.push({ sizeBytes: size, sha256 });
    segments.push(partOf(source, offset, size, sha256));
  }
  if (piecesDigest(pieces) !== piecesSha256) {
    throw distrust(source, "its pieces are not as they were built");
  }
  if (firstNonZero(source, dataBytes) >= 0) throw distrust(source, "its tail is not zeros");
  const tail = sizeBytes - dataBytes;
  return tail === 0 ? segments : [...segments, { kind: "zeros", sizeBytes: tail }];
}

function partOf(
  { name: path }: FileSource,
  offsetBytes: number,
  sizeBytes: number,
  sha256: string,
): Segment {
  return { kind: "file", path, offsetBytes, sizeBytes, sha256, isPart: true };
}

/** Reads an image of which there is a digest as a whole, once. */
async function scanWhole(
  source: FileSource,
  image: RecordedImage,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ sha256: string; segments: Segment[] }> {
  const { sizeBytes, dataBytes } = image;
  const whole = createHash("sha256");
  const segments: Segment[] = [];
  let run: { offset: number; size: number; hash: Hash } | undefined;
  const endRun = () => {
    if (run === undefined) return;
    const { offset, size, hash } = run;
    segments.push(partOf(source, offset, size, hash.digest("hex")));
    run = undefined;
  };
  const read = async (from: number, to: number) => {
    let offset = from;
    for (const bytes of readRange(source, from, to - from)) {
      whole.update(bytes);
      if (isZero(bytes)) {
        endRun();
        segments.push({ kind: "zeros", sizeBytes: bytes.length });
      } else {
        if (offset >= dataBytes) throw distrust(source, "its tail is not zeros");
        run ??= { offset, size: 0, hash: createHash("sha256") };
        run.hash.update(bytes);
        run.size += bytes.length;
      }
      offset += bytes.length;
      progress.add(bytes.length);
      // Signals are only handled between two tasks.
      if (offset % (16 * MIB) === 0) await setImmediate();
      throwIfInterrupted(signal);
    }
    endRun();
  };
  await read(0, dataBytes);
  const dataSha256 = whole.copy().digest("hex");
  if (image.sha256 !== undefined && dataSha256 !== image.sha256) {
    throw distrust(source, `SHA-256 is ${dataSha256}, it was built with ${image.sha256}`);
  }
  await read(dataBytes, sizeBytes);
  if (image.blocksSha256 !== undefined) {
    const blocks = await blocksDigest(source, undefined, async () => {
      await setImmediate();
      throwIfInterrupted(signal);
    });
    if (blocks !== image.blocksSha256) {
      throw distrust(source, "its blocks are not as they were built");
    }
  }
  return { sha256: whole.digest("hex"), segments: joined(segments) };
}

/** Joins consecutive segments of zeros. */
function joined(segments: readonly Segment[]): Segment[] {
  const all: Segment[] = [];
  for (const segment of segments) {
    const last = all.at(-1);
    if (segment.kind === "zeros" && last?.kind === "zeros") {
      all[all.length - 1] = { kind: "zeros", sizeBytes: last.sizeBytes + segment.sizeBytes };
    } else all.push(segment);
  }
  return all;
}

function piece(path: string, body: readonly Segment[], sha256: string): BundlePiece {
  const size = totalSize(body);
  return { member: { kind: "file", path, size, sha256, isExecutable: false }, body };
}

function distrust(source: FileSource, what: string): UserError {
  return new UserError("verify", `Cannot include ${source.name} in a bundle: ${what}`, {
    where: source.name,
    hint: "A guest that was started from it has changed it; build the target again",
  });
}
