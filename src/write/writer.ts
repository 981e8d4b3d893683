// SPDX-License-Identifier: MIT
/**
 * The one writer: streams segments into a file, verifies them on the way, and computes the digest
 * of the whole.
 *
 * It works in two threads, since with every byte hashed twice (as part of its file, and as part
 * of the image) SHA-256 is what takes the time: this half reads and verifies, `sink_worker.ts`
 * writes and digests. Between them is a ring of fixed buffers, so that memory does not grow with
 * the data.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { systemCode, UserError } from "../errors.ts";
import { type FileSegment, MIB, type Segment } from "../format/segment.ts";
import { startSinkWorker } from "../runtime/worker.ts";
import type { SinkReply, SinkRequest } from "./sink_worker.ts";

/** A ring of this many buffers of {@link SLOT_BYTES}. */
const SLOTS = 16;
const SLOT_BYTES = MIB;
/** Zeros shorter than this are written, longer ones become a hole. */
const HOLE_BYTES = 64 * 1024;

/** What was written. */
export interface WrittenImage {
  /** SHA-256 of the segments, without the sparse tail. */
  readonly sha256: string;
  /** SHA-256 of each file segment. */
  readonly fileDigests: ReadonlyMap<Segment, string>;
}

export interface WriteOptions {
  /** Size of the file: that of the segments, or more for a sparse tail. */
  readonly sizeBytes: number;
  /** Called with the number of bytes that were read since the last call. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** A file that does not have the content that it should have. */
export class DigestMismatch extends UserError {
  /** The file on this machine. */
  readonly path: string;

  constructor(path: string, message: string) {
    super("verify", message, { where: path, hint: "Delete the file, or fetch it again" });
    this.path = path;
  }
}

/**
 * Writes segments to a new file and makes it durable. The caller removes the file on failure.
 *
 * @param path The file, which must not exist.
 * @throws {UserError} "verify" for a file segment whose digest is wrong ({@link DigestMismatch});
 * "target" for what cannot be written; "tree" for a file that changed while it was read;
 * "interrupt" when the signal is raised.
 */
export async function writeImage(
  path: string,
  segments: readonly Segment[],
  options: WriteOptions,
): Promise<WrittenImage> {
  const sink = new Sink(path);
  const fileDigests = new Map<Segment, string>();
  try {
    for (const segment of segments) {
      switch (segment.kind) {
        case "bytes":
          await sink.write(segment.bytes);
          break;
        case "zeros":
          if (segment.size < HOLE_BYTES) await sink.write(new Uint8Array(segment.size));
          else sink.skip(segment.size);
          break;
        case "file":
          fileDigests.set(segment, await copyFile(segment, sink, options));
          break;
      }
      throwIfInterrupted(options.signal);
    }
    return { sha256: await sink.finish(options.sizeBytes), fileDigests };
  } finally {
    await sink.close();
  }
}

/** Streams a file segment into the sink and returns its digest. */
async function copyFile(
  segment: FileSegment,
  sink: Sink,
  { onBytes, signal }: WriteOptions,
): Promise<string> {
  const hash = createHash("sha256");
  const file = openSource(segment.path);
  try {
    const size = fstatSync(file).size;
    if (size < segment.offset + segment.size || (segment.offset === 0 && size !== segment.size)) {
      throw changed(segment, `it has ${size} bytes`);
    }
    for (let done = 0; done < segment.size;) {
      const room = await sink.room();
      const part = room.subarray(0, Math.min(room.length, segment.size - done));
      const read = readSource(file, part, segment.offset + done, segment.path);
      if (read === 0) throw changed(segment, `it ends after ${done} bytes`);
      hash.update(part.subarray(0, read));
      sink.used(read);
      onBytes?.(read);
      done += read;
      throwIfInterrupted(signal);
    }
  } finally {
    closeSync(file);
  }
  const sha256 = hash.digest("hex");
  if (segment.sha256 !== undefined && sha256 !== segment.sha256) {
    throw new DigestMismatch(
      segment.path,
      `Cannot use ${segment.path}: its SHA-256 is ${sha256}, expected ${segment.sha256}`,
    );
  }
  return sha256;
}

function changed(segment: FileSegment, what: string): UserError {
  return new UserError(
    "tree",
    `Cannot use ${segment.path}: it had ${segment.size} bytes when the build began, now ${what}`,
    { where: segment.path, hint: "Leave the checkout alone while it is being built from" },
  );
}

function openSource(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw sourceError(path, cause);
  }
}

