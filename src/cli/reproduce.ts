// SPDX-License-Identifier: MIT
/** `seedstrap reproduce`: builds again from a record, and compares. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import process from "node:process";
import { UserError } from "../errors.ts";
import { reproduceBuild, type Reproduction } from "../job/reproduce.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseAdded } from "../plan/added.ts";
import { parseCount } from "../plan/options.ts";
import type { DigestDifference, SubjectDifference } from "../record/compare.ts";
import { printedEvents } from "./build.ts";
import {
  addOption,
  chosenStore,
  mirrorsOption,
  offlineOption,
  olderStoreOption,
  parseMirrorOption,
  plainHttpOption,
  storeOption,
  treeOption,
} from "./options.ts";
import { printJson } from "./json.ts";
import { counted, print } from "./output.ts";
import { withProgress } from "./progress.ts";

/** How many things are named in a summary. */
const MOST_NAMED = 5;

export function reproduceSubcommand(): CommandUnknownOpts {
  const command = new Command("reproduce")
    .summary("build again what a record says was built, and compare")
    .description("build again what the record of a target says was built, and compare")
    .argument("<record>", "a target, its seedstrap.json, or a copy of that")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .addOption(mirrorsOption())
    .addOption(plainHttpOption())
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .addOption(offlineOption())
    .option("-r, --repo <dir>", "the prebuilt packages, if the build had some")
    .addOption(addOption())
    .option("--early-preseed <archive>", "the tar to begin from, if the build had one")
    .option("--kernel <file>", "the Linux kernel, if the build had one (-qk)")
    .option("-t, --target <dir>", "where to build, in a new directory (default: beside the record)")
    .option("--keep", "keep what was built")
    .option("--force", "go on although the plan breaks a limit")
    .option("-j, --jobs <n>", "number of parallel downloads", "8")
    .option("--all", "list everything that differs, with the digests")
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
            mirrors: parseMirrorOption(raw.mirrors ?? [], raw.plainHttp),
            store: chosenStore(raw),
            isOffline: raw.offline === true,
            repo: raw.repo,
            added: (raw.add ?? []).map(parseAdded),
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
      else for (const line of reproductionLines(result, raw.all === true)) print(line);
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
        ? "The inputs differ too, as shown: give the same ones; --all lists everything that differs"
        : "The inputs are the same: the cause may be a changed record, or another version of " +
          "a tool that seedstrap uses (mke2fs, for a disk with a file system)",
    },
  );
}

/** Returns the result of a reproduction as lines of text: a summary, or all that differs. */
function reproductionLines(
  { same, compared, subjects, materials, kept }: Reproduction,
  all: boolean,
): string[] {
  const from = same ? "The same, though built from something else:" : "Built from something else:";
  const summary = [
    ...subjects.slice(0, MOST_NAMED).map(subjectSummary),
    ...(subjects.length > MOST_NAMED
      ? [`and ${counted(subjects.length - MOST_NAMED, "more output")}`]
      : []),
    ...(materials.length === 0 ? [] : [`${from} ${listed(materials.map(({ name }) => name))}`]),
  ];
  const list = [
    ...subjects.flatMap(subjectLines),
    ...(materials.length === 0 ? [] : ["", from]),
    ...materials.flatMap((difference) => digestDifferenceLines(difference, "  ")),
  ];
  return [
    ...(same
      ? [`the same: ${counted(compared, "output has", "outputs have")} the stated digests`]
      : []),
    ...(all ? list : summary),
    ...(kept === undefined ? [] : ["", `what was built is in ${kept}`]),
  ];
}

function subjectSummary({ name, stated, found, files }: SubjectDifference): string {
  if (stated === undefined) return `${name}: not in the record`;
  if (found === undefined) return `${name}: missing`;
  if (files.length === 0) return `${name}: differs`;
  return `${name}: differs, in ${counted(files.length, "file")}: ` +
    listed(files.map(({ name }) => name));
}

/** Names the first of some things, and says how many more there are. */
function listed(names: readonly string[]): string {
  const rest = names.length - MOST_NAMED;
  return names.slice(0, MOST_NAMED).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function subjectLines(subject: SubjectDifference): string[] {
  return [
    ...digestDifferenceLines(subject, ""),
    ...subject.files.flatMap((file) => digestDifferenceLines(file, "  ")),
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
