// SPDX-License-Identifier: MIT
/**
 * The file of a bundle, or its parts, as one byte source.
 *
 * @module
 */

import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import type { FileRun } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { Holes } from "./extents.ts";
import { statIfThere } from "../runtime/stat.ts";

/** A part of a bundle, with its offset in the bundle. */
export interface BundlePart {
  readonly path: string;
  readonly sizeBytes: number;
  /** Offset of its first byte in the bundle. */
  readonly startBytes: number;
}

/** Returns the path of part `number`, from 1 on, of a bundle. */
export function numberedPath(path: string, number: number): string {
  return `${path}.${String(number).padStart(3, "0")}`;
}

/**
 * Finds the files that make up a bundle.
 *
 * All parts but the last have the size of the largest. One that is shorter leaves a gap that cannot
 * be read, so that the offsets of the other parts stay right.
 *
 * @param path The bundle, or its first part, or the name of the parts without their number.
 * @returns The parts in order, or undefined where there is no such file.
 * @throws {UserError} "format" where a part before the last one is missing.
 */
export function findParts(path: string): BundlePart[] | undefined {
  const place = resolve(path);
  const stat = statIfThere(place);
  if (stat?.isFile() && !place.endsWith(".001")) {
    return [{ path: place, sizeBytes: stat.size, startBytes: 0 }];
  }
  const stem = place.replace(/\.001$/, "");
  if (stat?.isDirectory() || statIfThere(numberedPath(stem, 1))?.isFile() !== true) {
    return undefined;
  }
  const sizes = new Map(
    partNumbers(stem).map((number) => [number, statIfThere(numberedPath(stem, number))?.size ?? 0]),
  );
  const count = Math.max(...sizes.keys());
  const partBytes = Math.max(...[...sizes].map(([, size]) => size));
  return Array.from({ length: count }, (_, index) => {
    const part = numberedPath(stem, index + 1);
    const sizeBytes = sizes.get(index + 1);
    if (sizeBytes !== undefined) return { path: part, sizeBytes, startBytes: index * partBytes };
    throw new UserError("format", `Cannot use this bundle: its part ${part} is missing`, {
      where: part,
      hint: "Copy all parts into one directory",
    });
  });
}

/** Returns the numbers of the parts that exist, in order. */
export function partNumbers(stem: string): number[] {
  const dir = dirname(stem);
  const start = `${basename(stem)}.`;
  const names = reading(dir, () => readdirSync(dir));
  return names.filter((name) =>
    name.startsWith(start) && /^\d{3,6}$/.test(name.slice(start.length))
  )
    .map((name) => Number(name.slice(start.length)))
    .filter((number) => number > 0 && statIfThere(numberedPath(stem, number))?.isFile())
    .sort((a, b) => a - b);
}

/** Returns the runs of the parts in which a run of the bundle is. */
export function runsIn(
  parts: readonly BundlePart[],
  offsetBytes: number,
  sizeBytes: number,
): FileRun[] {
  return parts.flatMap((part) => {
    const { path, startBytes } = part;
    const from = Math.max(offsetBytes, startBytes);
    const to = Math.min(offsetBytes + sizeBytes, startBytes + part.sizeBytes);
    return from < to ? [{ path, offsetBytes: from - startBytes, sizeBytes: to - from }] : [];
  });
}

/** A source over the open files of a bundle; the caller closes it. */
export interface BundleSource extends ByteSource {
  readonly parts: readonly BundlePart[];
  close(): void;
}

/**
 * Opens the files of a bundle.
 *
 * @throws {UserError} "target" where one cannot be opened, or is not a regular file.
 */
export function openParts(parts: readonly BundlePart[]): BundleSource {
  const files: number[] = [];
  const close = () => {
    for (const file of files.splice(0)) closeSync(file);
  };
  try {
    for (const { path } of parts) {
      // O_NONBLOCK: opening a fifo must not wait for a writer.
      files.push(
        reading(path, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)),
      );
      if (reading(path, () => fstatSync(files.at(-1)!)).isFile()) continue;
      throw new UserError("target", `Cannot read ${path}: it is not a regular file`, {
        where: path,
      });
    }
  } catch (error) {
    close();
    throw error;
  }
  const last = parts.at(-1)!;
  const holes = parts.map(({ sizeBytes }, index) => new Holes(files[index]!, sizeBytes));
  return {
    name: parts[0]!.path,
    sizeBytes: last.startBytes + last.sizeBytes,
    parts,
    runs: (offset, size) => runsIn(parts, offset, size),
    read(offset, into) {
      let done = 0;
      for (const [index, part] of parts.entries()) {
        const { path, startBytes: start, sizeBytes: size } = part;
        while (done < into.length && offset + done >= start && offset + done < start + size) {
          const at = offset + done - start;
          const most = Math.min(into.length - done, size - at);
          const read = reading(
            path,
            () =>
              holes[index]!.fill(at, into.subarray(done, done + most))
                ? most
                : readSync(files[index]!, into, done, most, at),
          );
          if (read === 0) return done;
          done += read;
        }
      }
      return done;
    },
    close,
  };
}
