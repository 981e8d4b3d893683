// SPDX-License-Identifier: MIT
/** `seedstrap stop`: ends a run that another process has started. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { type StoppedRun, stopRun } from "../job/running.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { printJson } from "./json.ts";
import { note, print } from "./output.ts";

export function stopSubcommand(): CommandUnknownOpts {
  return new Command("stop")
    .summary("end a run that goes on without a terminal")
    .description("end a run in good order, as Ctrl-C does at its terminal, and wait for its end")
    .argument("[target]", "directory that is run", "target")
    .allowExcessArguments(false)
    .option("--now", "without a checkpoint before")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
A run with checkpoints is saved first, which takes a minute at most. Only a run that you have
started is stopped: the record of a target may name any process. The exit code is 0 when the run is
over, however it ended, and 7 where none goes on. Ctrl-C ends the waiting only.`,
    )
    .action((target, { now = false, json }) =>
      withInterrupt(async (signal) => {
        const saves = now ? "" : "; a run with checkpoints is saved first";
        const wait = (pid: number) => note(`waiting for process ${pid} to end the run${saves}`);
        const stopped = await stopRun({ target, isNow: now }, wait, signal);
        if (json) printJson(stoppedObject(stopped));
        else printStopped(stopped);
      })
    );
}

/** The fields of `--json`: what is not known is null. */
function stoppedObject({ dir, run, pid, recorded, goesOn }: StoppedRun): object {
  return {
    target: dir,
    ...{ run, pid },
    verdict: recorded?.verdict ?? null,
    why: recorded?.why ?? null,
    lastStep: recorded?.lastStep ?? null,
    resume: goesOn ?? null,
  };
}

function printStopped({ dir, run, recorded, goesOn }: StoppedRun): void {
  const at = recorded?.lastStep === undefined ? "" : ` in ${recorded.lastStep}`;
  const verdict = recorded === undefined || recorded.verdict === "running"
    ? "gone, and how it ended is not recorded"
    : `${recorded.verdict}${at}: ${recorded.why}`;
  print(`run ${run} of ${dir} is ${verdict}`);
  if (goesOn !== undefined) print(`go on with: ${goesOn}`);
}
