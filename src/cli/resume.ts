// SPDX-License-Identifier: MIT
/** `seedstrap resume`: goes on from a checkpoint. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { parseCheckpointNumber, parseCheckpoints } from "./checkpoint.ts";
import { startCommand, startRun } from "./run.ts";

export function resumeSubcommand(): CommandUnknownOpts {
  return startCommand("resume", "auto")
    .summary("go on from a checkpoint of a run")
    .description("go on from a checkpoint: after a power cut, a kill, an interrupt, a failed step")
    .option("--from <number>", "the checkpoint; default: the last one that is as it was saved")
    .addHelpText(
      "after",
      `
Everything that a checkpoint needs is verified before QEMU sees it. A damaged one is told, and the
one before is used. What the guest did after the checkpoint is lost, and done again.

The machine is the one that was saved: its memory, its devices and its accelerator stay as they are,
and QEMU must be of the same series, such as 7.2. A download that was under way has to begin again.

QEMU trusts what it loads: go on only from checkpoints that were saved on a machine that you trust.`,
    )
    .action((target, { from, ...given }) => {
      const checkpoints = parseCheckpoints(given, "auto");
      if (checkpoints === undefined) {
        throw new UserError("usage", "Cannot use --checkpoint off with resume", {
          hint: "What the guest goes on from is a checkpoint: leave the option out",
        });
      }
      const number = from === undefined ? undefined : parseCheckpointNumber(from, "--from");
      return startRun(target, given, { modes: [], checkpoints, resume: { number } });
    });
}
