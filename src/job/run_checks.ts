// SPDX-License-Identifier: MIT
/**
 * What is checked before a run: that its options go together, and that somebody can answer.
 *
 * @module
 */

import process from "node:process";
import { UserError } from "../errors.ts";
import { findEngine } from "../launch/engine.ts";
import { requireProgram } from "../launch/process.ts";
import { rootCommand } from "../launch/root.ts";
import { asksUser, type BuildOptions, startsInDirectory } from "../plan/options.ts";
import { planCommand } from "../plan/plan.ts";
import type { Lock } from "../runtime/lock.ts";
import { takeTarget } from "../write/target.ts";
import type { RunRequest } from "./run_request.ts";

/**
 * Refuses checkpoints where there is no machine to save.
 *
 * @throws {UserError} "usage"
 */
export function checkMode(
  { mode }: BuildOptions,
  { checkpoints, resume }: Pick<RunRequest, "checkpoints" | "resume">,
): void {
  if (mode === "qemu" || (checkpoints === undefined && resume === undefined)) return;
  const what = resume === undefined ? "use --checkpoint" : "resume a run";
  throw new UserError(
    "usage",
    `Cannot ${what} with --${mode}: only a machine of QEMU can be saved`,
    {
      hint:
        "The processes of a directory or a container have no state that could be taken up again; its files can " +
        "be copied while nothing runs, and pass by pass with --internal-ci",
    },
  );
}

/**
 * Refuses to start without a terminal what needs one.
 *
 * @throws {UserError} "usage"
 */
export function checkDetached(
  options: BuildOptions,
  { isDetached = false }: Pick<RunRequest, "isDetached">,
): void {
  if (!isDetached || !needsTerminal(options)) return;
  throw new UserError("usage", "Cannot use --detach with a guest that has the terminal", {
    hint: "Start it at a terminal, or build it without --interactive and its configurator",
  });
}

/**
 * Refuses to watch for silence where the console is the user's.
 *
 * @throws {UserError} "usage"
 */
export function checkStall(options: BuildOptions, stallMs: number | undefined): void {
  if (stallMs === undefined || !needsTerminal(options)) return;
  throw new UserError("usage", "Cannot use --stall with a guest that has the terminal", {
    hint: "What it prints is not seen: leave the option out",
  });
}

/**
 * Refuses arguments for QEMU where none is started.
 *
 * @throws {UserError} "usage"
 */
export function checkExtraArgs({ mode }: BuildOptions, extraArgs: readonly string[]): void {
  if (extraArgs.length === 0 || mode === "qemu") return;
  throw new UserError("usage", `Cannot use arguments after "--" with --${mode}`, {
    hint: "They are for QEMU, which is not started: leave them out, or use --qemu",
  });
}

/**
 * Checks that somebody can answer the configurator: without input it asks for ever.
 *
 * @throws {UserError} "usage"
 */
export function checkTerminal(options: BuildOptions): void {
  if (!asksUser(options) || options.mode === "bare-metal" || process.stdin.isTTY) return;
  const option = options.configurator ? "--configurator" : "--no-create-config";
  throw new UserError(
    "usage",
    `Cannot start a bootstrap with ${option} without a terminal: its configurator asks for ever`,
    { hint: `Start it at a terminal, or build it without ${option}` },
  );
}

/**
 * Checks that the programs to start a target are installed.
 *
 * @throws {UserError} "launch"
 */
export async function checkPrograms(options: BuildOptions): Promise<void> {
  const argv = planCommand({ options, images: [] }, "/");
  if (argv === undefined) return;
  if (options.mode === "container") await findEngine();
  else if (startsInDirectory(options.mode)) {
    await rootCommand({ argv, needsRoot: needsRoot(options) });
  } else await requireProgram(argv[0]!);
}

/** Reports whether a user works in the guest, so that it needs the terminal. */
export function needsTerminal(options: BuildOptions): boolean {
  return options.interactive || asksUser(options);
}

/** Reports whether only root may start it. */
export function needsRoot({ mode }: Pick<BuildOptions, "mode">): boolean {
  return mode === "chroot";
}

/** The lock of a target, so that no build replaces what a guest runs from. */
export function useTarget(dir: string): Lock {
  const lock = takeTarget(dir);
  if (typeof lock !== "number") return lock;
  throw new UserError("target", `Cannot run ${dir}: process ${lock} uses it`, {
    where: dir,
    hint: "Wait for it, or build another --target",
  });
}
