// SPDX-License-Identifier: MIT
/**
 * Writes segments to files, and verifies them. Each segment has its place before anything is read,
 * so that every core reads, hashes and writes files of its own.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { sha256Of } from "../bytes.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { type Piece, piecesDigest } from "../format/pieces.ts";
import {
  type FileSegment,
  type JoinedSegment,
  type MemberSegment,
  type Segment,
  segmentSize,
} from "../format/segment.ts";
import { digestEach, type HashTask } from "../hash/pool.ts";
import { readJoined } from "../source/joined.ts";
import { fileName } from "../source/run.ts";
import { crc32Digits } from "./crc32.ts";
import { type OutputPlaces, Outputs } from "./outputs.ts";

/** The digests of an image that was written. */
export interface WrittenImage {
  /** Digest of its pieces, see `format/pieces.ts`. */
  readonly piecesSha256: string;
  /** SHA-256 of each file, member and joined segment. */
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
  /** The bytes segments that are files of the image, as file and member segments are. */
  readonly files?: ReadonlySet<Segment>;
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
  const { sizeBytes, files } = options;
  const places = { pathOf: () => path, partBytes: Infinity, sizeBytes };
  const hashed = await writeSegments(segments, places, options);
  return writtenImage(segments, hashed, files);
}

/**
 * Computes what {@link writeImage} would return, and writes nothing.
 *
 * @param segments Without `crc32` segments, which are of the bytes of an image.
 * @throws {UserError} as {@link writeImage}, except for "target"
 */
export async function digestImage(
  segments: readonly Segment[],
  options: StreamOptions & Pick<WriteOptions, "files">,
): Promise<WrittenImage> {
  const hashed = await processAll(segments, undefined, { ...options, hashesAll: true });
  return writtenImage(segments, hashed, options.files);
}

/** Digests that were computed while segments were read. */
export interface Hashed {
  /** SHA-256 of each file, member and joined segment; of those without a known one only if it is wanted. */
  readonly digests: ReadonlyMap<Segment, string>;
  /** What became of each `crc32` segment. */
  readonly checksums: ReadonlyMap<Segment, Uint8Array>;
}

/** How segments are processed. */
interface ProcessOptions extends StreamOptions {
  /** Whether also files without a known digest are hashed. */
  readonly hashesAll: boolean;
}

/**
 * Writes segments to new files, and syncs these. The caller removes them on failure.
 *
 * @throws {UserError} as {@link writeImage}
 */
export async function writeSegments(
  segments: readonly Segment[],
  places: OutputPlaces,
  options: StreamOptions & { readonly hashesAll?: boolean },
): Promise<Hashed> {
  const outputs = new Outputs(places);
  try {
    const hashed = await processAll(segments, outputs, { hashesAll: true, ...options });
    await outputs.finish();
    throwIfInterrupted(options.signal);
    return hashed;
  } finally {
    await outputs.close();
  }
}

async function processAll(
  segments: readonly Segment[],
  outputs: Outputs | undefined,
  options: ProcessOptions,
): Promise<Hashed> {
  const digests = new Map<Segment, string>();
  await copyMembers(segments, outputs, digests, options);
  await copyFiles(segments, outputs, digests, options);
  return { digests, checksums: writeChecksums(segments, outputs) };
}

/** Yields segments with their offsets. */
function* placed(segments: readonly Segment[]): Generator<readonly [Segment, number], void> {
  let offsetBytes = 0;
  for (const segment of segments) {
    yield [segment, offsetBytes];
    offsetBytes += segmentSize(segment);
  }
}

/** Copies files on every core, writes what is in memory, and leaves zeros as holes. */
async function copyFiles(
  segments: readonly Segment[],
  outputs: Outputs | undefined,
  digests: Map<Segment, string>,
  { hashesAll, onBytes, signal }: ProcessOptions,
): Promise<void> {
  /** The segments of the tasks that are not done. */
  const asked: FileSegment[] = [];
  let lastOffset = 0;
  const tasks = function* (): Generator<HashTask> {
    for (const [segment, offsetBytes] of placed(segments)) {
      if (segment.kind === "bytes") outputs?.write(segment.bytes, offsetBytes);
      if (segment.kind !== "file") continue;
      const { sizeBytes, sha256 } = segment;
      asked.push(segment);
      lastOffset = offsetBytes;
      yield {
        segment,
        kind: "tree",
        ...(outputs && { to: { kind: "runs", runs: outputs.runsAt(offsetBytes, sizeBytes) } }),
        ...(sha256 === undefined && !hashesAll && { isUnhashed: true }),
      };
    }
  };
  const noteBytes = (bytes: number) => {
    outputs?.noteWritten(bytes, lastOffset);
    onBytes?.(bytes);
  };
  for await (const got of digestEach(tasks(), { onBytes: noteBytes, signal })) {
    const segment = asked.shift()!;
    if (got === undefined || got === "") continue;
    if (segment.sha256 !== undefined && got !== segment.sha256) {
      throw DigestMismatch.of(segment, got);
    }
    digests.set(segment, got);
  }
}

