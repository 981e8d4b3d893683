// SPDX-License-Identifier: MIT
/**
 * Finds a checkpoint that the user names.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { type Checkpoint, checkpointsDir, listCheckpoints } from "../record/checkpoints.ts";

/**
 * A checkpoint of a target, by its number, or the last one. Only its record is read.
 *
 * @throws {UserError} "target" where there is none, or its record is damaged.
 */
export function pickCheckpoint(dir: string, number: number | undefined): Checkpoint {
  const found = listCheckpoints(dir);
  const picked = number === undefined ? found.at(-1) : found.find((one) => one.number === number);
  const what = number === undefined ? "a checkpoint" : `checkpoint ${number}`;
  if (picked === undefined) {
    throw new UserError("target", `Cannot find ${what} of ${dir}`, {
      where: checkpointsDir(dir),
      hint: `See what there is with: ${shellQuote(["seedstrap", "checkpoint", "ls", dir])}`,
    });
  }
  if (typeof picked.read !== "string") return picked.read;
  throw new UserError(
    "target",
    `Cannot use checkpoint ${picked.number} of ${dir}: ${picked.read}`,
    {
      where: checkpointsDir(dir),
    },
  );
}
