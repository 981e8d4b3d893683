// SPDX-License-Identifier: MIT
/**
 * How a run has ended, and what is said of it.
 *
 * @module
 */

import { statfsSync } from "node:fs";
import { join } from "node:path";
import { FAILURES, type RunFailure } from "../console/failure.ts";
import type { End, Facts, Outcome } from "../console/outcome.ts";
import { type ErrorKind, messageOf, systemCode, UserError } from "../errors.ts";
import { usesRunningKernel } from "../plan/options.ts";
import { MAX_LOG_BYTES, parseReport } from "../preflight/report.ts";
import { readWholeText } from "../read.ts";
import type { TargetRecord } from "../record/types.ts";
import { areUnchanged } from "./check.ts";
import { resumeCommand, UnsavedError } from "./checkpoint.ts";
import type { Run } from "./run_request.ts";

/** What a record says of the reasons for which its run may fail. */
export function factsOf(
  { options, limits }: TargetRecord,
): Facts {
  return {
    ...(options.mode === "qemu" && { memoryMib: options.qemuRamMib }),
    isDirectory: usesRunningKernel(options.mode),
    brokenLimits: limits.flatMap(({ broken, title }) => broken ? [title] : []),
  };
}

/** The outcome of a run in which something failed that is a fault of this program. */
export function ownFailure(error: unknown): Outcome {
  return { verdict: "unknown", why: `seedstrap itself failed: ${messageOf(error)}`, lines: [] };
}

/** The failure that an error of a kind tells of, where the console says nothing. */
const FAILURE_OF: Partial<Record<ErrorKind, RunFailure>> = {
  step: "step",
  crash: "ended-early",
  stall: "stall",
  "host-disk-full": "host-disk-full",
  died: "died",
  kvm: "kvm",
};

/** How a guest has ended that has ended with an error. */
export function endOf(error: UserError, dir: string): End {
  const { kind, message: why } = error;
  if (kind === "interrupt" || error instanceof UnsavedError) return { kind: "interrupted", why };
  if (kind === "budget") return { kind: "paused", why };
  const failure = FAILURE_OF[kind] ?? "not-started";
  const isFull = (failure === "stall" || failure === "died") && hasNoSpace(dir);
  return isFull
    ? { kind: "failed", failure: "host-disk-full", why: `no space is left in ${dir}: ${why}` }
    : { kind: "failed", failure, why };
}

/** Less than this is none: a log goes on for a while with it, an image does not. */
const NO_SPACE_BYTES = 64 * 1024;

/** Reports whether the file system of a directory is full. */
function hasNoSpace(dir: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize < NO_SPACE_BYTES;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}

/** What the preflight program says is its whole run. */
export function preflightOutcome(logPath: string): Outcome {
  const options = { limitBytes: MAX_LOG_BYTES, followsLink: false };
  const { verdict } = parseReport(readWholeText(logPath, options));
  return {
    verdict: verdict === undefined ? "unknown" : verdict.ok ? "done" : "failed",
    why: verdict === undefined
      ? "the preflight program gave no verdict"
      : verdict.ok
      ? "the preflight program has a good verdict"
      : `the preflight program has a bad verdict: ${verdict.reasons.join(", ")}`,
    lines: [],
  };
}

/** The error for a run that did not come to its end, or of which that is not known. */
export function outcomeError(outcome: Outcome, logPath: string, cause?: UserError): UserError {
  const { verdict, failure, why, lastStep, lines, cause: likely } = outcome;
  const at = lastStep === undefined ? "" : ` in ${lastStep}`;
  const what = verdict === "unknown"
    ? `Cannot tell whether the bootstrap has succeeded${at}`
    : `The bootstrap failed${at}`;
  const explained = likely === undefined
    ? []
    : [`Likely cause: ${likely.text}`, "Try:", ...likely.tries.map((text) => `  - ${text}`)];
  const told = [`${what}: ${why}`, ...lines.map((line) => `  | ${line}`), ...explained];
  const hint = likely === undefined && (cause?.hint ?? "The log has everything that it printed");
  return new UserError(failure === undefined ? "launch" : FAILURES[failure], told.join("\n"), {
    where: logPath,
    ...(hint !== false && { hint }),
    cause,
  });
}

/** The error for a run that was ended from outside, which says what became of the media. */
export async function interruptedError(
  why: string,
  { record, dir, files }: Run,
): Promise<UserError> {
  return new UserError("interrupt", why, {
    where: files.logPath,
    hint: await whatIsLeft(dir, record),
  });
}

/** The error for a run whose budget is spent. */
export function budgetError(why: string, { dir, files }: Run): UserError {
  const goesOn = resumeCommand(dir);
  return new UserError("budget", why, {
    where: files.logPath,
    ...(goesOn !== undefined && { hint: `Go on with: ${goesOn}` }),
  });
}

/** What became of the media of a run that was ended from outside, and what to do about it. */
async function whatIsLeft(dir: string, { images }: TargetRecord): Promise<string> {
  const goesOn = resumeCommand(dir);
  if (goesOn !== undefined) return `Go on with: ${goesOn}`;
  const [disk] = images;
  const what = disk === undefined ? dir : join(dir, disk.name);
  if (disk !== undefined && await areUnchanged(dir, images)) {
    return `${what} is as it was built: run it again`;
  }
  const left = `${what} is as the guest left it, and does not go on from there`;
  return disk === undefined
    ? `${left}: remove it, or name another --target, and build again`
    : `${left}: build the target again`;
}
