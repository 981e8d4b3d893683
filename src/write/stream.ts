// SPDX-License-Identifier: MIT
/**
 * Segments as a stream of bytes: what `writeImage()` writes, to whoever reads it, and in no file.
 *
 * The last bytes of a file leave only when its SHA-256 is right, so that no end of a stream follows
 * a wrong file.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { checkMember, MemberReader } from "../archive/reader.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import {
  type FileSegment,
  type JoinedSegment,
  type MemberSegment,
  runsOf,
  type Segment,
  totalSize,
} from "../format/segment.ts";
import { PIECE_BYTES } from "../hash/piece.ts";
import { reading } from "../refused.ts";
import { readJoined } from "../source/joined.ts";
import { changedFile, openRun } from "../source/run.ts";
import { RunningCrc32 } from "./crc32.ts";
import {
  DigestMismatch,
  type Hashed,
  type WriteOptions,
  type WrittenImage,
  writtenImage,
} from "./writer.ts";

/** How an image is streamed. */
export interface ImageStreamOptions {
  /** Size of the stream: that of the segments if absent, or larger for zeros after them. */
  readonly sizeBytes?: number;
  /** Ends the stream with an error, also while nobody reads it. */
  readonly signal?: AbortSignal;
}

/**
 * Returns an image as a stream, in chunks of 256 KiB. Nothing is read before it is asked for: what
 * it takes of memory is a few chunks, however large the image is and however slow its reader.
 *
 * The stream errors with a {@link UserError} as `writeImage()` throws it, and before its end, where
 * a file is wrong or has changed. Cancelling it closes what is open.
 */
export function imageStream(
  segments: readonly Segment[],
  options: ImageStreamOptions = {},
): ReadableStream<Uint8Array> {
  const { signal } = options;
  const bytes = imageBytes(segments, options);
  // A generator that is asked to return does so after what it is busy with.
  const end = async () => {
    signal?.removeEventListener("abort", stop);
    await bytes.return(undefined as never);
  };
  let stop = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      stop = () => {
        controller.error(new UserError("interrupt", "Interrupted"));
        // What it fails with by now is that it was interrupted.
        end().catch(() => {});
      };
      if (signal?.aborted) stop();
      else signal?.addEventListener("abort", stop, { once: true });
    },
    async pull(controller) {
      try {
        const { done, value } = await bytes.next();
        if (signal?.aborted) return;
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        if (signal?.aborted) return;
        controller.error(error);
      }
      signal?.removeEventListener("abort", stop);
    },
    cancel: end,
  }, { highWaterMark: 0 });
}

/** How an image is streamed to a place. */
export type StreamToOptions =
  & ImageStreamOptions
  & Pick<WriteOptions, "files" | "onBytes">;

/**
 * Streams an image to a place, no faster than that takes it, and closes it; it is aborted where the
 * image could not be streamed as a whole.
 *
 * @throws {UserError} as {@link imageStream}; no {@link DigestMismatch}, as what was streamed cannot
 * be taken back, so that nothing can begin again.
 * @throws what the place throws
 */
export async function streamImage(
  segments: readonly Segment[],
  to: WritableStream<Uint8Array>,
  options: StreamToOptions = {},
): Promise<WrittenImage> {
  const bytes = imageBytes(segments, options);
  const writer = to.getWriter();
  // A failed place is seen by whoever writes to it.
  writer.closed.catch(() => {});
  try {
    for (;;) {
      const { done, value } = await bytes.next();
      if (done) {
        await writer.close();
        return value;
      }
      const { length } = value;
      await writer.write(value);
      options.onBytes?.(length);
    }
  } catch (error) {
    await writer.abort(error).catch(() => {});
    if (!(error instanceof DigestMismatch)) throw error;
    const { message, where, hint } = error;
    throw new UserError("verify", `${message}\nWhat was streamed is incomplete`, {
      ...(where !== undefined && { where }),
      ...(hint !== undefined && { hint }),
      cause: error,
    });
  } finally {
    await bytes.return(undefined as never);
    writer.releaseLock();
  }
}

/** The digests of an image that was read. */
export interface DigestedImage extends WrittenImage {
  /** SHA-256 of all its bytes. */
  readonly sha256: string;
}

/**
 * Computes what a stream of an image would be.
 *
 * @throws {UserError} as {@link imageStream}; {@link DigestMismatch} for a wrong file
 */
export async function digestStream(
  segments: readonly Segment[],
  { onBytes, ...options }: StreamToOptions = {},
): Promise<DigestedImage> {
  const bytes = imageBytes(segments, options);
  const hash = createHash("sha256");
  for (;;) {
    const { done, value } = await bytes.next();
    if (done) return { ...value, sha256: hash.digest("hex") };
    hash.update(value);
    onBytes?.(value.length);
  }
}

