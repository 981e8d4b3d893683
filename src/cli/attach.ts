// SPDX-License-Identifier: MIT
/** `seedstrap attach`: shows a run that another process has started. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { type AttachEvents, attachRun } from "../job/attach.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { shellQuote } from "../launch/process.ts";
import { printJsonLine } from "./json.ts";
import { drained, note } from "./output.ts";
import { printedRun, RUN_JSON, RUN_QUIET } from "./run.ts";
import type { ShownRun } from "./view/shown.ts";
import { withAttachView } from "./view/view.ts";

export function attachSubcommand(): CommandUnknownOpts {
  return new Command("attach")
    .summary("show a run that goes on without a terminal")
    .description("show a run that was started elsewhere, with --detach or at another terminal")
    .argument("[target]", "directory that is run", "target")
    .allowExcessArguments(false)
    .option("--json", RUN_JSON)
    .option("--quiet", RUN_QUIET)
    .addHelpText(
      "after",
      `
What the guest has printed so far comes first. Any number of terminals may show a run. Ctrl-C and q
leave it, with exit code 130, and the run goes on; seedstrap stop ends it.

When the run ends, the exit code is that of seedstrap run: 0 only where the guest has said that
every step was built. Of a run that is over, only how it ended is told.`,
    )
    .action((target, { json, quiet }) =>
      withInterrupt((signal) => {
        const shown = { json, quiet };
        return withAttachView(
          shown,
          target,
          printedAttach(shown, signal),
          (events) => attachRun(target, events, signal),
        );
      })
    );
}

function printedAttach(shown: ShownRun, signal: AbortSignal): AttachEvents {
  const { onSerial, onEvent, onOutcome } = printedRun(shown);
  return {
    onSerial,
    ...(onEvent && { onEvent }),
    drained: () => drained(signal),
    onStart: ({ dir, logPath }) => {
      if (shown.json) {
        const time = new Date().toISOString();
        printJsonLine({ time, ms: 0, kind: "start", target: dir, log: logPath });
      }
      const stop = shellQuote(["seedstrap", "stop", dir]);
      note(`the log is ${logPath}; Ctrl-C leaves the run, which goes on; ${stop} ends it`);
    },
    onOutcome: (outcome, { logPath }) => onOutcome?.(outcome, logPath),
  };
}
