// SPDX-License-Identifier: MIT
/**
 * Starts a built target, from its beginning or from a checkpoint: the story of a run.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { withTarget } from "../console/causes.ts";
import type { Outcome } from "../console/outcome.ts";
import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { continuesPass, startsInDirectory } from "../plan/options.ts";
import { planCommand } from "../plan/plan.ts";
import { CONTAINER_IMAGE } from "../plan/types.ts";
import type { Checkpoint } from "../record/checkpoints.ts";
import { expectedOf } from "../record/expected.ts";
import { readRecord } from "../record/read.ts";
import { registerRun } from "../record/running.ts";
import { beginRun, lastRun, type RunFiles, toldRun } from "../record/run.ts";
import { checkImages, checkKernel } from "./check.ts";
import { chooseCheckpoint, refuseCheckpoints, resumeCommand } from "./checkpoint.ts";
import { findPass, ownContainerHead } from "./container_pass.ts";
import { asNamed } from "./named.ts";
import {
  checkDetached,
  checkExtraArgs,
  checkMode,
  checkStall,
  checkTerminal,
  useTarget,
} from "./run_checks.ts";
import { followGuest } from "./run_follow.ts";
import { budgetError, factsOf, interruptedError, outcomeError, ownFailure } from "./run_judge.ts";
import type { Run, RunEvents, RunRequest } from "./run_request.ts";

/**
 * Starts built media, waits for the guest to end, and judges by what it printed how it ended.
 *
 * @throws {UserError} "target" where nothing was built there, it is not as it was built, or another
 * process uses it; "usage" for bare metal, and for a record that names what the user did not; a kind
 * of console/failure.ts where the bootstrap did not come to its end, "launch" where nothing proves that
 * it did; "budget" where it was saved to go on later; "interrupt" when the signal is raised.
 */
export async function runTarget(
  request: RunRequest,
  events: RunEvents,
  signal: AbortSignal,
): Promise<void> {
  const dir = resolve(request.target);
  const { extraArgs = [], stallMs } = request;
  const built = readRecord(dir);
  const record = request.named === undefined ? built : asNamed(built, request.named, dir);
  const { options, images } = record;
  const command = planCommand({ options, images: images.map(({ name }) => name) }, dir);
  if (command === undefined) {
    throw new UserError("usage", "Cannot start a bare-metal target here", {
      hint: "Write its images to drives, or build it with --qemu",
    });
  }
  checkExtraArgs(options, extraArgs);
  checkTerminal(options);
  checkStall(options, stallMs);
  checkMode(options, request);
  checkDetached(options, request);
  if (options.kernel !== undefined) checkKernel(options.kernel, options.arch);
  const target = useTarget(dir);
  let entry: ReturnType<typeof registerRun> | undefined;
  try {
    checkImages(dir, record.images);
    if (options.mode === "container") ownContainerHead(join(dir, CONTAINER_IMAGE), options);
    const continuesContainer = options.mode === "container" && continuesPass(options);
    const pass = continuesContainer ? await findPass(dir, options, signal) : undefined;
    const from = await foundStart({ dir, record, extraArgs }, request, events, signal);
    const expected = { ...expectedOf(dir, record), ...factsOf(record) };
    if (startsInDirectory(options.mode) && !continuesPass(options)) warnOfEarlier(dir, events);
    const files = beginRun(dir);
    entry = registered(dir, files, request, events);
    const run = { record, command: [...command, ...extraArgs], dir, files, expected, from, pass };
    const { outcome: seen, error } = await followGuest(run, request, { events, signal }).catch(
      (error) => {
        files.finish(ownFailure(error));
        throw error;
      },
    );
    const { cause } = seen;
    const named = cause && withTarget(cause, shellQuote([request.target]));
    const outcome = { ...seen, ...(named && { cause: named }) };
    finish(files, outcome, events);
    events.onOutcome?.(outcome, files.logPath);
    if (outcome.verdict === "paused") throw budgetError(outcome.why, run);
    if (outcome.verdict === "interrupted") {
      throw error ?? await interruptedError(outcome.why, run);
    }
    if (outcome.verdict !== "done") {
      const goesOn = resumeCommand(dir);
      if (goesOn !== undefined) events.onWarning?.(`the last checkpoint is there: ${goesOn}`);
      throw outcomeError(outcome, files.logPath, error);
    }
  } finally {
    entry?.release();
    target.release();
  }
}

/** Registers a run for `ps` and `stop`; where that cannot be, it goes on without. */
function registered(
  dir: string,
  { number }: RunFiles,
  { isDetached = false }: RunRequest,
  { onWarning }: RunEvents,
): ReturnType<typeof registerRun> | undefined {
  try {
    return registerRun(dir, number, isDetached);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    // Ctrl-C ends the others.
    if (isDetached) onWarning?.(`seedstrap ps and stop will not find the run: ${error.message}`);
    return undefined;
  }
}

/** What a run goes on from; undefined for its beginning. */
async function foundStart(
  run: Pick<Run, "dir" | "record"> & { readonly extraArgs: readonly string[] },
  { resume, accel }: RunRequest,
  { onWarning, onResume }: RunEvents,
  signal: AbortSignal,
): Promise<Checkpoint | undefined> {
  if (resume === undefined) {
    refuseCheckpoints(run.dir);
    return undefined;
  }
  if (resume.number === undefined && lastRun(run.dir)?.verdict === "done") {
    throw new UserError("target", `Cannot go on with ${run.dir}: its last run is done`, {
      where: run.dir,
      hint:
        "Take what it has built with seedstrap harvest. --from NUMBER gives that up, and goes " +
        "back to a checkpoint",
    });
  }
  const onNotice = (text: string) => onWarning?.(text);
  const from = await chooseCheckpoint({ ...run, onNotice }, resume, accel, signal);
  onResume?.(from);
  return from;
}

/** Records how a run has ended; where it has failed, that counts more than its record. */
function finish(files: RunFiles, outcome: Outcome, { onWarning }: RunEvents): void {
  try {
    files.finish(outcome);
  } catch (error) {
    if (!(error instanceof UserError) || outcome.verdict === "done") throw error;
    onWarning?.(`how it ended is not recorded: ${error.message}`);
  }
}

/** Warns where a bootstrap has run in a directory: it begins again, and not in what was built. */
function warnOfEarlier(dir: string, { onWarning }: RunEvents): void {
  const run = lastRun(dir);
  if (run === undefined) return;
  const what = `a bootstrap has run in ${dir} before, and this one begins again in what is left`;
  onWarning?.(`${what}; ${toldRun(run)}`);
}
