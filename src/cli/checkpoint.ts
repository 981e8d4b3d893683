// SPDX-License-Identifier: MIT
/** `seedstrap checkpoint ls|rm|export|import|disk`: what a run can go on from. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import {
  checkpointsOf,
  type CheckpointTimes,
  checkpointTimes,
  KEPT_CHECKPOINTS,
  type ListedCheckpoint,
  removeCheckpointsOf,
} from "../job/checkpoint.ts";
import type { SavedCheckpoint } from "../job/saver.ts";
import { UserError } from "../errors.ts";
import { parseCount } from "../plan/options.ts";
import { type Checkpoint, checkpointsDir } from "../record/checkpoints.ts";
import { shellQuote } from "../launch/process.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { exportCheckpoint, importCheckpoint } from "../job/checkpoint_file.ts";
import { writeGuestDisk } from "../job/checkpoint_disk.ts";
import { withProgress } from "./progress.ts";
import { printJson } from "./json.ts";
import { parseDuration } from "./duration.ts";
import { counted, formatBytes, formatTable, print } from "./output.ts";

/** Longest time between two checkpoints: a week. */
const MAX_MINUTES = 7 * 24 * 60;
const MAX_KEPT = 1000;
const MAX_NUMBER = 999_999_999;

/**
 * Declares `--checkpoint`.
 *
 * @param unset What it is where it is not given.
 */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function checkpointOption(unset: "off" | "auto") {
  return new Option(
    "--checkpoint <when>",
    "save the whole machine: auto (each jump, before a step, every 30 min), off, or minutes " +
      `(default: ${unset})`,
  );
}

/** Declares `--keep-checkpoints`. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function keepOption() {
  return new Option(
    "--keep-checkpoints <n>",
    "so many checkpoints are kept, and each jump's",
  ).default(String(KEPT_CHECKPOINTS));
}

/** Declares `--budget`. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function budgetOption() {
  return new Option(
    "--budget <duration>",
    "save the machine after so long, and end with 19: 5h, 90m; turns --checkpoint on",
  );
}

/**
 * Parses `--checkpoint`, `--keep-checkpoints` and `--budget`.
 *
 * @returns undefined for off.
 * @throws {UserError} "usage"
 */
export function parseCheckpoints(
  { checkpoint, keepCheckpoints, budget: text }: {
    readonly checkpoint?: string | undefined;
    readonly keepCheckpoints: string;
    readonly budget?: string | undefined;
  },
  unset: "off" | "auto" = "off",
): CheckpointTimes | undefined {
  const keep = parseCount(keepCheckpoints, "--keep-checkpoints", 1, MAX_KEPT);
  const ms = parseDuration(text, "--budget");
  const budget = ms === undefined ? undefined : { ms, text: text! };
  const when = checkpoint ?? (budget === undefined ? unset : "auto");
  if (when !== "off") return { ...timesOf(when, keep), budget };
  if (budget === undefined) return undefined;
  throw new UserError("usage", "Cannot use --budget with --checkpoint off", {
    hint: "When the budget is spent, the machine is saved: leave --checkpoint out",
  });
}

