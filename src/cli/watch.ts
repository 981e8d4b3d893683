// SPDX-License-Identifier: MIT
/** `seedstrap watch`: follows a machine that is not started here. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { watchConsole, type WatchEvents } from "../job/watch.ts";
import { STANDARD_INPUT } from "../launch/console_source.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { printJson, printJsonLine } from "./json.ts";
import { drained, note } from "./output.ts";
import { printedRun, RUN_JSON } from "./run.ts";
import type { ShownRun } from "./view/shown.ts";
import { withWatchView } from "./view/view.ts";

export function watchSubcommand(): CommandUnknownOpts {
  return new Command("watch")
    .summary("follow a machine on its serial line, or a log")
    .description("follow the console of a machine that is not started here")
    .argument("<source>", "serial port, log, fifo, UNIX socket, or - for standard input")
    .allowExcessArguments(false)
    .option("--target <dir>", "the target that it runs: its steps are counted")
    .option("--baud <n>", "speed of a serial port", "115200")
    .option("--json", RUN_JSON)
    .option("--quiet", "do not print what the machine prints")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap watch /dev/ttyUSB0 --target target > serial.log
  seedstrap watch target/.seedstrap/runs/1.log --quiet

It ends when the console shows how the bootstrap ended, with the exit code of seedstrap run: 0 only
where every step was built, for which it needs the target; the log of a run names its own. Ctrl-C
ends the watching, and nothing else.`,
    )
    .action((source, { target, baud, json, quiet }) =>
      withInterrupt((signal) => {
        const speed = parseCount(baud, "--baud", 50, 4_000_000);
        const request = { source, target, baud: speed };
        const watch = (events: WatchEvents) => watchConsole(request, events, signal);
        const shown = { json, quiet };
        const events = printedWatch(source, shown, signal);
        // Then what is typed is the console.
        const isTyped = source === STANDARD_INPUT && process.stdin.isTTY;
        return isTyped ? watch(events) : withWatchView(shown, nameOf(source), events, watch);
      })
    );
}

function nameOf(source: string): string {
  return source === STANDARD_INPUT ? "standard input" : source;
}

function printedWatch(source: string, shown: ShownRun, signal: AbortSignal): WatchEvents {
  const { onSerial, onEvent } = printedRun(shown);
  return {
    onSerial,
    onEvent,
    drained: () => drained(signal),
    onStart: (target) => {
      if (shown.json) {
        const time = new Date().toISOString();
        printJsonLine({ time, ms: 0, kind: "start", source, target: target ?? null });
      }
      const of = target === undefined ? "; --target DIR would tell its steps" : ` of ${target}`;
      note(`watching ${nameOf(source)}${of}; Ctrl-C ends that`);
    },
    onOutcome: (outcome) => {
      if (shown.json) printJson({ kind: "outcome", ...outcome, source });
      else if (outcome.verdict === "done") note(`done: ${outcome.why}`);
    },
  };
}
