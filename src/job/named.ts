// SPDX-License-Identifier: MIT
/**
 * What the record of a target names of this machine. A record may come from anywhere: its numbers
 * are used, and a program or a file only if the user names it.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { type BuildOptions, defaultOptions } from "../plan/options.ts";

/**
 * Returns the QEMU to start for a target.
 *
 * @param named The one that the user names.
 * @param dir The target, absolute.
 * @throws {UserError} "usage" where the target has another than the default, and the user names none.
 */
export function confirmedQemu(
  { mode, qemuCommand }: BuildOptions,
  named: string | undefined,
  dir: string,
): string {
  if (named !== undefined) return named;
  if (qemuCommand === defaultOptions(mode).qemuCommand) return qemuCommand;
  throw notNamed(dir, "another QEMU", `--qemu-cmd ${shellQuote([qemuCommand])}`);
}

/** The error for a target whose record names something that the user does not. */
export function notNamed(dir: string, what: string, option: string): UserError {
  return new UserError("usage", `Cannot run ${dir} without ${option}: its record names ${what}`, {
    where: dir,
    hint: `If you trust it, name it yourself: ${option}`,
  });
}
