// SPDX-License-Identifier: MIT
/**
 * The default command: builds, and starts what was built.
 *
 * @module
 */

import { resolve } from "node:path";
import { withTmpfs } from "../launch/mount.ts";
import type { TargetRecord } from "../record/types.ts";
import { type BuildEvents, buildMedia, type BuildRequest } from "./build.ts";
import { runTarget } from "./run.ts";
import {
  checkExtraArgs,
  checkMode,
  checkPrograms,
  checkStall,
  checkTerminal,
} from "./run_checks.ts";
import type { RunEvents, RunRequest } from "./run_request.ts";

/** The input of the default command, which builds and starts. */
export interface BootstrapRequest
  extends BuildRequest, Pick<RunRequest, "accel" | "extraArgs" | "stallMs" | "checkpoints"> {
  /** Size of a tmpfs to mount on the target, in the form of mount(8); undefined for none. */
  readonly tmpfsSize: string | undefined;
}

/** Callbacks of a bootstrap. */
export interface BootstrapEvents extends BuildEvents, RunEvents {
  /** Called once, between the build and the start. */
  readonly onBuilt?: (record: TargetRecord) => void;
}

/**
 * Builds and starts. Media for bare metal are only built, as they are started by hand.
 *
 * @throws {UserError} of every kind.
 */
export async function bootstrap(
  request: BootstrapRequest,
  events: BootstrapEvents,
  signal: AbortSignal,
): Promise<void> {
  const { target, accel, extraArgs = [], stallMs, checkpoints, tmpfsSize: size, options } = request;
  // Before hours are spent on a build that could not be started.
  await checkPrograms(options);
  checkTerminal(options);
  checkStall(options, stallMs);
  checkExtraArgs(options, extraArgs);
  checkMode(options, request);
  const buildAndRun = async () => {
    events.onBuilt?.(await buildMedia(request, events, signal));
    if (options.mode === "bare-metal") return;
    const run = { target, accel, extraArgs, stallMs, checkpoints, named: undefined };
    await runTarget(run, events, signal);
  };
  if (size === undefined) return await buildAndRun();
  const onNotice = (text: string) => events.onWarning?.(text);
  await withTmpfs({ dir: resolve(target), size, signal, onNotice }, buildAndRun);
}
