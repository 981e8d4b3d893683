// SPDX-License-Identifier: MIT
/**
 * Runs a bootstrap in a directory, under the kernel that runs already.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { asRoot } from "./mount.ts";
import { findSystemProgram, runProcess, shellQuote } from "./process.ts";

/** What to run. */
export interface RootRun {
  /** Program and arguments. */
  readonly argv: readonly string[];
  /** Whether only root may run it: then by sudo, for this command alone. */
  readonly needsRoot: boolean;
  /** Gives the bootstrap our terminal; otherwise it has no input. */
  readonly interactive: boolean;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Runs it to its end, with our standard output and standard error.
 *
 * @throws {UserError} "launch" where a program is missing or the bootstrap fails, "interrupt"
 */
export async function runRoot({ argv, needsRoot, interactive, signal }: RootRun): Promise<void> {
  const command = await Promise.all(argv.map(locate));
  const whole = needsRoot ? asRoot(command) : command;
  const { code, signal: ended } = await runProcess({
    argv: whole,
    stdin: interactive ? "inherit" : "ignore",
    signal,
    hint: "Install it, or use another mode",
  });
  if (signal.aborted) throw new UserError("interrupt", "Interrupted, the bootstrap was ended");
  if (code === 0) return;
  if (ended === "SIGINT") throw new UserError("interrupt", "Interrupted in the bootstrap");
  const end = ended === null ? `failed with exit code ${code}` : `was killed by ${ended}`;
  throw new UserError("launch", `The bootstrap ${end}: ${shellQuote(whole)}`);
}

/** `env -i` leaves chroot and bwrap without a PATH to be found in. */
async function locate(word: string): Promise<string> {
  switch (word) {
    case "chroot":
      return await findSystemProgram(word, "It is part of coreutils");
    case "bwrap":
      return await findSystemProgram(word, "On Debian: apt-get install bubblewrap");
    default:
      return word;
  }
}
