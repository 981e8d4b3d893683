// SPDX-License-Identifier: MIT
/**
 * Which record is that of an image.
 *
 * @module
 */

import { basename, dirname } from "node:path";
import { UserError } from "../errors.ts";
import type { ViewKind } from "../image/types.ts";
import { readRecord, readRecordIfThere } from "./read.ts";
import { RECORD_NAME, type RecordedImage, type TargetRecord } from "./types.ts";

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

/** What an image of a role is looked at as. */
export function kindOf(role: RecordedImage["role"]): ViewKind {
  return role === "external" ? "disk" : role;
}
