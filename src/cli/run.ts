// SPDX-License-Identifier: MIT
/** `seedstrap run`: starts built media. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { resolve } from "node:path";
import process from "node:process";
import type { ConsoleEvent } from "../console/events.ts";
import type { RunState } from "../console/position.ts";
import { startDetached, takeDetachment } from "../job/detached.ts";
import { runTarget } from "../job/run.ts";
import type { CheckpointTimes, ResumeRequest } from "../job/checkpoint.ts";
import type { NamedByUser } from "../job/named.ts";
import type { AccelChoice, RunEvents, RunRequest } from "../job/run_request.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { shellQuote } from "../launch/process.ts";
import { MAX_RUNS } from "../record/run.ts";
import { QEMU_ARGUMENT } from "./argv.ts";
import {
  budgetOption,
  checkpointOption,
  keepOption,
  parseCheckpoints,
  savedLine,
} from "./checkpoint.ts";
import { parseDuration } from "./duration.ts";
import { GuestOutput } from "./guest_output.ts";
import { beginJsonLines, printJson, printJsonLine } from "./json.ts";
import { note, print, warn, writeOut } from "./output.ts";
import { areOutputsOne, EventLines, eventObject, timeNow } from "./run_events.ts";
import { type ShownRun, STARTED } from "./view/shown.ts";
import { withRunView } from "./view/view.ts";

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function accelOption() {
  return new Option(
    "--accel <how>",
    "accelerator; auto is KVM where it works, else TCG; hvf is for Intel Macs",
  )
    .choices(["auto", "kvm", "hvf", "tcg"] as const).default("auto" as const);
}

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function stallOption() {
  return new Option(
    "--stall <duration>",
    "end the guest when its console is silent for so long: 90s, 30m, 2h; default: never",
  );
}

/** Declares the option that arguments after `--` become. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function qemuArgumentOption() {
  return new Option(`${QEMU_ARGUMENT} <arg...>`).default([] as string[]).hideHelp();
}

/** What `--json` and `--quiet` mean for whatever follows a console. */
export const RUN_JSON = "for scripts: a line for each event, and the outcome as the last one";
export const RUN_QUIET = "do not print what the guest prints; the log has it";

/** Declares what `run` and `resume` have in common. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function startCommand(name: "run" | "resume", checkpoint: "off" | "auto") {
  return new Command(name)
    .argument("[target]", `directory that was ${name === "run" ? "built" : "run"}`, "target")
    .allowExcessArguments(false)
    .usage("[options] [target] [-- arguments of QEMU...]")
    .addOption(accelOption())
    .addOption(stallOption())
    .addOption(checkpointOption(checkpoint))
    .addOption(budgetOption())
    .addOption(keepOption())
    .addOption(qemuArgumentOption())
    .option("--qemu-cmd <program>", "QEMU to run, where the target has its own (-qc)")
    .option("--kernel <file>", "the kernel of a target that was built with one (-qk)")
    .option("--serve <dir...>", "mirror directories that the guest may download from")
    .option("--detach", DETACH_TEXT)
    .option("--json", RUN_JSON)
    .option("--quiet", RUN_QUIET);
}

export const DETACH_TEXT = "start it without a terminal, see attach, stop and ps";

/** What was given for the options of {@link startCommand}. */
interface RunGiven extends ShownRun {
  readonly accel: AccelChoice;
  readonly stall?: string | undefined;
  readonly checkpoint?: string | undefined;
  readonly budget?: string | undefined;
  readonly keepCheckpoints: string;
  readonly qemuArg: readonly string[];
  readonly qemuCmd?: string | undefined;
  readonly kernel?: string | undefined;
  readonly serve?: readonly string[] | undefined;
  readonly detach?: true | undefined;
}

