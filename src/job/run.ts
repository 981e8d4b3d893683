// SPDX-License-Identifier: MIT
/**
 * Starts a built target: images in QEMU, a directory in chroot or bwrap.
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
import { type BuildEvents, buildMedia, type BuildRequest } from "./build.ts";
import { checkKernel } from "./check.ts";

/** Name of the log of the serial console in a target. */
export const LOG_NAME = "serial.log";

/**
 * Texts that Fiwix prints when its last process has ended, and Linux on a panic: both then wait for
 * ever.
 */
const HALT_TEXTS: readonly string[] = [
  "Safe to Power Off",
  "---[ end Kernel panic - not syncing",
];

export type AccelChoice = QemuOptions["accel"];

/** Callbacks of a run. */
export interface RunEvents {
  /** Called before the guest starts, once for each mirror directory that it downloads from. */
  readonly onServe?: (path: string, port: number) => void;
  /** Takes the output of the serial console in chunks of any size. */
  readonly onSerial?: (chunk: Uint8Array) => void;
  readonly onWarning?: (text: string) => void;
}

/**
 * Starts built media and waits for the guest to end.
 *
 * @param target Directory that was built.
 * @throws {UserError} "target" if nothing was built there, or it has changed since; "usage" for
 * bare metal; "launch"; "interrupt" if the signal is aborted.
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

/** The input of the default command, which builds and starts. */
export interface BootstrapRequest extends BuildRequest {
  readonly accel: AccelChoice;
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
  const { target, accel, tmpfsSize: size, options } = request;
  // Before hours are spent on a build that could not be started.
  await checkPrograms(options);
  const buildAndRun = async () => {
    events.onBuilt?.(await buildMedia(request, events, signal));
    if (options.mode !== "bare-metal") await runTarget(target, accel, events, signal);
  };
  if (size === undefined) return await buildAndRun();
  const onNotice = (text: string) => events.onWarning?.(text);
  await withTmpfs({ dir: resolve(target), size, signal, onNotice }, buildAndRun);
}

/**
 * Checks that the programs to start a target are installed.
 *
 * @throws {UserError} "launch"
 */
async function checkPrograms(options: BuildOptions): Promise<void> {
  const argv = planCommand({ options, images: [] }, "/");
  if (argv === undefined) return;
  if (startsInDirectory(options.mode)) await rootCommand({ argv, needsRoot: needsRoot(options) });
  else await requireProgram(argv[0]!);
}

/** Reports whether only root may start it. */
function needsRoot({ mode }: Pick<BuildOptions, "mode">): boolean {
  return mode === "chroot";
}

/** Reports whether a user works in the guest, so that it needs the terminal. */
function needsTerminal({ interactive, configurator }: BuildOptions): boolean {
  return interactive || configurator;
}

/** Refuses media that were truncated or replaced after the build, which would fail hours later. */
function checkImages(dir: string, record: TargetRecord): void {
  for (const { name, sizeBytes } of record.images) {
    const path = join(dir, name);
    const size = statIfThere(path)?.size;
    if (size === sizeBytes) continue;
    throw new UserError(
      "target",
      `Cannot start ${path}: ${
        size === undefined ? "it is missing" : `it has ${size} bytes`
      }, it was built with ${sizeBytes} bytes`,
      { where: path, hint: "Build the target again" },
    );
  }
}

/** Calls a function while the mirror directories of a target are served. */
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
    // The bootstrap mounts proc and others in its root, which is a directory of this machine.
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
