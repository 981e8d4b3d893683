// SPDX-License-Identifier: MIT
/** `seedstrap ps`: lists the runs of this machine. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { type ListedRun, listRuns } from "../job/running.ts";
import { printJson } from "./json.ts";
import { formatTable, print, widthOf } from "./output.ts";
import { formatSeconds } from "./progress.ts";

export function psSubcommand(): CommandUnknownOpts {
  return new Command("ps")
    .summary("list the runs of this machine")
    .description("list the runs that you have started on this machine, also those at a terminal")
    .allowExcessArguments(false)
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
A run whose process was killed is in the list once more, as killed. Root sees its own runs only.`,
    )
    .action(({ json }) => {
      const runs = listRuns();
      if (json) return printJson({ runs: runs.map(runObject) });
      if (runs.length === 0) return print("no run goes on");
      const now = Date.now();
      const rows = runs.map(({ pid, target, run, began, step, lastOutput, state, isDetached }) => [
        String(pid),
        target,
        String(run),
        `${formatSeconds((now - Date.parse(began)) / 1000)}`,
        lastOutput === undefined ? "" : formatSeconds((now - lastOutput.getTime()) / 1000),
        state === "killed" ? state : isDetached ? "detached" : "at a terminal",
        step ?? "",
      ]);
      const head = ["pid", "target", "run", "age", "silent", "state", "step"];
      for (const line of formatTable([head, ...rows], "rlrrrll", widthOf(process.stdout))) {
        print(line);
      }
    });
}

/** The fields of `--json`: what is not known is null. */
function runObject(
  { target, pid, run, began, step, lastOutput, state, isDetached, logPath }: ListedRun,
): object {
  return {
    ...{ target, pid, run, began, state, isDetached },
    step: step ?? null,
    lastOutput: lastOutput?.toISOString() ?? null,
    log: logPath,
  };
}