/** Starts the target of a command line, with the options of {@link startCommand}. */
export function startRun(
  target: string,
  { accel, qemuArg, qemuCmd, kernel, serve = [], ...raw }: RunGiven,
  more: {
    readonly modes: NamedByUser["modes"];
    readonly checkpoints: CheckpointTimes | undefined;
    readonly resume?: ResumeRequest;
  },
): Promise<void> {
  const { json, quiet } = raw;
  const { modes, ...rest } = more;
  const named = { modes, qemuCommand: qemuCmd, kernel, served: serve };
  const request = {
    target,
    accel,
    extraArgs: qemuArg,
    named,
    stallMs: parseDuration(raw.stall, "--stall"),
  };
  const detachment = takeDetachment();
  if (detachment !== undefined) {
    const apart = withoutPlace({ ...request, ...rest, isDetached: true });
    return withInterrupt(
      (signal) => detachment.telling(printedApart(), (events) => runTarget(apart, events, signal)),
      { outlivesTerminal: true },
    );
  }
  if (raw.detach) {
    return withInterrupt((signal) => detachRun(target, process.argv.slice(2), { json }, signal));
  }
  return withInterrupt((signal) =>
    withRunView(
      { json, quiet },
      printedRun({ json, quiet }),
      (events) => runTarget({ ...request, ...rest }, events, signal),
    )
  );
}

/** Starts a run without a terminal, and tells what there is to know of it. */
export async function detachRun(
  target: string,
  args: readonly string[],
  { json }: ShownRun,
  signal: AbortSignal,
): Promise<void> {
  const started = await startDetached(target, args, warn, signal);
  const dir = resolve(target);
  const { pid, run, by, logPath, outputPath } = started;
  if (json) return printJson({ target: dir, pid, run, by, log: logPath, output: outputPath });
  print(`run ${run} of ${dir} has started ${STARTED[by]}, as process ${pid}`);
  print(`  show it with: ${shellQuote(["seedstrap", "attach", dir])}`);
  print(`  end it with:  ${shellQuote(["seedstrap", "stop", dir])}`);
  print(`  the log is ${logPath}`);
}

/**
 * Leaves the directory that we were started in, which could not be unmounted otherwise. What QEMU
 * gets may name files in it: then it stays.
 */
function withoutPlace(request: RunRequest): RunRequest {
  const { target, named } = request;
  if ((request.extraArgs ?? []).length > 0) return request;
  const { qemuCommand, kernel, served } = named!;
  const placed = {
    ...named!,
    qemuCommand: qemuCommand?.includes("/") ? resolve(qemuCommand) : qemuCommand,
    kernel: kernel && resolve(kernel),
    served: served.map((path) => resolve(path)),
  };
  const dir = resolve(target);
  process.chdir("/");
  return { ...request, target: dir, named: placed };
}

/** Events of a run without a terminal: a line for each, as nothing else says what happened when. */
function printedApart(): RunEvents {
  return {
    ...printedRun({ quiet: true }),
    onStart: ({ by, logPath }) => note(`starting ${STARTED[by]}; the log is ${logPath}`),
  };
}

