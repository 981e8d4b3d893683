// SPDX-License-Identifier: MIT
/** Opening images for commands, and the records that belong to them. */

import { Option } from "@commander-js/extra-typings";
import { basename, dirname } from "node:path";
import { findParts, openParts } from "../source/parts.ts";
import { UserError } from "../errors.ts";
import { type FileSource, openImage } from "../source/file.ts";
import { type ImageView, VIEW_KINDS, type ViewKind } from "../image/types.ts";
import { openView } from "../image/view.ts";
import { readRecord, readRecordIfThere } from "../record/read.ts";
import { RECORD_NAME, type RecordedImage, type TargetRecord } from "../record/types.ts";
import { kindOf } from "../job/verify.ts";
import { note, paint, printable } from "./output.ts";

/** `--as`, for every command that opens an image. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function asOption() {
  return new Option("--as <kind>", "what to take the image for").choices(VIEW_KINDS);
}

/** `--record`, for commands that compare with what was built. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function recordOption() {
  return new Option("--record <file>", `the ${RECORD_NAME} of the build (default: beside it)`);
}

/** A record, and what it says of an image. */
export interface FoundRecord {
  readonly record: TargetRecord;
  readonly image: RecordedImage | undefined;
}

/**
 * The record beside an image, or the one that is named: a copy or a device is found in it by what
 * it is.
 *
 * @param named A record, or the directory that holds it.
 * @throws {UserError} "target" for one that cannot be read, or a named one that knows no such image.
 */
export function recordFor(
  path: string,
  kind: ViewKind,
  named: string | undefined,
): FoundRecord | undefined {
  if (named === undefined) {
    const record = readRecordIfThere(dirname(path));
    const image = record?.images.find(({ name }) => name === basename(path));
    return image === undefined || record === undefined ? undefined : { record, image };
  }
  const record = readRecord(basename(named) === RECORD_NAME ? dirname(named) : named);
  const image = record.images.find(({ name }) => name === basename(path)) ??
    record.images.find(({ role }) => kindOf(role) === kind);
  if (image !== undefined) return { record, image };
  throw new UserError("target", `Cannot find ${path} in ${named}: it has no ${kind} image`, {
    where: named,
    hint: "Name the record of the build that made it",
  });
}

/** A file, or the parts of a bundle that was cut. */
function openSource(path: string): FileSource {
  const parts = findParts(path);
  return parts === undefined || parts.length === 1
    ? openImage(path)
    : { ...openParts(parts), isDevice: false };
}

/** Opens an image for a command, and says what its reader has to know. */
export async function withView(
  path: string,
  kind: ViewKind | undefined,
  use: (view: ImageView, source: FileSource) => void | Promise<void>,
): Promise<void> {
  const source = openSource(path);
  try {
    const view = kind === undefined ? openView(source) : openView(source, kind);
    for (const warning of view.warnings) {
      note(`${paint("yellow", "warning:")} ${printable(path)}: ${warning}`);
    }
    await use(view, source);
  } finally {
    source.close();
  }
}
