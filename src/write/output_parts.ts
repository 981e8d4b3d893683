// SPDX-License-Identifier: MIT
/**
 * Writes a new file, or several parts of it, which appear only when all of them are complete.
 *
 * @module
 */

import { readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { numberedPath, partNumbers } from "../source/parts.ts";
import { UserError } from "../errors.ts";
import { fileSegment, type Segment, totalSize } from "../format/segment.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { digestEach } from "../hash/pool.ts";
import { writing } from "../refused.ts";
import { outputFiles, type OutputPlaces } from "./outputs.ts";
import { clearScratch, makeScratch, SCRATCH_PREFIX } from "../runtime/scratch.ts";
import { syncDirectory } from "../runtime/durable.ts";
import { checkSpace } from "./target.ts";
import {
  type StreamOptions,
  writeImage,
  type WriteOptions,
  writeSegments,
  type WrittenImage,
} from "./writer.ts";

/**
 * Checks that neither the file nor a part of it exists, and that its directory does. What a killed
 * process has left there is removed first.
 *
 * @throws {UserError} "target"
 */
export function checkOutput(path: string): void {
  const place = resolve(path);
  const dir = dirname(place);
  if (lstatIfThere(dir) === undefined) {
    throw new UserError("target", `Cannot write ${place}: there is no directory ${dir}`, {
      where: dir,
      hint: "Make it, or name another file with --output",
    });
  }
  clearScratch(join(dir, SCRATCH_PREFIX), (work) => undoCommit(work, dir));
  const [part] = partNumbers(place);
  const there = writing(place, () => lstatIfThere(place)) !== undefined
    ? place
    : part === undefined
    ? undefined
    : numberedPath(place, part);
  if (there === undefined) return;
  throw new UserError("target", `Cannot write ${place}: ${there} exists`, {
    where: there,
    hint: "Move it away, or name another file with --output",
  });
}

/**
 * Removes the parts to which a killed process had given their names, where others are still in its
 * work directory. The names are given in order, so the first one is no longer there then.
 */
function undoCommit(work: string, dir: string): void {
  const [next] = readdirSync(work).sort();
  const [, stem, digits] = /^(.*)\.(\d{3})$/s.exec(next ?? "") ?? [];
  if (stem === undefined) return;
  const named = Array.from(
    { length: Number(digits) - 1 },
    (_, index) => join(dir, numberedPath(stem, index + 1)),
  );
  const sizes = new Set(named.map((path) => {
    const stat = lstatIfThere(path);
    return stat?.isFile() ? stat.size : -1;
  }));
  // All parts but the last have the same size. Anything else was put there by someone else.
  const [size = -1] = sizes;
  if (sizes.size !== 1 || size < lstatIfThere(join(work, next!))!.size) return;
  for (const path of named) rmSync(path);
}

/** A file that was written. */
export interface WrittenPart {
  readonly path: string;
  readonly sizeBytes: number;
  /** Only where it was asked for. */
  readonly sha256?: string;
}

/** How an output is written. */
export interface OutputOptions extends StreamOptions {
  /** Reads each part back for its SHA-256, which no byte is hashed for otherwise. */
  readonly wantsSha256?: boolean;
  /** What names its directory, for a hint; "--output" if absent. */
  readonly option?: string;
}

/** Three digits at most: `cat NAME.*` then has the right order. */
const MOST_PARTS = 999;

/**
 * Writes segments to a file, or to parts of it, under temporary names, syncs them and renames them.
 * If it throws, nothing is left.
 *
 * @param partBytes Size of each part; if it is absent, there is one file without a number.
 * @returns The file or the parts.
 * @throws {UserError} "usage" where there would be too many parts, and as `writeImage()`
 */
export async function writeOutputParts(
  path: string,
  segments: readonly Segment[],
  partBytes: number | undefined,
  options: OutputOptions,
): Promise<WrittenPart[]> {
  checkOutput(path);
  const place = resolve(path);
  const dir = dirname(place);
  const parts = Math.ceil(totalSize(segments) / (partBytes ?? Infinity));
  if (parts > MOST_PARTS) {
    throw new UserError("usage", `Cannot split ${place}: it would have ${parts} parts`, {
      hint: `At most ${MOST_PARTS} are possible: choose a larger size`,
    });
  }
  const holes = segments.filter(({ kind }) => kind === "zeros");
  checkSpace(dir, totalSize(segments) - totalSize(holes), options.option ?? "--output");
  // Only the owner can enter it.
  const work = writing(dir, () => makeScratch(join(dir, SCRATCH_PREFIX)));
  try {
    const nameOf = (number: number) => {
      const name = basename(place);
      return partBytes === undefined ? name : numberedPath(name, number);
    };
    const pathOf = (number: number) => join(work, nameOf(number));
    const sizeBytes = totalSize(segments);
    const places = { pathOf, partBytes: partBytes ?? Infinity, sizeBytes };
    await writeSegments(segments, places, { ...options, hashesAll: false });
    const parts = await describeParts(places, options);
    // Checked again, as a rename would replace a file that appeared meanwhile.
    checkOutput(path);
    return writing(dir, () => {
      const named = parts.map((part, index) => ({ ...part, path: join(dir, nameOf(index + 1)) }));
      parts.forEach((part, index) => renameSync(part.path, named[index]!.path));
      syncDirectory(dir);
      return named;
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** An image that was written, and has not its name yet. */
export interface UnnamedImage {
  readonly written: WrittenImage;
  /** Where it is for now. */
  readonly path: string;
  /**
   * Gives the image its name.
   *
   * @throws {UserError} "target" where that is taken by now
   */
  name(): void;
  /** Removes the image, unless it has its name. */
  discard(): void;
}

/**
 * Writes an image beside the place of a new file, and syncs it. If it throws, nothing is left.
 *
 * @throws {UserError} as `writeImage()`
 */
export async function writeUnnamed(
  path: string,
  segments: readonly Segment[],
  options: WriteOptions,
): Promise<UnnamedImage> {
  checkOutput(path);
  const place = resolve(path);
  const dir = dirname(place);
  const holes = segments.filter(({ kind }) => kind === "zeros");
  checkSpace(dir, totalSize(segments) - totalSize(holes), "--output");
  const work = writing(dir, () => makeScratch(join(dir, SCRATCH_PREFIX)));
  const discard = () => rmSync(work, { recursive: true, force: true });
  try {
    const file = join(work, "image");
    const written = await writeImage(file, segments, options);
    const name = () => {
      checkOutput(path);
      writing(dir, () => {
        renameSync(file, place);
        syncDirectory(dir);
      });
      discard();
    };
    return { written, path: file, name, discard };
  } catch (error) {
    discard();
    throw error;
  }
}

/** Returns the parts of an output under their temporary names, with their digests on request. */
async function describeParts(
  places: OutputPlaces,
  { wantsSha256 = false, signal }: OutputOptions,
): Promise<WrittenPart[]> {
  const parts = outputFiles(places);
  if (!wantsSha256) return parts;
  const tasks = parts.map((part) => ({ segment: fileSegment(part), kind: "target" } as const));
  const digests = await Array.fromAsync(digestEach(tasks, { signal }));
  return parts.map((part, index) => ({ ...part, sha256: digests[index]! }));
}
