// SPDX-License-Identifier: MIT
/**
 * The record of a target: the plan that made it, with sizes and digests of inputs and outputs.
 *
 * It has no time, no host name, and no absolute paths except those of mirror directories that the
 * guest needs and of a kernel: the same inputs give the same record. Its file, seedstrap.json, is
 * an in-toto statement: see `record/statement.ts`.
 *
 * @module
 */

import {
  type DistfileOrigin,
  type Materials,
  RECORD_NAME,
  type RecordedDistfile,
  TARGET_FORMAT,
  type TargetRecord,
  type Written,
} from "./types.ts";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import type { Plan } from "../plan/types.ts";
import { recordOfStatement } from "./statement.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";

/** Longest seedstrap.json that is read: that of live-bootstrap has less than one MiB. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;

/** Makes the record of a build. */
export function makeRecord(
  version: string,
  plan: Plan,
  { images, files, mke2fs }: Written,
  { checkout, origins, kernelSha256, preseedSha256, builderSha256 }: Materials,
): TargetRecord {
  return {
    format: TARGET_FORMAT,
    seedstrap: version,
    options: plan.options,
    config: plan.config,
    payload: { present: plan.hasPayload, reason: plan.payloadReason, ...plan.restore },
    overlay: plan.overlay,
    warnings: plan.warnings,
    limits: plan.limits,
    distfiles: recordDistfiles(plan, origins),
    images,
    files,
    servedMirrors: plan.servedMirrors,
    checkout,
    ...(kernelSha256 !== undefined && { kernelSha256 }),
    ...(preseedSha256 !== undefined && { preseedSha256 }),
    ...(builderSha256 !== undefined && { builderSha256 }),
    ...(mke2fs !== undefined && { mke2fs }),
  };
}

/** Returns the distfiles of a plan with their origins. */
export function recordDistfiles(
  { distfiles }: Plan,
  origins: ReadonlyMap<string, DistfileOrigin>,
): RecordedDistfile[] {
  return distfiles.map((distfile) => {
    const origin = origins.get(distfile.name);
    return { ...distfile, ...(origin !== undefined && { origin }) };
  });
}

/**
 * Reads the record of a target.
 *
 * @throws {UserError} "target" if there is none, or this version does not understand it.
 */
export function readRecord(dir: string): TargetRecord {
  const path = join(dir, RECORD_NAME);
  if (statIfThere(path) !== undefined) return readRecordFile(path);
  const isFile = statIfThere(dir)?.isDirectory() === false;
  throw new UserError(
    "target",
    isFile
      ? `Cannot use ${dir} as a target: it is not a directory`
      : `Cannot find a built target in ${dir}`,
    {
      where: isFile ? dir : path,
      hint: isFile
        ? "Name the directory that was built, which has the images and their record"
        : "Build it first: seedstrap build --target DIR",
    },
  );
}

/** Returns the path of a record that may be given as the target that it is in. */
export function recordPlace(path: string): string {
  return statIfThere(path)?.isDirectory() ? join(path, RECORD_NAME) : path;
}

/** Reads a record from a file of any name, such as a copy; throws as {@link readRecord}. */
export function readRecordFile(path: string): TargetRecord {
  if (statIfThere(path) === undefined) {
    throw new UserError("target", `Cannot find the record ${path}`, {
      where: path,
      hint: `It is the ${RECORD_NAME} that a build leaves in its target`,
    });
  }
  return parseRecord(readWholeText(path, { limitBytes: MAX_RECORD_BYTES }), path);
}

/**
 * Reads the record in a directory, if there is one.
 *
 * @throws {UserError} "target" for one that cannot be understood: a damaged record must not make a
 * check pass.
 */
export function readRecordIfThere(dir: string): TargetRecord | undefined {
  return lstatIfThere(join(dir, RECORD_NAME)) === undefined ? undefined : readRecord(dir);
}

/**
 * Parses the text of a seedstrap.json.
 *
 * @param path The file, for messages.
 * @throws {UserError} "target" if this version does not understand it.
 */
export function parseRecord(text: string, path: string): TargetRecord {
  const read = recordOfStatement(text);
  if (typeof read === "string") throw notUnderstood(path, read);
  return read;
}

function notUnderstood(path: string, why: string): UserError {
  return new UserError("target", `Cannot understand ${path}: ${why}`, {
    where: path,
    hint:
      `It should be the ${RECORD_NAME} of a target: name that, or build the target again with ` +
      "this version of seedstrap",
  });
}
