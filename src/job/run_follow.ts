// SPDX-License-Identifier: MIT
/**
 * Follows the guest of a run: its console, its silence, its checkpoints, its record.
 *
 * @module
 */

import { RunFollower } from "../console/follow.ts";
import type { Outcome } from "../console/outcome.ts";
import { UserError } from "../errors.ts";
import { confirmingKeys, lendingKeys } from "../launch/interrupt.ts";
import type { RunningChild } from "../launch/process.ts";
import type { Accel } from "../launch/qemu.ts";
import { watchSilence } from "../launch/silence.ts";
import { guardingTerminal } from "../launch/terminal.ts";
import type { ExpectedRun } from "../record/expected.ts";
import { Checkpointer, earlierOutput } from "./checkpoint.ts";
import { type KeptRun, settlePass } from "./container_pass.ts";
import { needsTerminal } from "./run_checks.ts";
import { runInContainer, runInDirectory, runInQemu, serving } from "./run_guest.ts";
import { endOf, ownFailure, preflightOutcome } from "./run_judge.ts";
import { RunRecorder } from "./run_recorder.ts";
import type { GuestEvents, Run, RunEvents, RunRequest } from "./run_request.ts";

/** Runs the guest, and follows its console. */
export async function followGuest(
  run: Run,
  request: RunRequest,
  { events, signal }: { events: RunEvents; signal: AbortSignal },
): Promise<{ readonly outcome: Outcome; readonly error?: UserError }> {
  const { confirmAfterMs = CONFIRM_AFTER_MS, stallMs } = request;
  const { record, expected, files, from } = run;
  const { options } = record;
  const silence = watchSilence(stallMs);
  const ends = AbortSignal.any([signal, silence.signal]);
  const recorder = new RunRecorder(
    { dir: run.dir, options, files, plan: expected.plan },
    (text) => events.onWarning?.(text),
  );
  let isReplayed = false;
  const follower = new RunFollower(expected.plan, {
    onEvent: (event, state) => {
      if (isReplayed) return;
      recorder.event(event);
      events.onEvent?.(event, state);
      checkpointer?.event(event);
    },
    onState: events.onState,
  });
  const checkpointer = checkpointerOf(run, request, () => follower.lastStep, events);
  let isPackaged = false;
  let kept: KeptRun | undefined;
  const judged: ExpectedRun = {
    ...expected,
    isPackaged: () => isPackaged || expected.isPackaged?.() === true,
  };
  const followed: GuestEvents = {
    ...events,
    onPackaged: () => isPackaged = true,
    onKept: (container) => kept = container,
    onReset: () => follower.sawReset(),
    onStart: (start) => {
      follower.restart(recorder.begin(start.by));
      checkpointer?.begin(start.by as Accel);
      isReplayed = true;
      // Where the run is, it has said before it was saved.
      if (from !== undefined) {
        for (const chunk of earlierOutput(run.dir, from)) follower.push(chunk);
      }
      isReplayed = false;
      events.onStart?.(start);
    },
    onSerial: (chunk) => {
      silence.heard();
      events.onSerial?.(chunk);
      follower.push(chunk);
    },
    onRestart: () => {
      follower.restart(recorder.restart("tcg"));
      checkpointer?.begin("tcg");
    },
    onLogged: (sizeBytes) => {
      recorder.logged(sizeBytes);
      checkpointer?.logged(sizeBytes);
    },
  };
  const began = performance.now();
  const ask = () => {
    const ageMs = performance.now() - began;
    if (ageMs < confirmAfterMs) return false;
    const at = follower.lastStep === undefined ? "" : `, and is in ${follower.lastStep}`;
    events.onWarning?.(
      `the run is ${formatAge(ageMs)} old${at}; press Ctrl-C again within 5 s to end it`,
    );
    return true;
  };
  const start = (takeKeys: () => void) => {
    const onProcess = (guest: RunningChild) => {
      if (options.mode === "qemu") silence.follow(guest.pid);
      takeKeys();
      events.onProcess?.(guest);
    };
    const told = { ...followed, onProcess };
    if (options.mode === "container") return runInContainer(run, told, ends);
    if (options.mode !== "qemu") return runInDirectory(run, told, ends);
    const accel = from?.accel ?? request.accel;
    if (checkpointer === undefined) return runInQemu(run, { accel }, told, ends);
    const { qemu } = checkpointer;
    return checkpointer.guard(ends, (signal) => runInQemu(run, { accel, ...qemu }, told, signal));
  };
  const ended = async (): Promise<{ readonly outcome: Outcome; readonly error?: UserError }> => {
    try {
      await serving(record, events, () =>
        guardingTerminal(
          needsTerminal(options),
          (takeKeys) =>
            needsTerminal(options)
              ? lendingKeys(() => start(takeKeys))
              : confirmingKeys(ask, () => start(takeKeys)),
          events.onKeys,
        ));
    } catch (thrown) {
      const error = signal.aborted ? thrown : silence.error ?? thrown;
      if (!(error instanceof UserError)) throw error;
      const outcome = follower.judge(judged, endOf(error, run.dir));
      const isAsked = error.kind === "interrupt" || error.kind === "budget";
      return isAsked ? { outcome } : { outcome, error };
    }
    if (options.bootProgram === "preflight") return { outcome: preflightOutcome(files.logPath) };
    const outcome = follower.judge(judged, { kind: "ended" });
    if (kept !== undefined) {
      const onNotice = (text: string) => events.onWarning?.(text);
      await settlePass(run.dir, kept, outcome.verdict === "done", onNotice);
    }
    return { outcome };
  };
  try {
    const result = await ended();
    recorder.end(result.outcome);
    return result;
  } catch (error) {
    recorder.end(ownFailure(error));
    throw error;
  } finally {
    follower.stop();
    silence.stop();
    await checkpointer?.end();
  }
}

/** What saves the guest of a run; undefined where it is not saved. */
function checkpointerOf(
  { dir, record, files, from }: Run,
  { checkpoints: times, extraArgs = [] }: RunRequest,
  lastStep: () => string | undefined,
  { onCheckpoint, onWarning }: RunEvents,
): Checkpointer | undefined {
  if (times === undefined) return undefined;
  return new Checkpointer({
    ...{ dir, record, extraArgs, times, from, logPath: files.logPath },
    at: () => lastStep() ?? "its beginning",
    onSaved: (saved) => onCheckpoint?.(saved),
    onNotice: (text) => onWarning?.(text),
  });
}

/** A run of less is interrupted by the first key: little is lost. */
const CONFIRM_AFTER_MS = 10 * 60 * 1000;

function formatAge(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
