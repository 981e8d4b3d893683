// SPDX-License-Identifier: MIT
/**
 * Starts what was built: images in QEMU, a directory in chroot or bwrap.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { type FileServer, serveDirectory } from "../fetch/serve.ts";
import { lendingKeys } from "../launch/interrupt.ts";
import { unmountBelow, withTmpfs } from "../launch/mount.ts";
import { requireProgram } from "../launch/process.ts";
import { type QemuOptions, runQemu } from "../launch/qemu.ts";
import { rootCommand, runRoot } from "../launch/root.ts";
import { type BuildOptions, startsInDirectory } from "../plan/options.ts";
import { planCommand } from "../plan/plan.ts";
import { readRecord } from "../record/read.ts";
import type { TargetRecord } from "../record/types.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { statIfThere } from "../runtime/stat.ts";
import { type BuildEvents, buildMedia, type BuildRequest, checkKernel } from "./build.ts";

/** Name of the log of the serial console in a target. */
export const LOG_NAME = "serial.log";

/**
 * What Fiwix says when its last process has ended, and Linux when it gives up: both then wait for
 * ever.
 */
const HALT_TEXTS: readonly string[] = [
  "Safe to Power Off",
  "---[ end Kernel panic - not syncing",
];

export type AccelChoice = QemuOptions["accel"];

/** Told what happens in a run. */
export interface RunEvents {
  /** Told once before the guest starts, for each mirror directory that it downloads from. */
  readonly onServe?: (path: string, port: number) => void;
  /** What the guest prints on its serial line, as it comes. */
  readonly onSerial?: (chunk: Uint8Array) => void;
  readonly onWarning?: (text: string) => void;
}

/**
 * Starts built media and waits for the guest to end.
 *
 * @param target Directory that was built.
 * @throws {UserError} "target" where nothing was built there, or it is not as it was built; "usage"
 * for bare metal; "launch"; "interrupt" when the signal is raised.
 */
export async function runTarget(
  target: string,
  accel: AccelChoice,
  events: RunEvents,
  signal: AbortSignal,
): Promise<void> {
  const dir = resolve(target);
  const record = readRecord(dir);
  const { options, images } = record;
  checkImages(dir, record);
  if (options.kernel !== undefined) checkKernel(options.kernel);
  const command = planCommand({ options, images: images.map(({ name }) => name) }, dir);
  if (command === undefined) {
    throw new UserError("usage", "Cannot start a bare-metal target here", {
      hint: "Write its images to drives, or build it with --qemu",
    });
  }
  const start = () =>
    options.mode === "qemu"
      ? runInQemu(record, command, dir, accel, events, signal)
      : runInDirectory(record, command, dir, events, signal);
  await serving(record, events, () => needsTerminal(options) ? lendingKeys(start) : start());
}

/** What the default command does: builds, and starts what was built. */
export interface BootstrapRequest extends BuildRequest {
  readonly accel: AccelChoice;
  /** Size of a tmpfs to mount on the target, as mount takes it; absent where none is wanted. */
  readonly tmpfsSize: string | undefined;
}

/** Told what happens in a bootstrap. */
export interface BootstrapEvents extends BuildEvents, RunEvents {
  /** Told once, between the build and the start. */
  readonly onBuilt?: (record: TargetRecord) => void;
}

/**
 * Builds and starts. Bare metal is built only: it is started by hand.
 *
 * @throws {UserError} of every kind.
 */
export async function bootstrap(
  request: BootstrapRequest,
  events: BootstrapEvents,
  signal: AbortSignal,
): Promise<void> {
  const { target, accel, tmpfsSize: size, options } = request;
  // Before hours are spent on what could not be started.
  await checkPrograms(options);
  const buildAndRun = async () => {
    events.onBuilt?.(await buildMedia(request, events, signal));
    if (options.mode !== "bare-metal") await runTarget(target, accel, events, signal);
  };
  if (size === undefined) return await buildAndRun();
  const onNotice = (text: string) => events.onWarning?.(text);
  await withTmpfs({ dir: resolve(target), size, signal, onNotice }, buildAndRun);
}

/** Looks for the programs that a target is started with. @throws {UserError} "launch" */
async function checkPrograms(options: BuildOptions): Promise<void> {
  const argv = planCommand({ options, images: [] }, "/");
  if (argv === undefined) return;
  if (startsInDirectory(options.mode)) await rootCommand({ argv, needsRoot: needsRoot(options) });
  else await requireProgram(argv[0]!);
}

/** Whether only root may start it. */
function needsRoot({ mode }: Pick<BuildOptions, "mode">): boolean {
  return mode === "chroot";
}

/** Whether somebody sits in front of the guest, who has to have the terminal. */
function needsTerminal({ interactive, configurator }: BuildOptions): boolean {
  return interactive || configurator;
}

/** Media that were cut or replaced since they were built do not fail hours later. */
function checkImages(dir: string, record: TargetRecord): void {
  for (const { name, sizeBytes } of record.images) {
    const path = join(dir, name);
    const size = statIfThere(path)?.size;
    if (size === sizeBytes) continue;
    throw new UserError(
      "target",
      `Cannot start ${path}: ${
        size === undefined ? "it is missing" : `it has ${size} bytes`
      }, ${sizeBytes} bytes were built`,
      { where: path, hint: "Build the target again" },
    );
  }
}

/** Runs something while the mirror directories of a target are served. */
async function serving(
  { servedMirrors }: TargetRecord,
  { onServe }: RunEvents,
  run: () => Promise<void>,
): Promise<void> {
  const servers: FileServer[] = [];
  try {
    for (const { path, port } of servedMirrors) {
      servers.push(await serveDirectory(path, { port }));
      onServe?.(path, port);
    }
    await run();
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

async function runInDirectory(
  { options }: TargetRecord,
  argv: readonly string[],
  dir: string,
  { onWarning }: RunEvents,
  signal: AbortSignal,
): Promise<void> {
  const before = mountsBelow(dir);
  try {
    await runRoot({
      argv,
      needsRoot: needsRoot(options),
      interactive: needsTerminal(options),
      signal,
    });
  } finally {
    // The bootstrap mounts proc and the like in its root, and that is a directory of this machine.
    if (options.mode === "chroot") {
      await unmountBelow(dir, before, (text) => onWarning?.(text));
    }
  }
}

async function runInQemu(
  { options, images }: TargetRecord,
  [command, ...args]: readonly string[],
  dir: string,
  accel: AccelChoice,
  { onSerial, onWarning }: RunEvents,
  signal: AbortSignal,
): Promise<void> {
  await runQemu({
    command: command!,
    args,
    accel,
    interactive: needsTerminal(options),
    disks: images.map(({ name }) => join(dir, name)),
    logPath: join(dir, LOG_NAME),
    haltTexts: HALT_TEXTS,
    signal,
    onSerial: (chunk) => onSerial?.(chunk),
    onNotice: (text) => onWarning?.(text),
  });
}
