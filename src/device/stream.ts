// SPDX-License-Identifier: MIT
/**
 * Streams segments to a device, from their start to their end, and verifies them.
 *
 * @module
 */

import { readSync } from "node:fs";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { sha256Of } from "../bytes.ts";
import { throwIfInterrupted } from "../errors.ts";
import { BlocksDigest } from "../format/blocks.ts";
import { type Piece, piecesDigest } from "../format/pieces.ts";
import {
  type FileRun,
  type FileSegment,
  type JoinedSegment,
  type MemberSegment,
  runsOf,
  type Segment,
  segmentSize,
} from "../format/segment.ts";
import { PIECE_BYTES } from "../hash/piece.ts";
import { reading } from "../refused.ts";
import { readJoined } from "../source/joined.ts";
import { changedFile, openRun } from "../source/run.ts";
import { RunningCrc32 } from "../write/crc32.ts";
import { DigestMismatch } from "../write/writer.ts";
import { type DeviceSink, writeBytes } from "./sink.ts";

/** A source file that cannot be read is an error of the "tree". */
const SOURCE = { kind: "tree" } as const;

/** What to hash. */
export interface StreamRequest {
  readonly segments: readonly Segment[];
  /**
   * The segments that are files of the image, where its pieces are wanted; otherwise only what has a
   * known digest is hashed.
   */
  readonly files?: ReadonlySet<Segment> | undefined;
  /** Whether the digest of a disk with a file system is wanted. */
  readonly wantsBlocks?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The digests of what was written. */
export interface Streamed {
  /** SHA-256 of each segment that was hashed on its own. */
  readonly digests: ReadonlyMap<Segment, string>;
  /** Digest as in `format/pieces.ts`, where it is wanted. */
  readonly piecesSha256?: string;
  /** Digest as in `format/blocks.ts`, where it is wanted. */
  readonly blocksSha256?: string;
}

/**
 * Streams segments into a sink.
 *
 * @throws {UserError} "verify" for a file whose digest is wrong ({@link DigestMismatch}); "tree" for
 * a file that cannot be read or has changed; "verify" or "format" for an archive that has changed;
 * "target" for a failed write; "interrupt".
 */
export async function streamSegments(
  { segments, files, wantsBlocks, signal }: StreamRequest,
  sink: DeviceSink,
): Promise<Streamed> {
  const blocks = wantsBlocks ? new BlocksDigest() : undefined;
  const stream = new Stream(sink, segments, blocks, signal);
  const isFile = (segment: Segment) =>
    files?.has(segment) === true || segment.kind === "member" ||
    segment.kind === "joined" ||
    (segment.kind === "file" && segment.sha256 !== undefined);
  try {
    for (const segment of segments) {
      const size = segmentSize(segment);
      if (isFile(segment)) await stream.putFile(segment);
      else if (size > 0) {
        if (files !== undefined) stream.beginBetween();
        await stream.put(segment);
      }
      throwIfInterrupted(signal);
    }
    stream.endPiece();
    const { digests, pieces } = await stream.finish();
    return {
      digests,
      ...(files && { piecesSha256: piecesDigest(pieces) }),
      ...(blocks && { blocksSha256: blocks.end() }),
    };
  } finally {
    await stream.close();
  }
}

/** A piece whose digest is on its way. */
interface Pending {
  readonly sizeBytes: number;
  /** Absent for a run between files. */
  readonly segment?: Segment;
  readonly sha256: Promise<string>;
}

class Stream {
  readonly #sink: DeviceSink;
  readonly #signal: AbortSignal | undefined;
  readonly #members: MemberReader;
  readonly #crc: RunningCrc32;
  readonly #blocks: BlocksDigest | undefined;
  readonly #pending: Pending[] = [];
  /** The run between files that is hashed. */
  #betweenBytes: number | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    sink: DeviceSink,
    segments: readonly Segment[],
    blocks: BlocksDigest | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#sink = sink;
    this.#signal = signal;
    this.#members = new MemberReader(signal);
    this.#crc = new RunningCrc32(segments);
    this.#blocks = blocks;
  }

