// SPDX-License-Identifier: MIT
/**
 * Streams segments into a file, verifies them, and computes the digest of the image. `sink.ts` has
 * the threads and buffers.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { crc32 } from "node:zlib";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import {
  CRC32_DIGITS,
  type FileRun,
  type FileSegment,
  type MemberSegment,
  runsOf,
  type Segment,
} from "../format/segment.ts";
import { reading } from "../refused.ts";
import { changedFile, fileName, openRun } from "../source/run.ts";
import { PIECE_BYTES } from "./piece.ts";
import { type ImageSink, Sink } from "./sink.ts";

/** Shorter runs of zeros are written, longer ones become a hole. */
const HOLE_BYTES = 64 * 1024;

/** A source file that cannot be read is an error of the "tree". */
const SOURCE = { kind: "tree" } as const;

/** The digests of an image that was written. */
export interface WrittenImage {
  /** SHA-256 of the segments, without the sparse tail. */
  readonly sha256: string;
  /** SHA-256 of each file and member segment. */
  readonly fileDigests: ReadonlyMap<Segment, string>;
}

export interface StreamOptions {
  /** Called with the number of bytes that were read since the last call. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends StreamOptions {
  /** Size of the file: that of the segments, or larger for a sparse tail. */
  readonly sizeBytes: number;
}

/** The error for a file with a wrong digest. */
export class DigestMismatch extends UserError {
  /** The file on this machine. */
  readonly path: string;

  constructor(path: string, message: string) {
    super("verify", message, { where: path, hint: "Delete the file, or fetch it again" });
    this.path = path;
  }

  /** Returns the error for a file segment with a wrong digest. */
  static of(segment: FileSegment, sha256: string): DigestMismatch {
    const { isPart, offsetBytes, sizeBytes } = segment;
    const part = isPart ? `, ${sizeBytes} bytes at offset ${offsetBytes}` : "";
    const name = fileName(segment) + part;
    const message = `Cannot use ${name}: its SHA-256 is ${sha256}, expected ${segment.sha256}`;
    return new DigestMismatch(segment.path, message);
  }
}

/**
 * Writes segments to a new file and syncs it. The caller removes the file on failure.
 *
 * @param path The file, which must not exist.
 * @throws {UserError} "verify" for a file segment whose digest is wrong ({@link DigestMismatch});
 * "target" for a failed write; "tree" for a file that cannot be read or has changed its size;
 * "verify" or "format" for an archive that has changed; "interrupt" when the signal is raised.
 */
export async function writeImage(
  path: string,
  segments: readonly Segment[],
  options: WriteOptions,
): Promise<WrittenImage> {
  const sink = await Sink.open(path);
  try {
    const fileDigests = await streamSegments(segments, sink, options);
    return { sha256: await sink.finish(options.sizeBytes), fileDigests };
  } finally {
    await sink.close();
  }
}

/**
 * Streams segments into a sink, and verifies them.
 *
 * @returns SHA-256 of each file and member segment, except parts of files without a known digest.
 * @throws {UserError} as {@link writeImage}
 */
export async function streamSegments(
  segments: readonly Segment[],
  sink: ImageSink,
  options: StreamOptions,
): Promise<Map<Segment, string>> {
  const fileDigests = new Map<Segment, string>();
  const crc = new RunningCrc32(segments);
  const members = new MemberReader(options.signal);
  try {
    for (const segment of segments) {
      switch (segment.kind) {
        case "bytes":
          crc.update(segment.bytes);
          await writeBytes(sink, segment.bytes);
          break;
        case "zeros":
          crc.updateZeros(segment.sizeBytes);
          if (segment.sizeBytes < HOLE_BYTES) {
            await writeBytes(sink, new Uint8Array(segment.sizeBytes));
          } else await sink.skip(segment.sizeBytes);
          break;
        case "crc32": {
          const digits = crc.digits();
          await writeBytes(sink, digits);
          crc.update(digits);
          break;
        }
        case "file":
          await copyFile(segment, sink, crc, fileDigests, options);
          break;
        case "member":
          fileDigests.set(segment, await copyMember(segment, members, sink, crc, options));
          break;
      }
      throwIfInterrupted(options.signal);
    }
    return fileDigests;
  } finally {
    await members.close();
  }
}

