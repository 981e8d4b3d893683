// SPDX-License-Identifier: MIT
/**
 * Makes the report of a target: what went into it, from where, and what became of its runs.
 *
 * @module
 */

import { basename, join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { IMAGES_DIR } from "../format/bundle.ts";
import { isBundle, openBundle, readBundled } from "../image/bundle.ts";
import { readEvents } from "../record/events.ts";
import { MAX_RECORD_BYTES, parseRecord, readRecord, readRecordFile } from "../record/read.ts";
import { eventsOf, logOf, MAX_RUNS, recordedRuns, runOfLog } from "../record/run.ts";
import { RECORD_NAME, type TargetRecord } from "../record/types.ts";
import { REPORT_BEGIN, type ReportInput, reportPage } from "../report/page.ts";
import { statIfThere } from "../runtime/stat.ts";
import { findParts } from "../source/parts.ts";
import { writeOutputFile } from "../write/output.ts";

/** A report that was written. */
export interface WrittenReport {
  /** The file, absolute. */
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Writes the report of a target. The same target gives the same file.
 *
 * @param target Directory that was built, or a bundle with its images, or its record alone.
 * @param output The file; a report that is there is replaced, any other file is not.
 * @throws {UserError} "target" where nothing was built there, or the file cannot be written;
 * "format" and "verify" for a bundle.
 */
export function writeReport(target: string, output: string): WrittenReport {
  const text = reportPage(readTarget(resolve(target)));
  const path = resolve(output);
  writeOutputFile(path, text, { begin: REPORT_BEGIN, what: "a report" });
  return { path, sizeBytes: new TextEncoder().encode(text).length };
}

function readTarget(place: string): ReportInput {
  const name = basename(place) || "/";
  const parts = statIfThere(place)?.isDirectory() ? undefined : findParts(place);
  if (parts !== undefined) {
    const isOfBundle = isBundle(parts[0]!.path);
    const record = isOfBundle ? recordInBundle(place) : readRecordFile(place);
    return { name: isOfBundle ? name.replace(/\.001$/, "") : name, record, runs: [] };
  }
  const runs = recordedRuns(place).slice(-MAX_RUNS).flatMap((number) => {
    const run = runOfLog(logOf(place, number));
    return run === undefined ? [] : [{ number, run, history: readEvents(eventsOf(place, number)) }];
  });
  return { name, record: readRecord(place), runs };
}

/** The record of the images that a bundle has. */
function recordInBundle(place: string): TargetRecord {
  const bundle = openBundle(place);
  const path = `${IMAGES_DIR}/${RECORD_NAME}`;
  const placed = bundle.members.get(path);
  const where = join(place, path);
  if (placed === undefined) {
    throw new UserError("target", `Cannot report on ${place}: it is a bundle without images`, {
      where: place,
      hint: `Name a target, or a bundle with ${path}: bundle create --images TARGET`,
    });
  }
  if (placed.size > MAX_RECORD_BYTES) {
    throw new UserError("target", `Cannot report on ${place}: its record is too long`, { where });
  }
  return parseRecord(new TextDecoder().decode(readBundled(bundle, placed)), where);
}