  /** From here on bytes belong to a run between files. */
  beginBetween(): void {
    if (this.#betweenBytes !== undefined) return;
    this.#sink.beginPiece();
    this.#betweenBytes = 0;
  }

  /** Ends the run between files, if there is one. */
  endPiece(): void {
    const sizeBytes = this.#betweenBytes;
    if (sizeBytes === undefined) return;
    this.#betweenBytes = undefined;
    this.#expect({ sizeBytes, sha256: this.#sink.endPiece() });
  }

  /** Writes a file, as a piece of its own. */
  async putFile(segment: Segment): Promise<void> {
    const sizeBytes = segmentSize(segment);
    if (sizeBytes === 0) {
      // It is no piece, and ends none; that it is empty still has to be seen.
      await this.put(segment);
      return this.#expect({ sizeBytes, segment, sha256: Promise.resolve(sha256Of("")) });
    }
    this.endPiece();
    this.#sink.beginPiece();
    await this.put(segment);
    this.#expect({ sizeBytes, segment, sha256: this.#sink.endPiece() });
  }

  async put(segment: Segment): Promise<void> {
    if (this.#betweenBytes !== undefined) this.#betweenBytes += segmentSize(segment);
    switch (segment.kind) {
      case "bytes":
        this.#hash(segment.bytes);
        return await writeBytes(this.#sink, segment.bytes);
      case "zeros":
        this.#crc.updateZeros(segment.sizeBytes);
        this.#blocks?.skip(segment.sizeBytes);
        return await this.#sink.skip(segment.sizeBytes);
      case "crc32": {
        const digits = this.#crc.digits();
        await writeBytes(this.#sink, digits);
        return this.#hash(digits);
      }
      case "file":
        for (const run of runsOf(segment)) await this.#putRun(segment, run);
        return;
      case "member":
      case "joined":
        return await this.#putWhole(segment);
    }
  }

  /** Waits for all digests. */
  async finish(): Promise<{ digests: Map<Segment, string>; pieces: Piece[] }> {
    const digests = new Map<Segment, string>();
    const pieces: Piece[] = [];
    for (const { sizeBytes, segment, sha256: promise } of this.#pending) {
      const sha256 = await promise;
      if (sizeBytes > 0) pieces.push({ sizeBytes, sha256 });
      if (segment !== undefined) digests.set(segment, sha256);
    }
    this.#throwIfFailed();
    return { digests, pieces };
  }

  async close(): Promise<void> {
    await this.#members.close();
  }

  #expect(pending: Pending): void {
    this.#throwIfFailed();
    const { segment } = pending;
    const checked = pending.sha256.then((got) => {
      if (segment?.kind === "member") checkMember(segment, got);
      if (segment?.kind === "file" && got !== (segment.sha256 ?? got)) {
        throw DigestMismatch.of(segment, got);
      }
      return got;
    });
    // A wrong file ends the write at the next one: nothing boots until all of them are right.
    checked.catch((error: unknown) => void (this.#failure ??= { error }));
    this.#pending.push({ ...pending, sha256: checked });
  }

  async #putRun(segment: FileSegment, run: FileRun): Promise<void> {
    const { file, close } = openRun(segment, run);
    try {
      for (let done = 0; done < run.sizeBytes;) {
        const room = await this.#sink.room();
        const part = room.subarray(0, Math.min(room.length, run.sizeBytes - done, PIECE_BYTES));
        const position = run.offsetBytes + done;
        const take = () => readSync(file, part, 0, part.length, position);
        const read = reading(run.path, take, SOURCE);
        if (read === 0) throw changedFile(segment, `it ends after ${done} bytes`);
        this.#hash(part.subarray(0, read));
        this.#sink.used(read);
        done += read;
        throwIfInterrupted(this.#signal);
      }
    } finally {
      close();
    }
  }

  async #putWhole(segment: MemberSegment | JoinedSegment): Promise<void> {
    const pieces = segment.kind === "member" ? this.#members.read(segment) : readJoined(segment);
    for await (const piece of pieces) {
      this.#hash(piece);
      await writeBytes(this.#sink, piece);
      throwIfInterrupted(this.#signal);
    }
  }

  /** Takes bytes of the image into the digests of it as a whole. */
  #hash(bytes: Uint8Array): void {
    this.#crc.update(bytes);
    this.#blocks?.add(bytes);
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
