// SPDX-License-Identifier: MIT
/**
 * The runs of a target: what each printed, and how it ended.
 *
 *   TARGET/.seedstrap/runs/N.log    what the guest printed, and what QEMU said, as it came
 *   TARGET/.seedstrap/runs/N.json   the outcome; its verdict is "running" until the run is over, and
 *                                   stays that where seedstrap was killed
 *   TARGET/.seedstrap/runs/N.part   space for the outcome, until that is recorded
 *   TARGET/.seedstrap/runs/N.out    what seedstrap said of a run without a terminal; its name is
 *                                   PID-START.out, of who starts it, until the guest starts
 *   TARGET/.seedstrap/runs/N.events, N.times
 *                                   when what happened, see {@link ./events.ts}
 *
 * N counts from 1. The last {@link MAX_RUNS} are kept.
 *
 * @module
 */

import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import * as v from "valibot";
import type { Cause } from "../console/causes.ts";
import { FAILURE_NAMES, type RunFailure } from "../console/failure.ts";
import type { Outcome } from "../console/outcome.ts";
import { systemCode, UserError } from "../errors.ts";
import { anyText, list, objectOf, oneOf, parseJson, textThat } from "../json.ts";
import { readWholeText } from "../read.ts";
import { writing } from "../refused.ts";
import { isRunning, ownName } from "../runtime/lock.ts";
import { makeOwnDirectory, WORK_DIR } from "../runtime/own.ts";
import { lstatIfThere } from "../runtime/stat.ts";

/** So many runs are kept, the newest. */
export const MAX_RUNS = 10;

/** The longest outcome that is read: some twenty lines of a console. */
const MAX_OUTCOME_BYTES = 1024 * 1024;

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

const FORMAT = "seedstrap-run/1";
/** The last number of a run: names have no more digits. */
const MAX_NUMBER = 999_999_999;
/** The name of a log. */
const LOG = /([1-9]\d{0,8})\.log$/;
const RUNS_DIR = join(WORK_DIR, "runs");

/** A run as it is recorded. */
export interface RecordedRun {
  readonly format: typeof FORMAT;
  readonly verdict: Outcome["verdict"] | "running";
  /** Absent where it did not fail, as in the runs that were recorded before there was one. */
  readonly failure?: RunFailure;
  readonly why: string;
  readonly lastStep?: string;
  readonly lines: readonly string[];
  readonly cause?: Cause;
  /** Times in ISO 8601, UTC. */
  readonly began: string;
  readonly ended?: string;
}

const time = textThat((value) => !Number.isNaN(Date.parse(value)), "a time");

const runSchema = objectOf<RecordedRun>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  verdict: oneOf(["done", "failed", "interrupted", "paused", "unknown", "running"]),
  failure: v.optional(oneOf(FAILURE_NAMES)),
  why: anyText,
  lastStep: v.optional(anyText),
  lines: list(anyText),
  cause: v.optional(objectOf<Cause>({ name: anyText, text: anyText, tries: list(anyText) })),
  began: time,
  ended: v.optional(time),
});

/** Absolute path of the directory with the logs of a target, which may not exist. */
export function runsDir(dir: string): string {
  return join(dir, RUNS_DIR);
}

/** A run that goes on. */
export interface RunFiles {
  /** Number of the run. */
  readonly number: number;
  /** The log, which is there and empty. */
  readonly logPath: string;
  /** Files for the events and times of the run, which are not there. */
  readonly eventsPath: string;
  readonly timesPath: string;
  /** Records how it ended. */
  finish(outcome: Outcome): void;
}

/**
 * Begins to record a run, and removes the oldest where there are too many. The caller has the lock
 * of the target.
 *
 * @param dir The target, absolute.
 * @throws {UserError} "target" where it cannot be written to.
 */
