// SPDX-License-Identifier: MIT
/**
 * The default command: builds, and starts what was built.
 *
 * @module
 */

import { resolve } from "node:path";
import { UserError } from "../errors.ts";
import { withTmpfs } from "../launch/mount.ts";
import type { TargetRecord } from "../record/types.ts";
import { type BuildEvents, buildMedia, type BuildRequest } from "./build.ts";
import { runTarget } from "./run.ts";
import {
  checkDetached,
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

/**
 * Builds, and has what was built started without a terminal.
 *
 * @param start Starts it, once it is built.
 * @throws {UserError} of every kind.
 */
export async function buildAndDetach(
  request: BuildRequest & Pick<BootstrapRequest, "tmpfsSize">,
  events: BuildEvents & Pick<BootstrapEvents, "onBuilt">,
  signal: AbortSignal,
  start: (record: TargetRecord) => Promise<void>,
): Promise<void> {
  const { options, tmpfsSize } = request;
  const refuse = (why: string, hint: string) => new UserError("usage", why, { hint });
  if (options.mode === "bare-metal") {
    throw refuse("Cannot use --detach with --bare-metal: nothing is started", "Leave it out");
  }
  if (tmpfsSize !== undefined) {
    throw refuse(
      "Cannot use --detach with --tmpfs: it is unmounted when this command ends",
      "Name a --target on a tmpfs that is mounted already",
    );
  }
  await checkPrograms(options);
  checkDetached(options, { isDetached: true });
  const record = await buildMedia(request, events, signal);
  events.onBuilt?.(record);
  await start(record);
}
