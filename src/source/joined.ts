// SPDX-License-Identifier: MIT
/**
 * Reads a file of an image that is made of parts.
 *
 * @module
 */

import { readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { type FileRun, type FileSegment, type JoinedSegment, runsOf } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { changedFile, openRun } from "./run.ts";

const PIECE_BYTES = 256 * 1024;

/**
 * Reads the bytes of all parts, in order and in new chunks.
 *
 * @throws {UserError} "tree" for a file that cannot be read, or has changed.
 */
export async function* readJoined(
  { parts }: JoinedSegment,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (const part of parts) {
    if (part.kind === "bytes") yield part.bytes;
    else if (part.kind === "zeros") yield* zeros(part.sizeBytes);
    else for (const run of runsOf(part)) yield* readRun(part, run);
    // Signals are only handled between two tasks.
    await setImmediate();
  }
}

function* zeros(sizeBytes: number): Generator<Uint8Array, void, undefined> {
  for (let done = 0; done < sizeBytes; done += PIECE_BYTES) {
    yield new Uint8Array(Math.min(PIECE_BYTES, sizeBytes - done));
  }
}

async function* readRun(
  segment: FileSegment,
  run: FileRun,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { file, close } = openRun(segment, run);
  try {
    for (let done = 0; done < run.sizeBytes;) {
      const piece = new Uint8Array(Math.min(PIECE_BYTES, run.sizeBytes - done));
      const take = () => readSync(file, piece, 0, piece.length, run.offsetBytes + done);
      const read = reading(run.path, take, { kind: "tree" });
      if (read === 0) throw changedFile(segment, `it ends after ${done} bytes`);
      yield piece.subarray(0, read);
      done += read;
      await setImmediate();
    }
  } finally {
    close();
  }
}