export function beginRun(dir: string): RunFiles {
  const runs = join(dir, RUNS_DIR);
  return writing(runs, () => {
    makeRunsDir(dir, runs);
    clearUnfinished(runs);
    const numbers = runNumbers(runs, ["log", "json"]);
    clearRuns(runs, new Set(numbers.slice(-MAX_RUNS + 1)));
    const number = makeLog(runs, (numbers.at(-1) ?? 0) + 1);
    const [logPath, eventsPath, timesPath] = [".log", ".events", ".times"].map((end) =>
      join(runs, `${number}${end}`)
    ) as [string, string, string];
    remove(eventsPath);
    remove(timesPath);
    const began = new Date().toISOString();
    const running = { format: FORMAT, verdict: "running", why: "it is not over", lines: [], began };
    put(runs, number, running);
    reserve(runs, number);
    const finish = (outcome: Outcome) => {
      const ended = new Date().toISOString();
      writing(runs, () => put(runs, number, { format: FORMAT, ...outcome, began, ended }));
    };
    return { number, logPath, eventsPath, timesPath, finish };
  });
}

/**
 * The last run of a target.
 *
 * @returns undefined where there was none, or as {@link recordedRun}.
 */
export function lastRun(dir: string): (RecordedRun & { readonly logPath: string }) | undefined {
  const number = runNumbers(join(dir, RUNS_DIR), ["json"]).at(-1);
  return number === undefined ? undefined : recordedRun(dir, number);
}

/** Numbers of the runs of a target that have an outcome or a log, in order. */
export function recordedRuns(dir: string): number[] {
  return runNumbers(join(dir, RUNS_DIR), ["json", "log"]);
}

/** The log of a run of a target, which may not be there. */
export function logOf(dir: string, number: number): string {
  return join(dir, RUNS_DIR, `${number}.log`);
}

/**
 * A run of a target.
 *
 * @returns undefined where there is none of that number, or what is recorded of it cannot be
 * understood: it is only told.
 */
export function recordedRun(
  dir: string,
  number: number,
): (RecordedRun & { readonly logPath: string }) | undefined {
  const logPath = logOf(dir, number);
  const run = runOfLog(logPath);
  return run && { ...run, logPath };
}

/** The record of the events of a run of a target, which may not be there. */
export function eventsOf(dir: string, number: number): string {
  return join(dir, RUNS_DIR, `${number}.events`);
}

/** The target whose run a log is of, absolute; undefined for a file elsewhere. */
export function targetOfLog(logPath: string): string | undefined {
  const path = resolve(logPath);
  const dir = dirname(dirname(dirname(path)));
  return path === join(dir, RUNS_DIR, basename(path)) && LOG.test(basename(path)) ? dir : undefined;
}

