// SPDX-License-Identifier: MIT
/**
 * Reads images with bounded memory.
 *
 * @module
 */

import { isZero } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { type FileRun, MIB } from "./segment.ts";

/** Random access to the bytes of an image: a file, a device, or memory in tests. */
export interface ByteSource {
  /** Name for messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Offset of its first byte in what the name stands for, for messages; absent where it is 0. */
  readonly baseBytes?: number;
  /**
   * Fills `into` from `offset` on.
   *
   * @returns The number of bytes read: less than `into.length` only at the end of the source.
   */
  read(offset: number, into: Uint8Array): number;
  /**
   * Returns the offset of the next byte, from `offset` on, that may be other than zero: `sizeBytes`
   * where there is none. Absent in a source that would have to read to know.
   */
  nextData?(offset: number): number;
  /** Returns where on this machine bytes of it are; absent in a source that is not in files. */
  runs?(offset: number, sizeBytes: number): FileRun[];
}

/** Returns a source over bytes in memory. */
export function memorySource(bytes: Uint8Array, name = "memory"): ByteSource {
  return {
    name,
    sizeBytes: bytes.length,
    read(offset, into) {
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return part.length;
    },
  };
}

/** Returns a source over `sizeBytes` bytes of a source, from an offset on. */
export function sliceOf(
  source: ByteSource,
  offset: number,
  sizeBytes: number,
): ByteSource & { readonly baseBytes: number } {
  const { name, nextData, runs } = source;
  const rest = (at: number) => Math.max(0, sizeBytes - at);
  return {
    name,
    sizeBytes,
    baseBytes: (source.baseBytes ?? 0) + offset,
    read: (at, into) => source.read(offset + at, into.subarray(0, Math.min(into.length, rest(at)))),
    ...(nextData && {
      nextData: (at: number) => Math.min(sizeBytes, nextData.call(source, offset + at) - offset),
    }),
    ...(runs && { runs: (at: number, size: number) => runs.call(source, offset + at, size) }),
  };
}

/**
 * Reads bytes of a source from an offset on.
 *
 * @param into The buffer to fill, or the number of bytes; a buffer is then allocated only if the
 * source claims to have them.
 * @returns The bytes, or undefined where the source is too short.
 */
export function readExactly(
  source: ByteSource,
  offset: number,
  into: Uint8Array | number,
): Uint8Array | undefined {
  const size = typeof into === "number" ? into : into.length;
  if (offset + size > source.sizeBytes) return undefined;
  const bytes = typeof into === "number" ? new Uint8Array(size) : into;
  return source.read(offset, bytes) === size ? bytes : undefined;
}

/**
 * Reads bytes as {@link readExactly} does.
 *
 * @param what What the bytes are, for the message.
 * @throws {UserError} "format" where the source is too short.
 */
export function takeExactly(
  source: ByteSource,
  offset: number,
  into: Uint8Array | number,
  what: string,
): Uint8Array {
  const bytes = readExactly(source, offset, into);
  if (bytes === undefined) throw endsInside(source, offset, what);
  return bytes;
}

/** Size of the window of a {@link Cursor}: all the memory that walking an image takes. */
export const WINDOW_BYTES = 64 * 1024;

/** A position in a source, with a small window of buffered bytes. */
export class Cursor {
  readonly source: ByteSource;
  /** Offset of the next byte. */
  offsetBytes: number;
  #window = new Uint8Array(WINDOW_BYTES);
  #start = 0;
  #length = 0;

  constructor(source: ByteSource, offset = 0) {
    this.source = source;
    this.offsetBytes = offset;
  }

  /** The number of bytes from here to the end of the source. */
  get remainingBytes(): number {
    return Math.max(0, this.source.sizeBytes - this.offsetBytes);
  }

  /**
   * Returns up to `length` bytes from here without advancing; fewer at the end of the source.
   *
   * @param length At most {@link WINDOW_BYTES}. The result is valid until the next call.
   */
  peek(length: number): Uint8Array {
    const from = this.offsetBytes - this.#start;
    if (from < 0 || from + length > this.#length) {
      this.#start = this.offsetBytes;
      this.#length = this.source.read(this.offsetBytes, this.#window);
      return this.#window.subarray(0, Math.min(length, this.#length));
    }
    return this.#window.subarray(from, from + length);
  }

  /**
   * Returns exactly `length` bytes and advances past them.
   *
   * @throws {UserError} "format" where the source is too short.
   */
  take(length: number, what: string): Uint8Array {
    const bytes = this.peek(length);
    if (bytes.length < length) throw endsInside(this.source, this.offsetBytes, what);
    this.offsetBytes += length;
    return bytes;
  }
}

/**
 * Reads `size` bytes of a source from `offset` on, at most a MiB at a time.
 *
 * @returns Parts that are valid until the next one.
 * @throws {UserError} "format" where the source is too short.
 */
export function* readRange(
  source: ByteSource,
  offset: number,
  size: number,
): Generator<Uint8Array, void, undefined> {
  const window = new Uint8Array(Math.min(size, MIB));
  for (let done = 0; done < size;) {
    const part = window.subarray(0, Math.min(window.length, size - done));
    const read = source.read(offset + done, part);
    if (read < part.length) {
      throw formatError(
        source,
        offset + done + read,
        `the image ends ${size - done - read} bytes too early`,
      );
    }
    yield part;
    done += read;
  }
}

/**
 * Returns the offset of the first byte from `offset` on that is not zero, or -1; skips holes.
 *
 * @param end Where to stop, if that is before the end of the source.
 */
export function firstNonZero(source: ByteSource, offset: number, end = Infinity): number {
  const window = new Uint8Array(Math.max(0, Math.min(MIB, end - offset)));
  for (let at = offset;;) {
    at = source.nextData?.(at) ?? at;
    const rest = Math.max(0, Math.min(window.length, end - at));
    const part = window.subarray(0, source.read(at, window.subarray(0, rest)));
    if (part.length === 0) return -1;
    if (!isZero(part)) return at + part.findIndex((byte) => byte !== 0);
    at += part.length;
  }
}

function endsInside(source: ByteSource, offset: number, what: string): UserError {
  return formatError(source, offset, `the image ends inside ${what}`);
}

/** Returns a "format" error at an offset of a source. */
export function formatError(source: ByteSource, offset: number, message: string): UserError {
  return new UserError("format", `Cannot read image: ${message}`, {
    where: `${source.name}, offset ${(source.baseBytes ?? 0) + offset}`,
  });
}
