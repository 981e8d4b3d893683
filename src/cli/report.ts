// SPDX-License-Identifier: MIT
/** `seedstrap report`: explains a target and its runs on a page of HTML. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { writeReport } from "../job/report.ts";
import { printJson } from "./json.ts";
import { formatBytes, print } from "./output.ts";

/** Where the report goes by default. */
const OUTPUT = "report.html";

export function reportSubcommand(): CommandUnknownOpts {
  return new Command("report")
    .summary("explain a target and its runs on a page of HTML")
    .description("write a page of HTML that explains a target and its runs")
    .argument("[target]", "directory that was built, or a bundle with its images", "target")
    .allowExcessArguments(false)
    .option("-o, --output <file>", "where it goes; a report that is there is replaced", OUTPUT)
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
The page shows what went into the images, step by step, and how near that comes to the limits of the
machine; every run with its times and why it failed; where each distfile came from; all digests.
It is one file that needs no network, and the same for the same target.`,
    )
    .action((target, { output, json }) => {
      const { path, sizeBytes } = writeReport(target, output);
      if (json) printJson({ path, sizeBytes });
      else [path, `  ${formatBytes(sizeBytes)}`].forEach((line) => print(line));
    });
}
