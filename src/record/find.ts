// SPDX-License-Identifier: MIT
/**
 * Finds the record of an image.
 *
 * @module
 */

import { basename, dirname } from "node:path";
import { UserError } from "../errors.ts";
import type { ViewKind } from "../image/types.ts";
import { readRecordFile, readRecordIfThere, recordPlace } from "./read.ts";
import type { RecordedImage, TargetRecord } from "./types.ts";

/** A record, and the image in it. */
export interface FoundRecord {
  readonly record: TargetRecord;
  readonly image: RecordedImage | undefined;
}

/**
 * Finds the record of an image: the one beside it, or the one that is named. A named record is
 * searched for the name of the image, then for its kind, as for a copy or a device.
 *
 * @param named A record, or the directory that holds it.
 * @throws {UserError} "target" for one that cannot be read, or a named one without such an image.
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
  const record = readRecordFile(recordPlace(named));
  const image = record.images.find(({ name }) => name === basename(path)) ??
    record.images.find(({ role }) => kindOf(role) === kind);
  if (image !== undefined) return { record, image };
  throw new UserError("target", `Cannot find ${path} in ${named}: it has no ${kind} image`, {
    where: named,
    hint: "Name the record of the build that made it",
  });
}

/** Returns the kind of view that an image of a role has. */
export function kindOf(role: RecordedImage["role"]): ViewKind {
  return role === "external" ? "disk" : role;
}