/** Copies bytes into a sink. */
export async function writeBytes(sink: ImageSink, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const room = await sink.room();
    const part = bytes.subarray(done, done + room.length);
    room.set(part);
    sink.used(part.length);
    done += part.length;
  }
}

/** Streams a file segment into the sink, verifies it, and adds its digest to `digests`. */
async function copyFile(
  segment: FileSegment,
  sink: ImageSink,
  crc: RunningCrc32,
  digests: Map<Segment, string>,
  options: StreamOptions,
): Promise<void> {
  const hasDigest = segment.sha256 !== undefined || segment.isPart !== true;
  const hash = createHash("sha256");
  const onPart = (part: Uint8Array) => {
    if (hasDigest) hash.update(part);
    crc.update(part);
  };
  for (const run of runsOf(segment)) await copyRun(segment, run, sink, onPart, options);
  if (!hasDigest) return;
  const sha256 = hash.digest("hex");
  digests.set(segment, sha256);
  if (segment.sha256 !== undefined && sha256 !== segment.sha256) {
    throw DigestMismatch.of(segment, sha256);
  }
}

async function copyRun(
  segment: FileSegment,
  run: FileRun,
  sink: ImageSink,
  onPart: (part: Uint8Array) => void,
  { onBytes, signal }: StreamOptions,
): Promise<void> {
  const { file, close } = openRun(segment, run);
  try {
    for (let done = 0; done < run.sizeBytes;) {
      const room = await sink.room();
      const part = room.subarray(0, Math.min(room.length, run.sizeBytes - done, PIECE_BYTES));
      const position = run.offsetBytes + done;
      const take = () => readSync(file, part, 0, part.length, position);
      const read = reading(run.path, take, SOURCE);
      if (read === 0) throw changedFile(segment, `it ends after ${done} bytes`);
      onPart(part.subarray(0, read));
      sink.used(read);
      onBytes?.(read);
      done += read;
      throwIfInterrupted(signal);
    }
  } finally {
    close();
  }
}

/** Streams a member of an archive into the sink and returns its digest. */
async function copyMember(
  segment: MemberSegment,
  members: MemberReader,
  sink: ImageSink,
  crc: RunningCrc32,
  { onBytes, signal }: StreamOptions,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of members.read(segment)) {
    hash.update(piece);
    crc.update(piece);
    await writeBytes(sink, piece);
    onBytes?.(piece.length);
    throwIfInterrupted(signal);
  }
  const sha256 = hash.digest("hex");
  checkMember(segment, sha256);
  return sha256;
}

/** The CRC-32 of the bytes so far, for images that have `crc32` segments. */
class RunningCrc32 {
  #value = 0;
  #left: number;

  constructor(segments: readonly Segment[]) {
    this.#left = segments.filter(({ kind }) => kind === "crc32").length;
  }

  update(bytes: Uint8Array): void {
    if (this.#left > 0) this.#value = crc32(bytes, this.#value);
  }

  updateZeros(sizeBytes: number): void {
    if (this.#left === 0) return;
    const zeros = new Uint8Array(Math.min(sizeBytes, 64 * 1024));
    for (let left = sizeBytes; left > 0; left -= zeros.length) {
      this.update(zeros.subarray(0, Math.min(left, zeros.length)));
    }
  }

  /** Returns the digits for the next `crc32` segment. */
  digits(): Uint8Array {
    const digits = this.#value.toString(16).padStart(CRC32_DIGITS, "0");
    this.#left--;
    return new TextEncoder().encode(digits);
  }
}
