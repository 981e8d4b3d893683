// SPDX-License-Identifier: MIT
/**
 * The digests of the files of an image, on every core if they are in files of this machine.
 *
 * @module
 */

import { setImmediate } from "node:timers/promises";
import { throwIfInterrupted } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import type { FileRun } from "../format/segment.ts";
import { digestEach, type HashTask } from "../hash/pool.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { digestRange } from "./linear.ts";
import type { ReadView, ViewEntry } from "./types.ts";
import { digestEntry } from "./view.ts";

/** How digests are computed. */
export interface EntryOptions {
  /** Is told what the threads read; what is read in this one, the view tells. */
  readonly progress?: Progress;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Computes the digest of each file among entries of an image.
 *
 * @returns Every entry in order; one that is no file has no digest.
 * @throws {UserError} "format" and "target" for an image that cannot be read; "interrupt".
 */
export async function* digestEntries<Entry extends ViewEntry>(
  view: ReadView,
  entries: Iterable<Entry>,
  { progress = UNWATCHED, signal }: EntryOptions = {},
): AsyncGenerator<readonly [entry: Entry, sha256: string | undefined], void, undefined> {
  // Those that were read and not returned yet.
  const read: Entry[] = [];
  const tasks = async function* () {
    for (const entry of entries) {
      const task = entry.kind === "file" ? contentTask(view, entry) : undefined;
      read.push(entry);
      yield task;
      if (task !== undefined) continue;
      await setImmediate();
      throwIfInterrupted(signal);
    }
  };
  const onBytes = (bytes: number) => progress.add(bytes);
  for await (const sha256 of digestEach(tasks(), { onBytes, signal })) {
    const entry = read.shift()!;
    const isHere = entry.kind === "file" && sha256 === undefined;
    yield [entry, isHere ? digestEntry(view, entry) : sha256];
  }
}

/** Returns the task for the content of a file; undefined where only the view can read it. */
export function contentTask(view: ReadView, file: ViewEntry): HashTask | undefined {
  if (view.fileOf !== undefined) return { segment: view.fileOf(file), kind: "target" };
  const runs = view.runs?.(file);
  return runs && runsTask(view.source.name, file.path, runs);
}

/** A run of bytes of an image, and what it is, for messages. */
export interface NamedRange {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/**
 * Computes the digests of runs of bytes of an image.
 *
 * @returns A digest for each, in order; undefined where the image ends within it.
 * @throws {UserError} "target" for an image that cannot be read; "interrupt".
 */
export async function* digestRanges(
  source: ByteSource,
  ranges: Iterable<NamedRange>,
  { progress = UNWATCHED, signal }: EntryOptions = {},
): AsyncGenerator<string | undefined, void, undefined> {
  const { runs } = source;
  if (runs === undefined) {
    for (const { offset, size } of ranges) {
      yield offset + size <= source.sizeBytes ? digestRange(source, offset, size) : undefined;
      await setImmediate();
      throwIfInterrupted(signal);
    }
    return;
  }
  const tasks = function* (): Generator<HashTask | undefined> {
    for (const { name, offset, size } of ranges) {
      const task = runsTask(source.name, name, runs(offset, size));
      yield task.segment.sizeBytes === size ? task : undefined;
    }
  };
  yield* digestEach(tasks(), { onBytes: (bytes) => progress.add(bytes), signal });
}

/**
 * Returns the task for bytes that are in files of this machine.
 *
 * @param path The image.
 * @param name What the bytes are, for messages.
 */
export function runsTask(path: string, name: string, runs: readonly FileRun[]): HashTask {
  const sizeBytes = runs.reduce((sum, run) => sum + run.sizeBytes, 0);
  const bundled = { name, sha256: "", runs };
  return {
    segment: { kind: "file", path, offsetBytes: 0, sizeBytes, bundled },
    kind: "image",
  };
}
