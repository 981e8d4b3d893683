// SPDX-License-Identifier: MIT
/**
 * Shows a run that another process has started, from its beginning until it is over.
 *
 * @module
 */

import { resolve } from "node:path";
import type { Outcome } from "../console/outcome.ts";
import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { lastRun } from "../record/run.ts";
import { readRecord } from "../record/read.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { targetHolder } from "../write/target.ts";
import { resumeCommand } from "./checkpoint.ts";
import { outcomeError } from "./run_judge.ts";
import { followConsole, recordedEnd, type WatchEvents } from "./watch.ts";

/** Told what happens in the run. */
export interface AttachEvents extends Omit<WatchEvents, "onStart" | "onOutcome"> {
  /** Told once, before what it has printed, unless it is over. */
  readonly onStart?: (run: AttachedRun) => void;
  /** Told once, when it is over, also where it failed. */
  readonly onOutcome?: (outcome: Outcome, run: AttachedRun) => void;
}

/** The run that is shown. */
export interface AttachedRun {
  /** The target, absolute. */
  readonly dir: string;
  readonly logPath: string;
}

/**
 * Shows the last run of a target until it is over. One that is over is only judged.
 *
 * @throws {UserError} as the run itself: of the kind of its failure, "launch" where its end is not
 * known, as when its process was killed, "interrupt" where it was interrupted, "budget" where it was
 * saved to go on later; "target" where there
 * is none; "interrupt" when the signal is raised: the run goes on.
 */
export async function attachRun(
  target: string,
  events: AttachEvents,
  signal: AbortSignal,
): Promise<void> {
  const dir = resolve(target);
  readRecord(dir);
  const run = lastRun(dir);
  if (run === undefined) {
    throw new UserError("target", `Cannot attach to ${dir}: it has no run`, {
      where: dir,
      hint: `Start one with: ${shellQuote(["seedstrap", "run", dir, "--detach"])}`,
    });
  }
  const { logPath } = run;
  // A target may be a stranger's: its log is no link, and no device that opening would change.
  if (lstatIfThere(logPath)?.isFile() !== true) {
    throw new UserError("target", `Cannot attach to ${dir}: its log is not there`, {
      where: logPath,
    });
  }
  const attached = { dir, logPath };
  const outcome = endOf(dir, logPath) ??
    await followConsole(
      { source: logPath, dir, recorded: () => endOf(dir, logPath) },
      { ...events, onStart: () => events.onStart?.(attached) },
      signal,
    );
  if (outcome === undefined) {
    throw new UserError("interrupt", `Left the run of ${dir}, which goes on`, {
      hint: `End it with: ${shellQuote(["seedstrap", "stop", dir])}`,
    });
  }
  events.onOutcome?.(outcome, attached);
  if (outcome.verdict === "done") return;
  const goesOn = resumeCommand(dir);
  const hint = goesOn === undefined ? undefined : `Go on with: ${goesOn}`;
  if (outcome.verdict === "interrupted" || outcome.verdict === "paused") {
    const kind = outcome.verdict === "paused" ? "budget" : "interrupt";
    throw new UserError(kind, outcome.why, {
      where: logPath,
      ...(hint !== undefined && { hint }),
    });
  }
  const cause = hint === undefined ? undefined : new UserError("launch", outcome.why, { hint });
  throw outcomeError(outcome, logPath, cause);
}

/** How a run has ended, or that its process is gone; undefined while it goes on. */
function endOf(dir: string, logPath: string): Outcome | undefined {
  // Asked before the record is read: the process records the end before it goes.
  const isGone = targetHolder(dir) === undefined;
  const recorded = recordedEnd(logPath);
  if (recorded !== undefined || !isGone) return recorded;
  const why = "seedstrap was killed before it could record how the run ended";
  return { verdict: "unknown", why, lines: [] };
}