/** Yields the bytes of an image in chunks that are the reader's own, and returns its digests. */
async function* imageBytes(
  segments: readonly Segment[],
  { sizeBytes = totalSize(segments), signal, files }: StreamToOptions,
): AsyncGenerator<Uint8Array, WrittenImage, undefined> {
  const tailBytes = sizeBytes - totalSize(segments);
  if (tailBytes < 0) throw new RangeError(`an image is larger than ${sizeBytes} bytes`);
  const stream = new Stream(segments, sizeBytes, signal);
  try {
    throwIfInterrupted(signal);
    for (const segment of segments) yield* stream.put(segment);
    yield* stream.skip(tailBytes);
    yield* stream.rest();
    return writtenImage(segments, stream, files);
  } finally {
    await stream.close();
  }
}

/** What the methods of a {@link Stream} yield: the chunks that are full. */
type Chunks = AsyncGenerator<Uint8Array, void, undefined>;

class Stream implements Hashed {
  readonly digests = new Map<Segment, string>();
  readonly checksums = new Map<Segment, Uint8Array>();
  readonly #signal: AbortSignal | undefined;
  readonly #members: MemberReader;
  readonly #crc: RunningCrc32;
  #chunk: Uint8Array;
  #filledBytes = 0;
  /** From the beginning of the chunk to the end of the image. */
  #leftBytes: number;

  constructor(segments: readonly Segment[], sizeBytes: number, signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#members = new MemberReader(signal);
    this.#crc = new RunningCrc32(segments);
    this.#leftBytes = sizeBytes;
    this.#chunk = new Uint8Array(Math.min(PIECE_BYTES, sizeBytes));
  }

  async *put(segment: Segment): Chunks {
    switch (segment.kind) {
      case "bytes":
        return yield* this.#putBytes(segment.bytes);
      case "zeros":
        this.#crc.updateZeros(segment.sizeBytes);
        return yield* this.skip(segment.sizeBytes);
      case "crc32": {
        const digits = this.#crc.digits();
        this.checksums.set(segment, digits);
        return yield* this.#putBytes(digits);
      }
      case "file":
        return yield* this.#putFile(segment);
      case "member":
      case "joined":
        return yield* this.#putWhole(segment);
    }
  }

  /** Adds zeros. */
  async *skip(sizeBytes: number): Chunks {
    for (let done = 0; done < sizeBytes;) {
      yield* this.#flush();
      const part = Math.min(this.#room.length, sizeBytes - done);
      this.#filledBytes += part;
      done += part;
    }
  }

  /** Yields the last chunk. */
  async *rest(): Chunks {
    if (this.#filledBytes > 0) yield this.#chunk;
  }

  async close(): Promise<void> {
    await this.#members.close();
  }

  get #room(): Uint8Array {
    return this.#chunk.subarray(this.#filledBytes);
  }

  /** Yields the chunk if it is full. Called when there is more to come: what is in it is right. */
  async *#flush(): Chunks {
    if (this.#filledBytes < this.#chunk.length) return;
    // Signals, and a reader in this process, get their turn.
    await setImmediate();
    throwIfInterrupted(this.#signal);
    const chunk = this.#chunk;
    this.#leftBytes -= chunk.length;
    this.#chunk = new Uint8Array(Math.min(PIECE_BYTES, this.#leftBytes));
    this.#filledBytes = 0;
    yield chunk;
  }

  async *#putBytes(bytes: Uint8Array): Chunks {
    this.#crc.update(bytes);
    for (let done = 0; done < bytes.length;) {
      yield* this.#flush();
      const part = bytes.subarray(done, done + this.#room.length);
      this.#room.set(part);
      this.#filledBytes += part.length;
      done += part.length;
    }
  }

  async *#putFile(segment: FileSegment): Chunks {
    const hash = createHash("sha256");
    for (const run of runsOf(segment)) {
      const { file, close } = openRun(segment, run);
      try {
        for (let done = 0; done < run.sizeBytes;) {
          yield* this.#flush();
          const part = this.#room.subarray(0, run.sizeBytes - done);
          const position = run.offsetBytes + done;
          const take = () => readSync(file, part, 0, part.length, position);
          const read = reading(run.path, take, { kind: "tree" });
          if (read === 0) throw changedFile(segment, `it ends after ${done} bytes`);
          hash.update(part.subarray(0, read));
          this.#crc.update(part.subarray(0, read));
          this.#filledBytes += read;
          done += read;
        }
      } finally {
        close();
      }
    }
    const sha256 = hash.digest("hex");
    if (sha256 !== (segment.sha256 ?? sha256)) throw DigestMismatch.of(segment, sha256);
    this.digests.set(segment, sha256);
  }

  async *#putWhole(segment: MemberSegment | JoinedSegment): Chunks {
    const hash = createHash("sha256");
    const pieces = segment.kind === "member" ? this.#members.read(segment) : readJoined(segment);
    for await (const piece of pieces) {
      hash.update(piece);
      yield* this.#putBytes(piece);
    }
    const sha256 = hash.digest("hex");
    if (segment.kind === "member") checkMember(segment, sha256);
    this.digests.set(segment, sha256);
  }
}
