// SPDX-License-Identifier: MIT
/**
 * How the guest of a run is started: images in QEMU, a directory in chroot or bwrap, a container by
 * podman or docker.
 *
 * @module
 */

import { join } from "node:path";
import { messageOf } from "../errors.ts";
import type { FileServer } from "../fetch/http_server.ts";
import { serveDirectory } from "../fetch/serve.ts";
import { runContainer } from "../launch/container.ts";
import { findEngine } from "../launch/engine.ts";
import { imageOfPass } from "../launch/kept.ts";
import { openLog } from "../launch/log.ts";
import { unmountBelow } from "../launch/mount.ts";
import { shellQuote } from "../launch/process.ts";
import { type QemuOptions, runQemu } from "../launch/qemu.ts";
import { runRoot } from "../launch/root.ts";
import { containerOptions } from "../plan/container.ts";
import type { BuildOptions } from "../plan/options.ts";
import { CONTAINER_IMAGE } from "../plan/types.ts";
import { packagePath } from "../record/expected.ts";
import type { RunFiles } from "../record/run.ts";
import type { TargetRecord } from "../record/types.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { withRootUmask } from "../runtime/umask.ts";
import type { Checkpointer } from "./checkpoint.ts";
import { ownContainerHead, recordKept } from "./container_pass.ts";
import { needsRoot, needsTerminal } from "./run_checks.ts";
import type { GuestEvents, Run, RunEvents, RunStart } from "./run_request.ts";

/**
 * Texts that Fiwix prints when its last process has ended, and Linux on a panic: both then wait for
 * ever.
 */
const HALT_TEXTS: readonly string[] = [
  "Safe to Power Off",
  "---[ end Kernel panic - not syncing",
];

/** What is printed when a kernel runs its first commands: stage0-posix, or Linux. */
const ALIVE_TEXTS: readonly string[] = [" +> ", "Linux version "];

export async function runInQemu(
  { record: { options, images }, command: [command, ...args], dir, files }: Run,
  qemu: Pick<QemuOptions, "accel"> & Partial<Checkpointer["qemu"]>,
  { onSerial, onStart, onProcess, onKeys, onWarning, onRestart, onLogged, onReset, onReady }:
    GuestEvents,
  signal: AbortSignal,
): Promise<void> {
  await runQemu({
    command: command!,
    args,
    interactive: needsTerminal(options),
    disks: images.map(({ name }) => join(dir, name)),
    ...qemu,
    logPath: files.logPath,
    haltTexts: HALT_TEXTS,
    aliveTexts: ALIVE_TEXTS,
    signal,
    onSerial: (chunk) => onSerial?.(chunk),
    onProcess,
    onReady,
    takesInput: onKeys !== undefined,
    onNotice: (text) => onWarning?.(text),
    onStart: (by) => {
      const fallsBack = by === "kvm" && qemu.accel === "auto";
      onStart?.({ by, fallsBack, ...toldStart(options, files) });
    },
    onRestart,
    onLogged,
    onReset,
  });
}

/** Runs a container, and tells where what it has built is. */
export async function runInContainer(
  { record: { options }, dir, files, expected: { lastStep }, pass }: Run,
  { onSerial, onStart, onProcess, onReady, onWarning, onLogged, onPackaged, onKept }: GuestEvents,
  signal: AbortSignal,
): Promise<void> {
  const engine = pass?.engine ?? await findEngine();
  const path = join(dir, CONTAINER_IMAGE);
  const { configSha256, manifestSha256 } = ownContainerHead(path, options);
  const digests = [configSha256, manifestSha256];
  const log = openLog(files.logPath, (text) => onWarning?.(text), onLogged);
  onStart?.({ by: engine.name, ...toldStart(options, files) });
  try {
    await runContainer({
      ...{ engine, signal },
      origin: pass === undefined
        ? { kind: "archive", path, digests }
        : { kind: "container", name: pass.name },
      options: containerOptions(options),
      interactive: needsTerminal(options),
      onOutput: (chunk) => {
        log.write(chunk);
        onSerial?.(chunk);
      },
      onProcess,
      onReady,
      onKept: (name, hasSucceeded) => {
        const copy = [engine.name, "cp", `${name}:/external/repo`, "."];
        const remove = [
          [engine.name, "rm", name],
          ...pass === undefined ? [] : [[engine.name, "image", "rm", imageOfPass(name)]],
        ].map(shellQuote).join(" && ");
        onWarning?.(
          `the container ${name} is there with what was built in it: ${shellQuote(copy)} copies ` +
            `the packages, ${remove} removes it`,
        );
        if (!hasSucceeded) return;
        const kept = { engine, name, before: pass };
        recordKept(dir, kept);
        onKept?.(kept);
      },
      // What is on the terminal of a user is not seen.
      proof: lastStep && packagePath(lastStep),
      onProof: onPackaged,
      onNotice: (text) => onWarning?.(text),
    });
  } finally {
    if (signal.aborted) log.separator(messageOf(signal.reason));
    log.close();
  }
}

export async function runInDirectory(
  { record: { options }, command, dir, files }: Run,
  { onSerial, onStart, onProcess, onReady, onWarning, onLogged }: GuestEvents,
  signal: AbortSignal,
): Promise<void> {
  const before = mountsBelow(dir);
  const log = openLog(files.logPath, (text) => onWarning?.(text), onLogged);
  onStart?.({ by: options.mode === "chroot" ? "chroot" : "bwrap", ...toldStart(options, files) });
  try {
    await withRootUmask(() =>
      runRoot({
        argv: command,
        needsRoot: needsRoot(options),
        interactive: needsTerminal(options),
        onOutput: (chunk) => {
          log.write(chunk);
          onSerial?.(chunk);
        },
        onProcess: (first) => {
          onProcess?.(first);
          onReady?.();
        },
        signal,
        onNotice: (text) => onWarning?.(text),
      })
    );
  } finally {
    if (signal.aborted) log.separator(messageOf(signal.reason));
    log.close();
    // The bootstrap mounts proc and the like in its root, and that is a directory of this machine.
    if (options.mode === "chroot") {
      await unmountBelow(dir, before, (text) => onWarning?.(text));
    }
  }
}

function toldStart(
  options: BuildOptions,
  { logPath, number: run }: RunFiles,
): Omit<RunStart, "by"> {
  return { logPath, run, isInteractive: needsTerminal(options) };
}

/** Calls a function while the mirror directories of a target are served. */
export async function serving(
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