/** What is recorded of the run whose log that is; likewise. */
export function runOfLog(logPath: string): RecordedRun | undefined {
  if (targetOfLog(logPath) === undefined) return undefined;
  try {
    const options = { limitBytes: MAX_OUTCOME_BYTES, followsLink: false };
    const parsed = parseJson(runSchema, readWholeText(logPath.replace(LOG, "$1.json"), options));
    return typeof parsed === "string" ? undefined : parsed;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** What is told of the last run of a target. */
export function toldRun(
  { began, verdict, logPath }: Pick<RecordedRun, "began" | "verdict"> & {
    readonly logPath: string;
  },
): string {
  return `the last run began at ${began} and is ${verdict}; its log is ${logPath}`;
}

/** The records of the events of a target's runs, in their order. */
export function eventsPaths(dir: string): string[] {
  return runNumbers(join(dir, RUNS_DIR), ["events"]).map((number) => eventsOf(dir, number));
}

/** Removes what a killed process has left: it had begun a run, or to record one. */
function clearUnfinished(runs: string): void {
  const recorded = new Set(runNumbers(runs, ["json"]));
  for (const name of readdirSync(runs)) {
    const [, number, end] = /^([1-9]\d{0,8})\.(log|part)$/.exec(name) ?? [];
    const path = join(runs, name);
    const isLeft = end === "part" || isOutputOfDead(name) ||
      (end === "log" && !recorded.has(Number(number)) && lstatIfThere(path)?.size === 0);
    if (isLeft) remove(path);
  }
}

const OUTPUT = ".out";

/** Reports whether that is what a process says that died before it had started a guest. */
function isOutputOfDead(name: string): boolean {
  return name.endsWith(OUTPUT) && isRunning(name.slice(0, -OUTPUT.length)) === false;
}

/**
 * Makes a file for what a run says that is to be started without a terminal.
 *
 * @param dir The target, absolute.
 * @returns Its path, and a descriptor to write to it.
 * @throws {UserError} "target" where it cannot be made.
 */
export function makeOutput(dir: string): { readonly path: string; readonly file: number } {
  const runs = join(dir, RUNS_DIR);
  return writing(runs, () => {
    makeRunsDir(dir, runs);
    const path = join(runs, `${ownName()}${OUTPUT}`);
    remove(path);
    return { path, file: openSync(path, O_APPEND + O_CREAT + O_EXCL + O_WRONLY, 0o666) };
  });
}

/** Gives the file of {@link makeOutput} to a run, which is of its log, and returns its path. */
export function nameOutput(path: string, logPath: string): string {
  const named = logPath.replace(/\.log$/, OUTPUT);
  writing(named, () => {
    // Nothing of ours has that name yet: a stranger's directory would be in the way.
    remove(named);
    renameSync(path, named);
  });
  return named;
}

function makeRunsDir(dir: string, runs: string): void {
  makeOwnDirectory(join(dir, WORK_DIR), { isPrivate: true });
  makeOwnDirectory(runs, { isPrivate: true });
}

/** Removes the files of runs that are not kept. */
function clearRuns(runs: string, kept: ReadonlySet<number>): void {
  for (const name of readdirSync(runs)) {
    const [, number] = /^([1-9]\d{0,8})\.(?:log|json|out|events|times)$/.exec(name) ?? [];
    if (number !== undefined && !kept.has(Number(number))) remove(join(runs, name));
  }
}

/**
 * Makes an empty log for what a guest had printed before, on another machine; it is of no run here.
 * The caller has the lock of the target.
 *
 * @throws {UserError} "target" where it cannot be written to.
 */
export function beginLog(dir: string): { readonly path: string; readonly name: string } {
  const runs = join(dir, RUNS_DIR);
  return writing(runs, () => {
    makeOwnDirectory(join(dir, WORK_DIR), { isPrivate: true });
    makeOwnDirectory(runs, { isPrivate: true });
    const name = `${makeLog(runs, (runNumbers(runs, ["log", "json"]).at(-1) ?? 0) + 1)}.log`;
    return { path: join(runs, name), name };
  });
}

/**
 * Makes an empty log, and returns its number: the first one of which there is no log yet.
 *
 * @throws {UserError} "target" where the numbers that are read again are used up.
 */
function makeLog(runs: string, first: number): number {
  for (let number = first; number <= MAX_NUMBER; number++) {
    try {
      closeSync(openSync(join(runs, `${number}.log`), "wx", 0o666));
      return number;
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw error;
    }
  }
  throw new UserError("target", `Cannot record a run in ${runs}: it has a run ${MAX_NUMBER}`, {
    where: runs,
    hint: "seedstrap did not number it: is the target a stranger's? Remove that run",
  });
}

/** Removes what seedstrap has made, or who made the target. */
function remove(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/** Numbers of the runs that have one of these files, in order. */
function runNumbers(runs: string, ends: readonly ("log" | "json" | "events")[]): number[] {
  const isReal = (path: string) => lstatIfThere(path)?.isDirectory() === true;
  if (!isReal(dirname(runs)) || !isReal(runs)) return [];
  const numbers = readdirSync(runs).flatMap((name) => {
    const [, number, end] = /^([1-9]\d{0,8})\.(.*)$/.exec(name) ?? [];
    return ends.some((wanted) => wanted === end) ? [Number(number)] : [];
  });
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** Most that an outcome takes whose lines are of usual lengths. */
const RESERVED_BYTES = 16 * 1024;

/** Keeps space for the outcome: that the disk is full should not keep it from being recorded. */
function reserve(runs: string, number: number): void {
  writeFileSync(join(runs, `${number}.part`), " ".repeat(RESERVED_BYTES), { flag: "wx" });
}

function put(runs: string, number: number, run: object): void {
  const part = join(runs, `${number}.part`);
  // Over what is reserved, without giving it back before.
  const file = openSync(part, O_WRONLY + O_CREAT + O_NOFOLLOW, 0o666);
  try {
    const text = new TextEncoder().encode(`${JSON.stringify(run, null, 1)}\n`);
    writeSync(file, text);
    ftruncateSync(file, text.length);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(part, join(runs, `${number}.json`));
}
