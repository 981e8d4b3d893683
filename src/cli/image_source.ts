// SPDX-License-Identifier: MIT
/** Opens images for commands, and declares the options `--as` and `--record`. */

import { Option } from "@commander-js/extra-typings";
import { basename, dirname, join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import type { FileSource } from "../source/file.ts";
import { openLayers } from "../source/layers.ts";
import { openSource } from "../source/open.ts";
import { type ImageView, VIEW_KINDS, type ViewKind } from "../image/types.ts";
import { openView, watchedView } from "../image/view.ts";
import { layersOf } from "../record/checkpoints.ts";
import { readRecordIfThere } from "../record/read.ts";
import { RECORD_NAME } from "../record/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import { counted, note, warn } from "./output.ts";
import { type Display, display, withProgress } from "./progress.ts";

/** Declares `--as`, for every command that opens an image. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function asOption() {
  return new Option("--as <kind>", "read the image as this kind, and do not detect it").choices(
    VIEW_KINDS,
  );
}

/** Declares `--record`, for commands that read the record of an image. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function recordOption() {
  return new Option(
    "--record <file>",
    `the ${RECORD_NAME} of the build (default: beside the image)`,
  );
}

/**
 * Opens an image for a command, and prints the warnings of its reader.
 *
 * @param use Begins a stage of the progress, of which the content that is read is shown.
 */
export async function withView(
  path: string,
  kind: ViewKind | undefined,
  use: (view: ImageView, source: FileSource, progress: Display) => void | Promise<void>,
): Promise<void> {
  await viewing(path, openNamed(path), kind, use);
}

/**
 * Opens a disk as {@link withView} does, with what a guest has written into layers over it: its
 * checkpoints leave the image as it was built.
 */
export async function withGuestView(
  path: string,
  kind: ViewKind | undefined,
  use: (view: ImageView, source: FileSource, progress: Display) => void | Promise<void>,
): Promise<void> {
  const place = resolve(path);
  const layers = layersOf(dirname(place), basename(place));
  if (layers.length === 0) return await withView(path, kind, use);
  note(
    `${path}: reading what the guest has written over it, in ${counted(layers.length, "layer")}`,
  );
  await viewing(path, { ...openLayers(place, layers), name: path }, kind, use);
}

async function viewing(
  path: string,
  source: FileSource,
  kind: ViewKind | undefined,
  use: (view: ImageView, source: FileSource, progress: Display) => void | Promise<void>,
): Promise<void> {
  try {
    const opened = kind === undefined ? openView(source) : openView(source, kind);
    const view = watchedView(opened, display);
    for (const warning of view.warnings) {
      warn(`${path}: ${warning}`);
    }
    await withProgress((progress) => use(view, source, progress));
  } finally {
    source.close();
  }
}

/** Opens an image; where the path is a target, the error names the images in it. */
function openNamed(path: string): FileSource {
  try {
    return openSource(path);
  } catch (error) {
    if (!(error instanceof UserError) || !statIfThere(path)?.isDirectory()) throw error;
    const images = readRecordIfThere(path)?.images ?? [];
    if (images.length === 0) throw error;
    const { kind, message } = error;
    throw new UserError(kind, `${message}, but a target`, {
      where: path,
      hint: `Name an image in it: ${images.map(({ name }) => join(path, name)).join(" or ")}`,
    });
  }
}
