// SPDX-License-Identifier: MIT
/** `seedstrap run`: starts built media. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { join, resolve } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { type FileServer, serveDirectory } from "../fetch/serve.ts";
import { checkKernel } from "../job/build.ts";
import { readRecord } from "../record/read.ts";
import { type TargetRecord } from "../record/types.ts";
import { lendingKeys, withInterrupt } from "../launch/interrupt.ts";
import { unmountBelow } from "../launch/mount.ts";
import { requireProgram } from "../launch/process.ts";
import { runQemu } from "../launch/qemu.ts";
import { rootCommand, runRoot } from "../launch/root.ts";
import { type BuildOptions, startsInDirectory } from "../plan/options.ts";
import { planCommand } from "../plan/plan.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { statIfThere } from "../runtime/stat.ts";
import { note, paint } from "./output.ts";

/** Name of the log of the serial console in a target. */
const LOG_NAME = "serial.log";

/**
 * What Fiwix says when its last process has ended, and Linux when it gives up: both then wait for
 * ever.
 */
const HALT_TEXTS: readonly string[] = [
  "Safe to Power Off",
  "---[ end Kernel panic - not syncing",
];

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function accelOption() {
  return new Option("--accel <how>", "KVM where it works, or force one")
    .choices(["auto", "kvm", "tcg"] as const).default("auto" as const);
}

export function runSubcommand(): CommandUnknownOpts {
  return new Command("run")
    .description("start what was built: media in QEMU, a directory in chroot or bwrap")
    .argument("[target]", "directory that was built", "target")
    .allowExcessArguments(false)
    .addOption(accelOption())
    .addHelpText(
      "after",
      `
The serial console appears here and in TARGET/${LOG_NAME}. Ctrl-C ends the guest.`,
    )
    .action((target, { accel }) => withInterrupt((signal) => runTarget(target, accel, signal)));
}

/**
 * Starts built media and waits for the guest to end.
 *
 * @throws {UserError} "target", "launch" or "interrupt"
 */
export async function runTarget(
  target: string,
  accel: "auto" | "kvm" | "tcg",
  signal: AbortSignal,
): Promise<void> {
  const dir = resolve(target);
  const record = readRecord(dir);
  checkImages(dir, record);
  const { options, images } = record;
  if (options.kernel !== undefined) checkKernel(options.kernel);
  const command = planCommand({ options, images: images.map(({ name }) => name) }, dir);
  if (command === undefined) {
    throw new UserError("usage", "Cannot start a bare-metal target here", {
      hint: "Write its images to drives, or build it with --qemu",
    });
  }
  const servers: FileServer[] = [];
  try {
    for (const { path, port } of record.servedMirrors) {
      servers.push(await serveDirectory(path, { port }));
      note(`serving ${path} on 127.0.0.1:${port} for the guest`);
    }
    const start = () =>
      options.mode === "qemu"
        ? runInQemu(record, command, dir, accel, signal)
        : runInDirectory(record, command, dir, signal);
    await (needsTerminal(options) ? lendingKeys(start) : start());
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

/**
 * Looks for the programs that a target is started with, before hours are spent on building it.
 *
 * @throws {UserError} "launch"
 */
export async function checkPrograms(options: BuildOptions): Promise<void> {
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
function needsTerminal({ interactive, configurator }: TargetRecord["options"]): boolean {
  return interactive || configurator;
}

async function runInDirectory(
  { options }: TargetRecord,
  argv: readonly string[],
  dir: string,
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
    if (options.mode === "chroot") await unmountBelow(dir, before, warn);
  }
}

async function runInQemu(
  { options, images }: TargetRecord,
  [command, ...args]: readonly string[],
  dir: string,
  accel: "auto" | "kvm" | "tcg",
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
    onSerial: (chunk) => process.stdout.write(chunk),
    onNotice: warn,
  });
}

function warn(text: string): void {
  note(`${paint("yellow", "seedstrap:")} ${text}`);
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
