#!/usr/bin/env -S deno run -A
// SPDX-License-Identifier: MIT
/** Entry point: the command line, and the only place that exits. */

import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { withoutSecrets } from "../fetch/secret.ts";
import { EXIT, EXITS, UserError } from "../errors.ts";
import { wasClosed } from "../runtime/inherited.ts";
import { VERSION } from "../version.ts";
import { expandAbbreviations, expandShortOptions } from "./argv.ts";
import { bootstrapSubcommand, buildSubcommand } from "./build.ts";
import { bundleSubcommand } from "./bundle.ts";
import { demoSubcommand } from "./demo.ts";
import { harvestSubcommand } from "./harvest.ts";
import { devicesSubcommand } from "./devices.ts";
import { imageSubcommand } from "./image.ts";
import { manSubcommand } from "./man.ts";
import { printableLines, printError, writeOut } from "./output.ts";
import { planSubcommand } from "./plan.ts";
import { preflightSubcommand } from "./preflight.ts";
import { reproduceSubcommand } from "./reproduce.ts";
import { runSubcommand } from "./run.ts";
import { sourcesCommand } from "./sources.ts";
import { writeSubcommand } from "./write.ts";

function program(): CommandUnknownOpts {
  const root = new Command("seedstrap")
    .description("Prepares and starts a live-bootstrap: from a checkout to media that boot.")
    .version(VERSION)
    .addCommand(bootstrapSubcommand(), { isDefault: true })
    .addCommand(buildSubcommand())
    .addCommand(runSubcommand())
    .addCommand(planSubcommand())
    .addCommand(sourcesCommand())
    .addCommand(imageSubcommand())
    .addCommand(reproduceSubcommand())
    .addCommand(harvestSubcommand())
    .addCommand(writeSubcommand())
    .addCommand(devicesSubcommand())
    .addCommand(bundleSubcommand())
    .addCommand(preflightSubcommand())
    .addCommand(demoSubcommand())
    .addCommand(manSubcommand())
    .addHelpText(
      "after",
      `
Exit codes:
${exitCodes()}

Start here:
  seedstrap demo                         plan, build and boot a miniature tree
  seedstrap plan --qemu --tree DIR       show what a build of a checkout would do
  seedstrap build --qemu --tree DIR      build the media
  seedstrap run                          start them`,
    );
  for (const command of everyCommand(root)) {
    command.exitOverride().configureOutput({
      // What commander quotes from the command line may come from a file name.
      writeErr: (text) => writeOut(process.stderr, printableLines(withoutSecrets(text))),
      writeOut: (text) => writeOut(process.stdout, printableLines(text)),
    });
  }
  return root;
}

function exitCodes(): string {
  return Object.values(EXITS).map(({ code, text }) => `  ${String(code).padEnd(5)}${text}`)
    .join("\n");
}

function everyCommand(command: CommandUnknownOpts): CommandUnknownOpts[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

function longOptions(root: CommandUnknownOpts): Set<string> {
  const options = everyCommand(root).flatMap(({ options }) => options);
  return new Set(["--help", ...options.flatMap(({ long }) => long == null ? [] : [long])]);
}

/** Runs a command line and returns its exit code. */
async function main(args: readonly string[]): Promise<number> {
  try {
    // Before any work is done, as its result would be lost.
    if (wasClosed(1)) throw new UserError("target", "Cannot write the output: it is closed");
    const root = program();
    const expanded = expandAbbreviations(expandShortOptions(args), longOptions(root));
    await root.parseAsync(expanded, { from: "user" });
    return EXIT.done;
  } catch (error) {
    // commander has printed the error already, or the help or version that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    printError(error);
    return error instanceof UserError ? error.exitCode : EXIT.bug;
  }
}

// When the reader goes away (`| head`), the program ends without a message, but not with 0.
process.stdout.on("error", (error: Error & { code?: string }) => {
  // A terminal that was closed: SIGHUP says so, too, and a run ends in good order by that.
  if (error.code === "EIO") return;
  if (error.code === "EPIPE") process.exit(EXIT.readerGone);
  printError(new UserError("target", `Cannot write the output: ${error.code ?? error.message}`));
  process.exit(EXIT.target);
});
// Lost messages are no reason to stop: the work goes on.
process.stderr.on("error", () => {});
process.exitCode = await main(process.argv.slice(2));
