// SPDX-License-Identifier: MIT
/**
 * The runs of this machine: listed, and ended from outside.
 *
 * @module
 */

import { resolve } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { systemCode, throwIfInterrupted, UserError } from "../errors.ts";
import { HURRY_SIGNAL } from "../launch/interrupt.ts";
import { eventsOf, logOf, type RecordedRun, recordedRun } from "../record/run.ts";
import { readEvents } from "../record/events.ts";
import { registeredRuns, removeEntry, type RunEntry, targetIdOf } from "../record/running.ts";
import { reading } from "../refused.ts";
import { isRunning } from "../runtime/lock.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { targetHolder } from "../write/target.ts";
import { resumeCommand } from "./checkpoint.ts";

/** A run for a list. */
export interface ListedRun extends Pick<RunEntry, "target" | "pid" | "run" | "began"> {
  /** "killed" where its process was, and could not record how the run ended. It is told once. */
  readonly state: "running" | "killed";
  readonly isDetached: boolean;
  /** The step that it is in; undefined before the first one. */
  readonly step: string | undefined;
  /** When its console has said something last; undefined where its log is gone. */
  readonly lastOutput: Date | undefined;
  readonly logPath: string;
}

/**
 * The runs of this user on this machine, the oldest first. Entries of those whose process is dead are
 * removed; a run that was killed is told before.
 */
export function listRuns(): ListedRun[] {
  return registeredRuns().flatMap((entry) => {
    const { target, pid, run, began, isAlive, isDetached } = entry;
    const logPath = logOf(target, run);
    if (!isAlive) {
      removeEntry(entry);
      if (recordedRun(target, run)?.verdict !== "running") return [];
    }
    return [{
      ...{ target, pid, run, began, isDetached, logPath },
      state: isAlive ? "running" as const : "killed" as const,
      step: stepOf(eventsOf(target, run)),
      lastOutput: lstatIfThere(logPath)?.mtime,
    }];
  });
}

function stepOf(eventsPath: string): string | undefined {
  const events = readEvents(eventsPath)?.events ?? [];
  const last = events.findLast(({ kind }) => kind === "step" || kind === "restart");
  return last?.kind === "step" ? `${last.name} pass ${last.pass}` : undefined;
}

/** How to end a run. */
export interface StopRequest {
  readonly target: string;
  /** Whether no checkpoint is saved before. */
  readonly isNow: boolean;
}

/** A run that has ended. */
export interface StoppedRun {
  /** The target, absolute. */
  readonly dir: string;
  readonly run: number;
  readonly pid: number;
  /** How it ended; undefined where that is not recorded. */
  readonly recorded: RecordedRun | undefined;
  /** What to type to go on with it; undefined where it has no checkpoint. */
  readonly goesOn: string | undefined;
}

const POLL_MS = 50;

/**
 * Ends a run of this user in good order, and waits until its process is gone.
 *
 * @param onWait Told which process that is.
 * @throws {UserError} "target" where the target has no run that is known to be one; "interrupt",
 * where only the waiting has ended.
 */
export async function stopRun(
  { target, isNow }: StopRequest,
  onWait: (pid: number) => void,
  signal: AbortSignal,
): Promise<StoppedRun> {
  const dir = resolve(target);
  const entry = entryOf(dir);
  const { pid, run } = entry;
  // Its start time is asked for again: a pid may have another process by now.
  if (isRunning(entry.process) === true) send(pid, isNow ? HURRY_SIGNAL : "SIGTERM");
  onWait(pid);
  while (isRunning(entry.process) === true) {
    throwIfInterrupted(signal);
    await setTimeout(POLL_MS);
  }
  return { dir, run, pid, recorded: recordedRun(dir, run), goesOn: resumeCommand(dir) };
}

/** The entry of the run of a target that goes on. */
function entryOf(dir: string): RunEntry {
  const id = reading(dir, () => targetIdOf(dir));
  const entry = registeredRuns().find(({ isAlive, targetId }) => isAlive && targetId === id);
  const fail = (why: string, hint: string) =>
    new UserError("target", `Cannot stop a run of ${dir}: ${why}`, { where: dir, hint });
  if (entry === undefined) {
    const holder = targetHolder(dir);
    throw holder === undefined ? fail("none goes on", "seedstrap ps lists those that do") : fail(
      `process ${Number.parseInt(holder)} uses it, and is no run that you have started`,
      "Only who has started a run can stop it: a target may name any process",
    );
  }
  // Without a start time nothing proves that the process is still the same.
  if (!entry.process.endsWith("-")) return entry;
  throw fail(`nothing proves that process ${entry.pid} is it`, `End it with: kill ${entry.pid}`);
}

function send(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (systemCode(error) !== "ESRCH") throw error;
  }
}
