// SPDX-License-Identifier: MIT
/**
 * The writing part of the main job: images, or a directory to start in.
 *
 * @module
 */

import { segmentSize } from "../format/segment.ts";
import { type Image, type LocatedFile, planImages, planRoot } from "../plan/images.ts";
import type { Plan } from "../plan/types.ts";
import { writeDirectory } from "../write/directory.ts";
import { checkSpace, type Target } from "../write/target.ts";
import { writeImage, type WrittenImage } from "../write/writer.ts";
import type { RecordedFile } from "./record.ts";

/** What a plan's files are written with. */
export interface WriteJob {
  readonly plan: Plan;
  /** Every distfile that the plan needs. */
  readonly located: ReadonlyMap<string, LocatedFile>;
  readonly target: Target;
  /** Told the bytes that are done, and all of them. */
  readonly onWrite: ((done: number, total: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** What was written, ready to be committed. */
export interface Written {
  /** Names in the target. */
  readonly names: readonly string[];
  readonly images: readonly { readonly image: Image; readonly written: WrittenImage }[];
  /** Files of a directory. */
  readonly files: readonly RecordedFile[];
}

/**
 * Writes the images of a plan, each under its temporary name.
 *
 * @throws {UserError} see `writeImage()`
 */
export async function writeImages(
  { plan, located, target, onWrite, signal }: WriteJob,
): Promise<Written> {
  const images = planImages(plan, located);
  const total = images.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
  checkSpace(target.dir, total);
  const onBytes = counter(total, onWrite);
  const written = [];
  for (const image of images) {
    target.removePart(image.name);
    const { segments, sizeBytes } = image;
    const result = await writeImage(target.partPath(image.name), segments, {
      sizeBytes,
      onBytes,
      ...(signal && { signal }),
    });
    written.push({ image, written: result });
  }
  onWrite?.(total, total);
  return { names: images.map(({ name }) => name), images: written, files: [] };
}

/**
 * Writes the directory of a plan under a temporary name.
 *
 * @throws {UserError} see `writeDirectory()`
 */
export async function writeRoot(
  { plan, located, target, onWrite, signal }: WriteJob,
): Promise<Written> {
  const root = "root";
  const entries = planRoot(plan, located);
  const total = entries.reduce((sum, { body }) => sum + (body ? segmentSize(body) : 0), 0);
  checkSpace(target.dir, total);
  target.removePart(root);
  const digests = await writeDirectory(target.partPath(root), entries, {
    onBytes: counter(total, onWrite),
    ...(signal && { signal }),
  });
  onWrite?.(total, total);
  const files = entries.flatMap(({ path, origin, body }): RecordedFile[] =>
    body === undefined
      ? []
      : [{ path, origin, size: segmentSize(body), sha256: digests.get(path)! }]
  );
  return { names: target.adopt(root), images: [], files };
}

function counter(total: number, onWrite: WriteJob["onWrite"]): (bytes: number) => void {
  let done = 0;
  return (bytes) => onWrite?.(done += bytes, total);
}
