// SPDX-License-Identifier: MIT
/** `seedstrap resume`: goes on from a checkpoint. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { runTarget } from "../job/run.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { UserError } from "../errors.ts";
import {
  checkpointOption,
  keepOption,
  parseCheckpointNumber,
  parseCheckpoints,
} from "./checkpoint.ts";
import {
  accelOption,
  parseStall,
  printedRun,
  qemuArgumentOption,
  RUN_JSON,
  RUN_QUIET,
  stallOption,
} from "./run.ts";
import { withRunView } from "./view/view.ts";

export function resumeSubcommand(): CommandUnknownOpts {
  return new Command("resume")
    .summary("go on from a checkpoint of a run")
    .description("go on from a checkpoint: after a power cut, a kill, an interrupt, a failed step")
    .argument("[target]", "directory that was run", "target")
    .allowExcessArguments(false)
    .option("--from <number>", "the checkpoint; default: the last one that is as it was saved")
    .addOption(checkpointOption("auto"))
    .addOption(keepOption())
    .addOption(accelOption())
    .addOption(stallOption())
    .addOption(qemuArgumentOption())
    .usage("[options] [target] [-- arguments of QEMU...]")
    .option("--qemu-cmd <program>", "QEMU to run, where the target has its own (-qc)")
    .option("--kernel <file>", "the kernel of a target that was built with one (-qk)")
    .option("--serve <dir...>", "mirror directories that the guest may download from")
    .option("--json", RUN_JSON)
    .option("--quiet", RUN_QUIET)
    .addHelpText(
      "after",
      `
Everything that a checkpoint needs is verified before QEMU sees it. A damaged one is told, and the
one before is used. What the guest did after the checkpoint is lost, and done again.

The machine is the one that was saved: its memory, its devices and its accelerator stay as they are,
and QEMU must be of the same series, such as 7.2. A download that was under way has to begin again.

QEMU trusts what it loads: go on only from checkpoints that were saved on a machine that you trust.`,
    )
    .action((target, { accel, qemuArg, qemuCmd, kernel, serve = [], ...raw }) => {
      const { json, quiet, stall, from } = raw;
      const stallMs = parseStall(stall);
      const checkpoints = parseCheckpoints(raw);
      if (checkpoints === undefined) {
        throw new UserError("usage", "Cannot use --checkpoint off with resume", {
          hint: "What the guest goes on from is a checkpoint: leave the option out",
        });
      }
      const number = from === undefined ? undefined : parseCheckpointNumber(from, "--from");
      const named = { modes: [], qemuCommand: qemuCmd, kernel, served: serve };
      const request = {
        ...{ target, accel, extraArgs: qemuArg, named, stallMs, checkpoints },
        resume: { number },
      };
      return withInterrupt((signal) =>
        withRunView(
          { json, quiet },
          printedRun({ json, quiet }),
          (events) => runTarget(request, events, signal),
        )
      );
    });
}