function readSource(file: number, into: Uint8Array, position: number, path: string): number {
  try {
    return readSync(file, into, 0, into.length, position);
  } catch (cause) {
    throw sourceError(path, cause);
  }
}

function sourceError(path: string, cause: unknown): unknown {
  const code = systemCode(cause);
  return code === undefined ? cause : new UserError("tree", `Cannot read ${path}: ${code}`, {
    where: path,
    hint: "Check the file, its permissions and the disk that it lies on",
    cause,
  });
}

function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new UserError("interrupt", "Interrupted");
}

/** The near end of the writing thread. */
class Sink {
  readonly #path: string;
  readonly #worker: Worker;
  readonly #ring = new SharedArrayBuffer(SLOTS * SLOT_BYTES);
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, slot) => slot);
  #slot: number | undefined;
  #filled = 0;
  #sha256: string | undefined;
  #failure: unknown;
  #isClosed = false;
  #wake: () => void = () => {};

  constructor(path: string) {
    this.#path = path;
    this.#worker = startSinkWorker();
    this.#worker.onmessage = ({ data }: MessageEvent<SinkReply>) => this.#receive(data);
    this.#worker.onerror = (event) => {
      this.#failure ??= new Error(`the writing thread failed: ${event.message}`);
      this.#wake();
    };
    this.#send({ kind: "open", path, ring: this.#ring, slotBytes: SLOT_BYTES });
  }

  /** The free part of the current buffer, at least one byte. */
  async room(): Promise<Uint8Array> {
    if (this.#slot === undefined) {
      await this.#until(() => this.#free.length > 0);
      this.#slot = this.#free.shift()!;
      this.#filled = 0;
    }
    const start = this.#slot * SLOT_BYTES;
    return new Uint8Array(this.#ring, start + this.#filled, SLOT_BYTES - this.#filled);
  }

  /** Says that the first `length` bytes of the room were filled. */
  used(length: number): void {
    this.#filled += length;
    if (this.#filled === SLOT_BYTES) this.#flush();
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const room = await this.room();
      const part = bytes.subarray(done, done + room.length);
      room.set(part);
      this.used(part.length);
      done += part.length;
    }
  }

  /** Leaves a hole. */
  skip(size: number): void {
    this.#flush();
    this.#send({ kind: "zeros", size });
  }

  /** Makes the file durable and returns its digest. */
  async finish(sizeBytes: number): Promise<string> {
    this.#flush();
    this.#send({ kind: "finish", sizeBytes });
    await this.#until(() => this.#sha256 !== undefined);
    return this.#sha256!;
  }

  /** Ends the thread; the file is closed, whatever happened. */
  async close(): Promise<void> {
    if (this.#sha256 === undefined && this.#failure === undefined) {
      this.#send({ kind: "abandon" });
      await this.#until(() => this.#isClosed).catch(() => {});
    }
    this.#worker.terminate();
  }

  #flush(): void {
    if (this.#slot === undefined) return;
    this.#send({ kind: "data", slot: this.#slot, length: this.#filled });
    this.#slot = undefined;
  }

  #send(request: SinkRequest): void {
    this.#worker.postMessage(request);
  }

  #receive(reply: SinkReply): void {
    switch (reply.kind) {
      case "free":
        this.#free.push(reply.slot);
        break;
      case "finished":
        this.#sha256 = reply.sha256;
        break;
      case "abandoned":
        this.#isClosed = true;
        break;
      case "failed":
        this.#failure ??= writeError(this.#path, reply.code, reply.message);
        break;
    }
    this.#wake();
  }

  async #until(isDone: () => boolean): Promise<void> {
    while (!isDone() && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function writeError(path: string, code: string | undefined, message: string): UserError {
  return new UserError("target", `Cannot write ${path}: ${message}`, {
    where: path,
    hint: code === "ENOSPC" || code === "EDQUOT"
      ? "Free some space there, or name another --target"
      : code === "EFBIG"
      ? "The file system cannot hold a file of this size: use a smaller --target-size"
      : "Check the target directory and its permissions",
  });
}
