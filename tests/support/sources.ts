// SPDX-License-Identifier: MIT
/**
 * Byte sources for the tests of readers.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { sha256Of } from "../../src/bytes.ts";
import { UserError } from "../../src/errors.ts";
import { type ByteSource, memorySource } from "../../src/format/reader.ts";
import { type FileSegment, fileSegment, MIB, type Segment } from "../../src/format/segment.ts";

/** Makes a file, and returns a segment of it, which knows its digest if it is to be checked. */
export function fileOf(dir: string, name: string, body: Uint8Array, checks = true): FileSegment {
  const path = join(dir, name);
  writeFileSync(path, body);
  return fileSegment({ path, sizeBytes: body.length }, checks ? sha256Of(body) : undefined);
}

/** Returns the bytes of segments, none of which may be of a file. */
export function bytesOfSegments(segments: readonly Segment[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const segment of segments) {
    if (segment.kind === "file" || segment.kind === "member" || segment.kind === "joined") {
      throw new Error(`a ${segment.kind} segment has no bytes of its own`);
    }
    if (segment.kind === "bytes") parts.push(segment.bytes);
    else if (segment.kind === "zeros") parts.push(new Uint8Array(segment.sizeBytes));
    else {
      const digits = crc32(concat(parts)).toString(16).padStart(8, "0");
      parts.push(new TextEncoder().encode(digits));
    }
  }
  return concat(parts);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A source that records how it is read. */
export interface WatchedSource extends ByteSource {
  /** Size of the largest buffer that a read was to fill. */
  readonly maxRead: number;
  /** Bytes that all reads have returned together. */
  readonly totalRead: number;
}

export function watchedSource(bytes: Uint8Array): WatchedSource {
  const inner = memorySource(bytes, "image");
  const seen = { maxRead: 0, totalRead: 0 };
  return Object.assign(seen, {
    name: inner.name,
    sizeBytes: inner.sizeBytes,
    read(offset: number, into: Uint8Array): number {
      if (!Number.isSafeInteger(offset) || offset < 0) throw new Error(`read at ${offset}`);
      const read = inner.read(offset, into);
      seen.maxRead = Math.max(seen.maxRead, into.length);
      seen.totalRead += read;
      return read;
    },
  });
}

/** Returns the {@link UserError} that reading ends with, as `message | where`; else throws. */
export function faultOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof UserError) return `${error.message} | ${error.where ?? ""}`;
    throw error;
  }
  throw new Error("nothing was wrong");
}

/** Runs a reader, which may end with a {@link UserError} of kind "format" and no other error. */
export function survive(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof UserError) || error.kind !== "format") throw error;
  }
}

/** Throws if a source was read more than this many times over, or with a buffer above 1 MiB. */
export function assertBounded(source: WatchedSource, passes: number): void {
  const most = passes * (source.sizeBytes + MIB);
  if (source.maxRead > MIB || source.totalRead > most) {
    throw new Error(
      `${source.sizeBytes} bytes were read with ${source.totalRead} bytes, ${source.maxRead} at once`,
    );
  }
}
