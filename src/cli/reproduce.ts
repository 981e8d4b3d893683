// SPDX-License-Identifier: MIT
/** `seedstrap reproduce`: builds again from a record, and compares. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { UserError } from "../errors.ts";
import { defaultStore } from "../fetch/store.ts";
import { reproduceBuild, type Reproduction } from "../job/reproduce.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import type { DigestDifference, SubjectDifference } from "../record/compare.ts";
import { printedEvents } from "./build.ts";
import { offlineOption, parseMirrorOption, treeOption } from "./options.ts";
import { print, printJson } from "./output.ts";
import { withProgress } from "./progress.ts";

/** How many differences of one kind are shown. */
const MOST_NAMED = 20;

export function reproduceSubcommand(): CommandUnknownOpts {
  const command = new Command("reproduce")
    .description("build again what the record of a target says was built, and compare")
    .argument("<record>", "the seedstrap.json of a target, or a copy of it")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .option(
      "-m, --mirrors <url...>",
      "servers and directories that are asked before the distfiles' own URLs",
    )
    .option("--distfiles <dir>", "where downloads are kept (default: the user's cache)")
    .addOption(offlineOption())
    .option("-r, --repo <dir>", "the prebuilt packages, if the build had some")
    .option("--early-preseed <archive>", "the tar to begin from, if the build had one")
    .option("--kernel <file>", "the Linux kernel, if the build had one (-qk)")
    .option("-t, --target <dir>", "where to build, in a new directory (default: beside the record)")
    .option("--keep", "keep what was built")
    .option("--force", "go on although the plan breaks a limit")
    .option("-j, --jobs <n>", "number of parallel downloads", "4")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Example:
  seedstrap reproduce seedstrap.json --tree live-bootstrap -m file:///srv/distfiles

The exit code is 0 if every output has the digest that the record states, and 11 if not.`,
    );
  command.action((record, raw) =>
    withInterrupt(async (signal) => {
      const result = await withProgress(() =>
        reproduceBuild(
          {
            record,
            tree: raw.tree ?? process.cwd(),
            mirrors: parseMirrorOption(raw.mirrors ?? []),
            store: raw.distfiles ?? defaultStore(),
            isOffline: raw.offline === true,
            repo: raw.repo,
            preseed: raw.earlyPreseed,
            kernel: raw.kernel,
            target: raw.target,
            keep: raw.keep === true,
            force: raw.force === true,
            jobs: parseCount(raw.jobs, "--jobs", 1, 64),
          },
          printedEvents(),
          signal,
        )
      );
      if (raw.json) printJson(result);
      else for (const line of reproductionLines(result)) print(line);
      if (!result.same) throw notTheSame(result, record);
    })
  );
  return command;
}

function notTheSame({ subjects, compared, materials }: Reproduction, where: string): UserError {
  return new UserError(
    "different",
    `Cannot reproduce ${subjects.length === 1 ? "one output" : `${subjects.length} outputs`} ` +
      `of ${compared}: what was built differs from the record`,
    {
      where,
      hint: materials.length > 0
        ? "The inputs differ too, as shown: give the same ones"
        : "The inputs are the same: the cause may be a changed record, or another version of " +
          "a tool that seedstrap uses (mke2fs, for a disk with a file system)",
    },
  );
}

/** Returns the result of a reproduction as lines of text. */
function reproductionLines({ same, compared, subjects, materials, kept }: Reproduction): string[] {
  return [
    ...(same ? [`the same: ${compared} outputs have the stated digests`] : []),
    ...named(subjects, subjectLines),
    ...(materials.length === 0
      ? []
      : ["", same ? "The same, though built from something else:" : "Built from something else:"]),
    ...named(materials, (difference) => digestDifferenceLines(difference, "  ")),
    ...(kept === undefined ? [] : ["", `what was built is in ${kept}`]),
  ];
}

function subjectLines(subject: SubjectDifference): string[] {
  return [
    ...digestDifferenceLines(subject, ""),
    ...named(subject.files, (file) => digestDifferenceLines(file, "  ")),
  ];
}

function digestDifferenceLines(
  { name, stated, found }: DigestDifference,
  indent: string,
): string[] {
  const shown = `${indent}${name}`;
  if (stated === undefined) return [`${shown}: not in the record`];
  if (found === undefined) return [`${shown}: missing`];
  return [
    `${shown}: differs`,
    `${indent}  stated ${stated}`,
    `${indent}  found  ${found}`,
  ];
}

function named<T>(items: readonly T[], lines: (item: T) => string[]): string[] {
  const more = items.length - MOST_NAMED;
  return [
    ...items.slice(0, MOST_NAMED).flatMap(lines),
    ...(more > 0 ? [`… and ${more} more: --json has all of them`] : []),
  ];
}