/** Copies members of archives and joined files, which are read from their beginning to their end. */
async function copyMembers(
  segments: readonly Segment[],
  outputs: Outputs | undefined,
  digests: Map<Segment, string>,
  options: StreamOptions,
): Promise<void> {
  const members = new MemberReader(options.signal);
  try {
    for (const [segment, offsetBytes] of placed(segments)) {
      if (segment.kind !== "member" && segment.kind !== "joined") continue;
      const { onBytes, signal } = options;
      const write = (bytes: Uint8Array, done: number) => {
        outputs?.write(bytes, offsetBytes + done);
        onBytes?.(bytes.length);
      };
      digests.set(segment, await readWhole(segment, members, write, signal));
    }
  } finally {
    await members.close();
  }
}

/** Reads a member of an archive or a joined file, and returns its digest. */
async function readWhole(
  segment: MemberSegment | JoinedSegment,
  members: MemberReader,
  write: (bytes: Uint8Array, done: number) => void,
  signal: AbortSignal | undefined,
): Promise<string> {
  const hash = createHash("sha256");
  let done = 0;
  const pieces = segment.kind === "member" ? members.read(segment) : readJoined(segment);
  for await (const piece of pieces) {
    hash.update(piece);
    write(piece, done);
    done += piece.length;
    throwIfInterrupted(signal);
  }
  const sha256 = hash.digest("hex");
  if (segment.kind === "member") checkMember(segment, sha256);
  return sha256;
}

/** Writes the CRC-32 of all bytes before each `crc32` segment, when they have been written. */
function writeChecksums(
  segments: readonly Segment[],
  outputs: Outputs | undefined,
): Map<Segment, Uint8Array> {
  const checksums = new Map<Segment, Uint8Array>();
  let value = 0;
  let end = 0;
  for (const [segment, offsetBytes] of placed(segments)) {
    if (segment.kind !== "crc32") continue;
    if (outputs === undefined) throw new Error("a checksum of an image that is not written");
    for (const bytes of outputs.read(end, offsetBytes - end)) value = crc32(bytes, value);
    const digits = crc32Digits(value);
    outputs.write(digits, offsetBytes);
    checksums.set(segment, digits);
    end = offsetBytes;
  }
  return checksums;
}

/**
 * Returns the digests of an image from those of its files.
 *
 * @param files The bytes segments that are files of it.
 */
export function writtenImage(
  segments: readonly Segment[],
  hashed: Hashed,
  files: ReadonlySet<Segment> | undefined,
): WrittenImage {
  return {
    piecesSha256: piecesDigest(writtenPieces(segments, hashed, files)),
    fileDigests: hashed.digests,
  };
}

/**
 * Returns the pieces of an image, see `format/pieces.ts`.
 *
 * @param files The bytes segments that are files of it.
 */
function* writtenPieces(
  segments: readonly Segment[],
  { digests, checksums }: Hashed,
  files: ReadonlySet<Segment> = new Set(),
): Generator<Piece, void> {
  let between = new Between();
  for (const segment of segments) {
    const sizeBytes = segmentSize(segment);
    if (sizeBytes === 0) continue;
    const sha256 = digests.get(segment) ??
      (segment.kind === "bytes" && files.has(segment) ? sha256Of(segment.bytes) : undefined);
    if (sha256 === undefined) between.add(segment, checksums);
    else {
      yield* between.end();
      between = new Between();
      yield { sizeBytes, sha256 };
    }
  }
  yield* between.end();
}

/** A run of bytes between files. */
class Between {
  readonly #hash = createHash("sha256");
  #sizeBytes = 0;

  add(segment: Segment, checksums: ReadonlyMap<Segment, Uint8Array>): void {
    switch (segment.kind) {
      case "bytes":
        this.#hash.update(segment.bytes);
        break;
      case "crc32":
        this.#hash.update(checksums.get(segment)!);
        break;
      case "zeros":
        for (let done = 0; done < segment.sizeBytes; done += ZEROS.length) {
          this.#hash.update(ZEROS.subarray(0, Math.min(ZEROS.length, segment.sizeBytes - done)));
        }
        break;
      default:
        throw new Error(`a file of an image has no digest: ${segment.kind}`);
    }
    this.#sizeBytes += segmentSize(segment);
  }

  end(): Piece[] {
    const sizeBytes = this.#sizeBytes;
    return sizeBytes === 0 ? [] : [{ sizeBytes, sha256: this.#hash.digest("hex") }];
  }
}

const ZEROS = new Uint8Array(64 * 1024);