export function runSubcommand(): CommandUnknownOpts {
  return startCommand("run", "off")
    .summary("start what was built: in QEMU, chroot or bwrap")
    .description("start what was built: media in QEMU, a directory in chroot or bwrap")
    .option("-c, --chroot", "start a directory by chroot, as root")
    .option("--bwrap", "start a directory in a sandbox of bwrap (-bw)")
    .option("--container", "start a container of podman or docker")
    .addHelpText(
      "after",
      `
A target may come from a stranger. What was built with --chroot, --bwrap or --container is started
only with the same option here, and another QEMU, a kernel or a mirror only if you name it.

What the guest prints appears here and in a log below TARGET/.seedstrap/runs, of which the last
${MAX_RUNS} are kept. Ctrl-C ends the guest. On a terminal the last rows say where the run is, and ?
explains keys that change what is shown. Where standard output is no terminal, or with --quiet,
standard error has a line, with its time, for each event: a step begins, a checksum is right. With
--json these are lines of JSON on standard output, of which the last one is the outcome.

With --checkpoint the guest writes into layers over the images, which stay as they were built, and
its whole state is saved now and then; seedstrap resume goes on from there. Ctrl-C saves first.
harvest and image read through the layers; image verify does not.

--budget is for machines that are yours for some hours only, as in CI: when the time since seedstrap
began is spent, the machine is saved and the run ends with 19, at most a minute late. seedstrap
checkpoint export and import carry the checkpoint to the next machine, and resume goes on there.

--stall counts the console only: neither what the guest computes nor what it writes to a disk. Long
compilations are silent, and under TCG some steps are for hours, as make_fiwix_initrd; so nothing is
ended unless you say so. The error says how much of the CPU QEMU has used in that time.

The exit code is 0 only where the guest has said that every step was built. A failure has a code of
its kind, 12 a failed step, 13 a checksum, 14 a panic, a reset or an early end, 15 a stall, 16 a full
disk of this host, 17 a QEMU that died, 18 KVM; and the last step, the lines that matter, the likely
cause where one is seen, and what to try. 9 is a guest that could not be started, or of which nothing
is known, and 130 an interrupt. seedstrap explain tells it all again.`,
    )
    .action((target, { chroot, bwrap, container, ...given }) => {
      const modes = [
        ...chroot ? ["chroot"] as const : [],
        ...bwrap ? ["bwrap"] as const : [],
        ...container ? ["container"] as const : [],
      ];
      return startRun(target, given, { modes, checkpoints: parseCheckpoints(given) });
    });
}

/** Events of a run: the guest on standard output, everything else on standard error. */
export function printedRun({ json = false, quiet = false }: ShownRun = {}): RunEvents {
  if (json) beginJsonLines();
  const out = json ? process.stderr : process.stdout;
  const guest = new GuestOutput(out);
  const lines = new EventLines();
  const isOne = areOutputsOne();
  let isLineOpen = false;
  const printEvent = (event: ConsoleEvent, state: RunState) => {
    const time = timeNow();
    for (const line of lines.of(event, state, performance.now())) {
      // In a file with both, a line of ours does not go into one of the guest.
      if (isLineOpen) writeOut(process.stderr, "\n");
      isLineOpen = false;
      note(`${time} ${line}`);
    }
  };
  return {
    onServe: (path, port) => note(`serving ${path} on 127.0.0.1:${port} for the guest`),
    onStart: ({ by, logPath, isInteractive, fallsBack }) => {
      guest.logged(logPath);
      if (json) {
        printJsonLine({ time: new Date().toISOString(), ms: 0, kind: "start", by, log: logPath });
      }
      note(
        isInteractive
          ? `starting ${STARTED[by]}; the log, without what is on your terminal, is ${logPath}`
          : `starting ${STARTED[by]}; the log is ${logPath}; Ctrl-C ends it`,
      );
      if (fallsBack && !isInteractive) {
        note("where KVM cannot run it, or it prints nothing for two minutes, TCG takes over");
      }
    },
    ...(!quiet && {
      onSerial: (chunk) => {
        guest.push(chunk);
        isLineOpen = isOne && chunk.at(-1) !== 0x0a;
      },
    }),
    ...(json
      ? { onEvent: (event, state) => printJsonLine(eventObject(event, state, performance.now())) }
      : (quiet || !process.stdout.isTTY) && { onEvent: printEvent }),
    onResume: ({ number, saved, at }) => {
      if (json) printJsonLine({ time: new Date().toISOString(), ms: 0, kind: "resume", number });
      note(`going on from checkpoint ${number}, saved at ${saved} in ${at}`);
    },
    onCheckpoint: (saved) => {
      if (json) printJsonLine({ time: new Date().toISOString(), kind: "checkpoint", ...saved });
      else {
        if (isLineOpen) writeOut(process.stderr, "\n");
        isLineOpen = false;
        note(savedLine(saved));
      }
    },
    onWarning: warn,
    onOutcome: (outcome, logPath) => {
      if (json) printJson({ kind: "outcome", ...outcome, log: logPath });
      else if (outcome.verdict === "done") note(`done: ${outcome.why}; the log is ${logPath}`);
    },
  };
}
