// SPDX-License-Identifier: MIT
/**
 * A new file, or several that it is cut into, which appear only when all of them are whole.
 *
 * @module
 */

import { renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { partNumbers, partPath } from "../source/parts.ts";
import { UserError } from "../errors.ts";
import { type Segment, totalSize } from "../format/segment.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { PartsSink, type WrittenPart } from "./parts_sink.ts";
import { writing } from "../refused.ts";
import { makeScratch } from "./scratch.ts";
import { checkSpace, syncDirectory } from "./target.ts";
import { type StreamOptions, streamSegments } from "./writer.ts";

/**
 * Checks that there is neither a file of that name nor a part of one.
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
  const [part] = partNumbers(place);
  const there = lstatIfThere(place) !== undefined
    ? place
    : part === undefined
    ? undefined
    : partPath(place, part);
  if (there === undefined) return;
  throw new UserError("target", `Cannot write ${place}: ${there} exists`, {
    where: there,
    hint: "Move it away, or name another file with --output",
  });
}

/** With three digits each, `cat NAME.*` takes them in their order. */
const MOST_PARTS = 999;

/**
 * Writes segments to a file, or to parts of it, makes them durable, and renames them.
 *
 * @param partBytes Bytes of each part; one file of that very name where it is not set.
 * @returns What there is now; nothing where something is thrown.
 * @throws {UserError} "usage" where there would be too many parts, and as `writeImage()`
 */
export async function writeOutputParts(
  path: string,
  segments: readonly Segment[],
  partBytes: number | undefined,
  options: StreamOptions,
): Promise<WrittenPart[]> {
  checkOutput(path);
  const place = resolve(path);
  const dir = dirname(place);
  const parts = Math.ceil(totalSize(segments) / (partBytes ?? Infinity));
  if (parts > MOST_PARTS) {
    throw new UserError("usage", `Cannot cut ${place}: it would be ${parts} parts`, {
      hint: `Up to ${MOST_PARTS} can be: choose larger ones`,
    });
  }
  const holes = segments.filter(({ kind }) => kind === "zeros");
  checkSpace(dir, totalSize(segments) - totalSize(holes));
  // Nobody else can look into it.
  const work = writing(dir, () => makeScratch(join(dir, `.${basename(place)}.part-`)));
  try {
    const nameOf = (number: number) => {
      const name = basename(place);
      return partBytes === undefined ? name : partPath(name, number);
    };
    const pathOf = (number: number) => join(work, nameOf(number));
    const written = await writeParts(segments, pathOf, partBytes ?? Infinity, options);
    // That was long ago, and a rename replaces what has come meanwhile.
    checkOutput(path);
    return writing(dir, () => {
      const parts = written.map((part, index) => ({ ...part, path: join(dir, nameOf(index + 1)) }));
      written.forEach((part, index) => renameSync(part.path, parts[index]!.path));
      syncDirectory(dir);
      return parts;
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function writeParts(
  segments: readonly Segment[],
  pathOf: (number: number) => string,
  partBytes: number,
  options: StreamOptions,
): Promise<WrittenPart[]> {
  const sink = await PartsSink.open(pathOf, partBytes);
  try {
    await streamSegments(segments, sink, options);
    return await sink.finish();
  } finally {
    await sink.close();
  }
}
