// SPDX-License-Identifier: MIT
/** `seedstrap explain`: tells how an old run ended, and why. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { explainRun, type Explanation } from "../job/explain.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { printJson } from "./json.ts";
import { paint, print } from "./output.ts";

export function explainSubcommand(): CommandUnknownOpts {
  return new Command("explain")
    .summary("tell how an old run ended, where and why")
    .description("tell how an old run ended, in which step, the likely cause, and what to try")
    .argument("[target]", "directory that was run, or a log", "target")
    .allowExcessArguments(false)
    .option("--run <n>", "the run with this number; default: the last one")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap explain                       the last run of ./target
  seedstrap explain target --run 3        another one
  seedstrap explain serial.txt            a log of whatever machine, by its text alone

A log alone never proves that a bootstrap is done. A cause is named only where its sign is seen.

The exit code is 0 wherever the run can be read, however it ended; verdict, failure and cause
(or null) are in --json.`,
    )
    .action((target, { run, json }) =>
      withInterrupt(async (signal) => {
        const number = run === undefined ? undefined : parseCount(run, "--run", 1, 999_999_999);
        const explained = await explainRun(target, number, signal);
        if (json) printJson(explanationObject(explained));
        else printExplanation(explained);
      })
    );
}

/** The fields of `--json`: what is not known is null. */
function explanationObject(explained: Explanation): object {
  const { verdict, failure, why, lastStep, lines, cause, number, began, ended, logPath } =
    explained;
  return {
    verdict,
    failure: failure ?? null,
    why,
    lastStep: lastStep ?? null,
    lines,
    cause: cause ?? null,
    run: number ?? null,
    began: began ?? null,
    ended: ended ?? null,
    log: logPath,
  };
}

const COLOURS = { done: "green", failed: "red" } as const;

function printExplanation(explained: Explanation): void {
  const { verdict, failure, why, lastStep, lines, cause, number, began, ended } = explained;
  if (number !== undefined) {
    const times = [began && ` began at ${began}`, ended && ` ended at ${ended}`];
    print(`run ${number}:${times.filter((time) => time).join(",")}`);
  }
  const at = lastStep === undefined ? "" : ` in ${lastStep}`;
  const kind = failure === undefined ? "" : ` (${failure})`;
  const colour = verdict === "done" || verdict === "failed" ? COLOURS[verdict] : "yellow";
  const told = verdict === "running" ? "it goes on, or seedstrap was killed before its end" : why;
  print([paint(colour, verdict), `${kind}${at}: ${told}`]);
  for (const line of lines) print(`  | ${line}`);
  print(`the log is ${explained.logPath}`);
  if (cause !== undefined) {
    print([paint("bold", "Likely cause:"), ` ${cause.text}`]);
    print(paint("bold", "Try:"));
    for (const text of cause.tries) print(`  - ${text}`);
  } else if (verdict === "failed") {
    print("No known cause is seen in it.");
  }
}
