// SPDX-License-Identifier: MIT
/**
 * Explains an old run: how it ended, where, the lines that matter, the likely cause.
 *
 * @module
 */

import { readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { withTarget } from "../console/causes.ts";
import { type Facts, type Outcome, RunWatch } from "../console/outcome.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { openRegular } from "../read.ts";
import { readRecordIfThere } from "../record/read.ts";
import { logOf, type RecordedRun, recordedRun, recordedRuns } from "../record/run.ts";
import { reading } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import { factsOf } from "./run_judge.ts";

/** What is known of a run. */
export interface Explanation extends Omit<Outcome, "verdict"> {
  /** "running" where the run goes on, or seedstrap was killed before it could say how it ended. */
  readonly verdict: RecordedRun["verdict"];
  readonly logPath: string;
  /** Number of the run, where it is one of a target. */
  readonly number?: number;
  /** Times in ISO 8601, UTC, where they are recorded. */
  readonly began?: string;
  readonly ended?: string;
}

/** So much of a log is read at a time, and so often others get their turn. */
const CHUNK_BYTES = 1024 * 1024;

/**
 * Explains a run of a target, or a log by its text alone. A log is read as a stream, whatever its
 * size.
 *
 * @param path A target, or a file.
 * @param wanted Number of the run; the last one of the target if undefined.
 * @throws {UserError} "target" where there is no such run, or it cannot be read; "usage" for the
 * number of a run of a file; "interrupt".
 */
export async function explainRun(
  path: string,
  wanted: number | undefined,
  signal: AbortSignal,
): Promise<Explanation> {
  if (statIfThere(path)?.isDirectory() === true) {
    return await explainTarget(path, runNumber(path, wanted), signal);
  }
  if (wanted !== undefined) {
    throw new UserError("usage", `Cannot use --run with ${path}: it is no target`, {
      hint: "Leave it out: a log is of one run",
    });
  }
  const watch = await followLog(path, signal);
  return { ...watch.judgeLog(), logPath: path };
}

/** The number of the run that is meant. */
function runNumber(dir: string, wanted: number | undefined): number {
  const numbers = reading(dir, () => recordedRuns(dir));
  const number = wanted ?? numbers.at(-1);
  if (number !== undefined && numbers.includes(number)) return number;
  const what = wanted === undefined ? "it has no run" : `it has no run ${wanted}`;
  const others = numbers.length === 0
    ? "A target that has been started has some: name one, or a log"
    : `It has ${numbers.join(", ")}`;
  throw new UserError("target", `Cannot explain ${dir}: ${what}`, { where: dir, hint: others });
}

async function explainTarget(
  dir: string,
  number: number,
  signal: AbortSignal,
): Promise<Explanation> {
  const logPath = logOf(dir, number);
  const recorded = recordedRun(dir, number);
  const facts = factsOfTarget(dir);
  const watch = recorded === undefined
    ? await followLog(logPath, signal, false)
    : await orNone(() => followLog(logPath, signal, false));
  if (recorded === undefined) return { ...watch!.judgeLog(facts), logPath, number };
  const { format: _, ...run } = recorded;
  if (run.verdict === "running") {
    // What the log says of a failure is so, whether it goes on or not.
    const { lastStep, lines = [] } = watch?.judgeLog(facts) ?? {};
    return { ...run, ...(lastStep !== undefined && { lastStep }), lines, logPath, number };
  }
  if (run.verdict !== "failed") return { ...run, logPath, number };
  const failure = run.failure ?? watch?.judgeLog(facts).failure;
  const failed = { ...run, ...(failure !== undefined && { failure }) };
  // The table may have learned since.
  const cause = watch?.causeOf(failed, facts) ?? run.cause;
  const named = cause && withTarget(cause, shellQuote([dir]));
  return { ...failed, ...(named !== undefined && { cause: named }), logPath, number };
}

/** What the record of a target says; nothing where it has none that can be read. */
function factsOfTarget(dir: string): Facts {
  try {
    const record = readRecordIfThere(dir);
    return record === undefined ? {} : factsOf(record);
  } catch (error) {
    if (error instanceof UserError) return {};
    throw error;
  }
}

async function orNone<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof UserError && error.kind === "target") return undefined;
    throw error;
  }
}

/**
 * Reads a log from its beginning to the end that it has now.
 *
 * @param followsLink Not in a target, which may be a stranger's: its logs are files.
 */
async function followLog(
  path: string,
  signal: AbortSignal,
  followsLink = true,
): Promise<RunWatch> {
  const watch = new RunWatch({ isLog: true });
  const { file, stat, close } = openRegular(path, { followsLink });
  try {
    const buffer = new Uint8Array(CHUNK_BYTES);
    // One that grows is not followed for ever.
    for (let done = 0; done < stat.size;) {
      const length = Math.min(buffer.length, stat.size - done);
      const read = reading(path, () => readSync(file, buffer, 0, length, done));
      if (read === 0) break;
      watch.push(buffer.subarray(0, read));
      done += read;
      await setImmediate();
      throwIfInterrupted(signal);
    }
    return watch;
  } finally {
    close();
  }
}
