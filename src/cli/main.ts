#!/usr/bin/env -S deno run -A
// SPDX-License-Identifier: MIT
/** Entry point: the command line, and the only place that exits. */

import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { endRunning } from "../launch/interrupt.ts";
import { withoutSecrets } from "../fetch/secret.ts";
import { EXIT, UserError } from "../errors.ts";
import { wasClosed } from "../runtime/inherited.ts";
import { VERSION } from "../version.ts";
import {
  DEFAULT_COMMAND,
  expandAbbreviations,
  expandShortOptions,
  namedForHelp,
  passQemuArguments,
} from "./argv.ts";
import { attachSubcommand } from "./attach.ts";
import { bootstrapSubcommand, buildSubcommand } from "./build.ts";
import { bundleSubcommand } from "./bundle.ts";
import { checkpointSubcommand } from "./checkpoint.ts";
import { completionSubcommand } from "./completion.ts";
import { demoSubcommand } from "./demo.ts";
import { explainSubcommand } from "./explain.ts";
import { fetchSubcommand } from "./fetch.ts";
import { harvestSubcommand } from "./harvest.ts";
import { devicesSubcommand } from "./devices.ts";
import { doctorSubcommand } from "./doctor.ts";
import { programHelp } from "./help.ts";
import { imageSubcommand } from "./image.ts";
import { manSubcommand } from "./man.ts";
import { endJson } from "./json.ts";
import { isStdoutCut, printableLines, printError, writeOut } from "./output.ts";
import { mirrorSubcommand } from "./mirror.ts";
import { planSubcommand } from "./plan.ts";
import { pullTree } from "./pull.ts";
import { preflightSubcommand } from "./preflight.ts";
import { psSubcommand } from "./ps.ts";
import { reportSubcommand } from "./report.ts";
import { reproduceSubcommand } from "./reproduce.ts";
import { resumeSubcommand } from "./resume.ts";
import { runSubcommand } from "./run.ts";
import { serveSubcommand } from "./serve.ts";
import { sourcesCommand } from "./sources.ts";
import { storeSubcommand } from "./store.ts";
import { stopSubcommand } from "./stop.ts";
import { addTrustOptions } from "./trust.ts";
import { watchSubcommand } from "./watch.ts";
import { writeSubcommand } from "./write.ts";

function program(hasDefault: boolean): CommandUnknownOpts {
  const root = new Command("seedstrap")
    .description("Prepares and starts a live-bootstrap: from a checkout to media that boot.")
    .version(VERSION)
    .configureHelp({ formatHelp: programHelp })
    .hook("preAction", (_, command) => pullTree(command))
    // Named in the usage.
    .addCommand(bootstrapSubcommand(), { isDefault: hasDefault })
    .addCommand(planSubcommand())
    .addCommand(buildSubcommand())
    .addCommand(runSubcommand())
    .addCommand(resumeSubcommand())
    .addCommand(psSubcommand())
    .addCommand(attachSubcommand())
    .addCommand(stopSubcommand())
    .addCommand(watchSubcommand())
    .addCommand(demoSubcommand())
    .addCommand(sourcesCommand())
    .addCommand(fetchSubcommand())
    .addCommand(storeSubcommand())
    .addCommand(serveSubcommand())
    .addCommand(mirrorSubcommand())
    .addCommand(imageSubcommand())
    .addCommand(preflightSubcommand())
    .addCommand(doctorSubcommand())
    .addCommand(devicesSubcommand())
    .addCommand(writeSubcommand())
    .addCommand(bundleSubcommand())
    .addCommand(explainSubcommand())
    .addCommand(reportSubcommand())
    .addCommand(harvestSubcommand())
    .addCommand(reproduceSubcommand())
    .addCommand(checkpointSubcommand())
    .addCommand(manSubcommand())
    .addCommand(completionSubcommand());
  for (const command of everyCommand(root)) {
    addTrustOptions(command);
    command.exitOverride().configureOutput({
      // What commander quotes from the command line may come from a file name.
      writeErr: (text) => writeOut(process.stderr, printableLines(withoutSecrets(text))),
      // An error is printed once, by main().
      outputError: () => {},
      writeOut: (text) => writeOut(process.stdout, printableLines(text)),
    });
  }
  return root;
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
    // A word before everything is meant as a command, not for the default one.
    const root = program(args[0]?.startsWith("-") ?? true);
    const expanded = expandAbbreviations(expandShortOptions(args), longOptions(root));
    const names = new Set(root.commands.map((command) => command.name()));
    const words = passQemuArguments(namedForHelp(expanded), names);
    await root.parseAsync(words, { from: "user" });
    endJson();
    return EXIT.done;
  } catch (thrown) {
    // What the work has ended with is that its output could not be written.
    if (outputCode !== undefined) return outputCode;
    // commander has printed the help or version that was asked for.
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return EXIT.done;
    const error = thrown instanceof CommanderError ? usageError(thrown) : thrown;
    if (asksForJson(args)) endJson(error);
    printError(error);
    return error instanceof UserError ? error.exitCode : EXIT.bug;
  }
}

function asksForJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? args.length : end).includes("--json");
}

/** Returns an error of commander, whose last line may be a suggestion, as one of ours. */
function usageError({ code, message }: CommanderError): UserError {
  if (code === "commander.help") return new UserError("usage", "Cannot go on without a command");
  // What it quotes from the command line may be a URL, or come from a file name.
  const text = withoutSecrets(message).replace(/^error: /, "");
  const [, what, suggested] = /^(.*?)(?:\n\((Did you mean .*\?)\))?$/s.exec(text)!;
  const hint = suggested ?? usageHint(what!);
  // The default command has no name for users.
  const said = what!.replace(` for '${DEFAULT_COMMAND}'`, "");
  return new UserError("usage", said, hint === undefined ? {} : { hint });
}

/** Says where that is right which commander refuses at one command. */
function usageHint(what: string): string | undefined {
  const [, kind, name] = /^(unknown option|unknown command|too many arguments for) '(.*?)'/
    .exec(what) ?? [];
  const root = program(true);
  const having = (long: string) =>
    everyCommand(root).filter(({ options }) =>
      options.some((option) => option.long === long && !option.hidden)
    );
  switch (kind) {
    case "unknown command":
      return having(`--${name}`).includes(root)
        ? `Did you mean seedstrap --${name}?`
        : "seedstrap --help lists the commands";
    case "unknown option": {
      const homes = having(name!);
      if (homes.length === 0) return undefined;
      const isDefault = homes.some((command) => command.name() === DEFAULT_COMMAND);
      const others = homes.map(commandLine).filter((line) =>
        line !== `seedstrap ${DEFAULT_COMMAND}`
      );
      const places = [...isDefault ? ["the default command (seedstrap -q …)"] : [], ...others];
      return `It is an option of ${places.join(", ")}`;
    }
    case "too many arguments for":
      return having("--mirrors").some((command) => command.name() === name)
        ? "A mirror is named with -m, a checkout with --tree"
        : undefined;
    default:
      return undefined;
  }
}

/** Returns the words that call a command. */
function commandLine(command: CommandUnknownOpts): string {
  const { parent } = command;
  return parent === null ? command.name() : `${commandLine(parent)} ${command.name()}`;
}

/** The exit code, once the output could not be written. */
let outputCode: number | undefined;

// Work that goes on then ends in good order: a run records how it ended, and unmounts. When the
// reader goes away (`| head`), it ends without a message, but not with 0.
process.stdout.on("error", (error: Error & { code?: string }) => {
  // A terminal that was closed: SIGHUP says so, too.
  if (error.code === "EIO" || outputCode !== undefined) return;
  const fault = new UserError("target", `Cannot write the output: ${error.code ?? error.message}`);
  const isReaderGone = error.code === "EPIPE";
  if (!isReaderGone) printError(fault);
  outputCode = isReaderGone ? EXIT.readerGone : fault.exitCode;
  process.exitCode = outputCode;
  if (!endRunning(fault)) process.exit(outputCode);
});
// Lost messages are no reason to stop: the work goes on.
process.stderr.on("error", () => {});
const code = await main(process.argv.slice(2));
process.exitCode = outputCode ?? code;
if (isStdoutCut()) process.exit();
