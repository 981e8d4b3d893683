// SPDX-License-Identifier: MIT
/** `seedstrap checkpoint`: lists and removes what a run can go on from. */

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
import { printJson } from "./json.ts";
import { counted, formatBytes, formatTable, print } from "./output.ts";

/** Longest time between two checkpoints: a week. */
const MAX_MINUTES = 7 * 24 * 60;
const MAX_KEPT = 1000;
const MAX_NUMBER = 999_999_999;

/** Declares `--checkpoint`, with what it is where it is not given. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function checkpointOption(unset: "off" | "auto") {
  return new Option(
    "--checkpoint <when>",
    "save the whole machine: auto (each jump, before a step, every 30 min), off, or minutes",
  ).default(unset);
}

/** Declares `--keep-checkpoints`. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function keepOption() {
  return new Option(
    "--keep-checkpoints <n>",
    "so many checkpoints are kept, and each jump's",
  ).default(String(KEPT_CHECKPOINTS));
}

/**
 * Parses `--checkpoint` and `--keep-checkpoints`.
 *
 * @returns undefined for off.
 * @throws {UserError} "usage"
 */
export function parseCheckpoints(
  { checkpoint, keepCheckpoints }: {
    readonly checkpoint: string;
    readonly keepCheckpoints: string;
  },
): CheckpointTimes | undefined {
  const keep = parseCount(keepCheckpoints, "--keep-checkpoints", 1, MAX_KEPT);
  if (checkpoint === "off") return undefined;
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
    .summary("list or remove what a run can go on from")
    .description("list or remove the checkpoints of a target")
    .addCommand(lsSubcommand())
    .addCommand(rmSubcommand());
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