/** @throws {UserError} "usage" */
function timesOf(checkpoint: string, keep: number): CheckpointTimes {
  if (checkpoint === "auto") return checkpointTimes("auto", keep);
  if (!/^\d+$/.test(checkpoint)) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(checkpoint)} for --checkpoint`, {
      hint: `It takes auto, off, or minutes from 1 to ${MAX_MINUTES}`,
    });
  }
  return checkpointTimes(parseCount(checkpoint, "--checkpoint", 1, MAX_MINUTES), keep);
}

/** Parses the number of a checkpoint. */
export function parseCheckpointNumber(text: string, name: string): number {
  return parseCount(text, name, 1, MAX_NUMBER);
}

/** What is said of a checkpoint that was saved. */
export function savedLine({ number, at, sizeBytes, pausedMs }: SavedCheckpoint): string {
  return `checkpoint ${number} saved in ${at}: ${formatBytes(sizeBytes)}, the guest stood still ` +
    `for ${(pausedMs / 1000).toFixed(1)} s`;
}

export function checkpointSubcommand(): CommandUnknownOpts {
  return new Command("checkpoint")
    .summary("what a run can go on from: ls, rm, export, import, disk")
    .description("list, remove or carry the checkpoints of a target, or the disk of its guest")
    .addCommand(lsSubcommand())
    .addCommand(rmSubcommand())
    .addCommand(exportSubcommand())
    .addCommand(importSubcommand())
    .addCommand(diskSubcommand());
}

function lsSubcommand(): CommandUnknownOpts {
  return new Command("ls")
    .summary("list the checkpoints of a target")
    .description("list the checkpoints of a target; resume verifies what they need")
    .argument("[target]", "directory that was run", "target")
    .allowExcessArguments(false)
    .option("--json", "for scripts")
    .action((target, { json }) => {
      const found = checkpointsOf(target);
      if (json) return printJson({ checkpoints: found.map(checkpointObject) });
      if (found.length === 0) return print(`${target} has no checkpoints`);
      const rows = found.map(({ number, read }) =>
        typeof read === "string"
          ? [String(number), "", "", "", `cannot be used: ${read}`]
          : [String(number), read.saved, formatBytes(sizeOf(read)), read.reason, read.at]
      );
      const head = ["", "saved", "size", "for", "in"];
      for (const line of formatTable([head, ...rows], "rlrll")) print(line);
    });
}

/** Bytes of all that a checkpoint needs; several may need the same. */
function sizeOf({ memory, disks }: Checkpoint): number {
  return memory.sizeBytes +
    disks.flatMap(({ layers }) => layers).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function checkpointObject({ number, read }: ListedCheckpoint): object {
  if (typeof read === "string") return { number, fault: read };
  const { saved, reason, at, accel, qemu } = read;
  return { number, fault: null, saved, reason, at, accel, qemu, sizeBytes: sizeOf(read) };
}

function rmSubcommand(): CommandUnknownOpts {
  return new Command("rm")
    .summary("remove checkpoints")
    .description("remove checkpoints of a target, and what only they need")
    .argument("<target>", "directory that was run")
    .argument("[number...]", "which checkpoints")
    .option("--all", "all of them, and what guests have written: the images are as they were built")
    .action((target, numbers, { all = false }) => {
      if (all === numbers.length > 0) {
        throw new UserError("usage", "Cannot remove checkpoints: name them, or use --all", {
          hint: `See what there is with: seedstrap checkpoint ls ${target}`,
        });
      }
      const parsed = numbers.map((text) => parseCheckpointNumber(text, "a checkpoint"));
      const freed = removeCheckpointsOf(target, all ? "all" : parsed);
      print(
        freed === undefined
          ? `${checkpointsDir(target)}: removed`
          : `${counted(parsed.length, "checkpoint")} removed, ${formatBytes(freed)} freed`,
      );
    });
}

function exportSubcommand(): CommandUnknownOpts {
  return new Command("export")
    .summary("write a checkpoint to one file, for another machine")
    .description("write a checkpoint to one compressed file, to go on from on another machine")
    .argument("[target]", "directory that was run", "target")
    .allowExcessArguments(false)
    .requiredOption("-o, --output <file>", "the file, which must not exist")
    .option("--from <number>", "the checkpoint; default: the last one")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
The images are not in it: build them there with the same seedstrap, from the same checkout, with the
same options. Every byte is verified when it is written and when it is read.`,
    )
    .action((target, { output, from, json }) =>
      withInterrupt(async (signal) => {
        const number = from === undefined ? undefined : parseCheckpointNumber(from, "--from");
        const { checkpoint, sizeBytes } = await withProgress((progress) =>
          exportCheckpoint(target, number, output, { progress, signal })
        );
        if (json) return printJson({ ...carriedObject(checkpoint), output, sizeBytes });
        const what = `checkpoint ${checkpoint.number}, saved in ${checkpoint.at}`;
        print(`${output}: ${what}, ${formatBytes(sizeBytes)}; QEMU was ${checkpoint.qemu}`);
      })
    );
}

function importSubcommand(): CommandUnknownOpts {
  return new Command("import")
    .summary("take a checkpoint of another machine into a target")
    .description("take a checkpoint that was exported into a target of the same images")
    .argument("<file>", "what checkpoint export has written")
    .argument("[target]", "directory that was built", "target")
    .allowExcessArguments(false)
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
QEMU trusts what it loads: import only what was saved on a machine that you trust. seedstrap resume
goes on from it, with a QEMU of the same series, such as 7.2.`,
    )
    .action((file, target, { json }) =>
      withInterrupt(async (signal) => {
        const checkpoint = await withProgress((progress) =>
          importCheckpoint(file, target, { progress, signal })
        );
        if (json) return printJson(carriedObject(checkpoint));
        const what = `checkpoint ${checkpoint.number}, saved in ${checkpoint.at}`;
        print(`${target}: ${what}; QEMU was ${checkpoint.qemu}`);
        print(`go on with: ${shellQuote(["seedstrap", "resume", target])}`);
      })
    );
}

function carriedObject({ number, saved, at, reason, accel, qemu }: Checkpoint): object {
  return { number, saved, at, reason, accel, qemu };
}

function diskSubcommand(): CommandUnknownOpts {
  return new Command("disk")
    .summary("write the disk of a guest to one file")
    .description("write the disk of a guest, its image and all that was written, to one raw file")
    .argument("[target]", "directory that was run", "target")
    .allowExcessArguments(false)
    .requiredOption("-o, --output <file>", "the file, which must not exist")
    .option("--image <name>", "which disk; default: the first one")
    .option("--from <number>", "as it was at a checkpoint; default: as the guest left it")
    .option("--json", "for scripts")
    .action((target, { output, image, from, json }) =>
      withInterrupt(async (signal) => {
        const number = from === undefined ? undefined : parseCheckpointNumber(from, "--from");
        const written = await withProgress((progress) =>
          writeGuestDisk({ target, image, number }, output, { progress, signal })
        );
        if (json) return printJson({ ...written, output });
        print(`${output}: the disk ${written.image}, ${formatBytes(written.sizeBytes)}`);
      })
    );
}
