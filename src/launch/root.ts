// SPDX-License-Identifier: MIT
/**
 * Runs a bootstrap in a directory, under the kernel of this machine.
 *
 * @module
 */

import { constants } from "node:os";
import process from "node:process";
import { UserError } from "../errors.ts";
import { libc } from "../runtime/libc.ts";
import { contain, ROOT_HINT } from "./contain.ts";
import { asRoot } from "./mount.ts";
import {
  findSystemProgram,
  requireProgram,
  type RunningChild,
  runProcess,
  shellQuote,
} from "./process.ts";

/** The hint if a program is missing. */
const HINT = "Install it, or use another mode";

/** What to run. */
export interface RootRun {
  /** Program and arguments. */
  readonly argv: readonly string[];
  /** Whether only root may run it; then this command, and only this one, runs through sudo. */
  readonly needsRoot: boolean;
  /** Gives the bootstrap our terminal; otherwise it has no input, and what it prints is taken. */
  readonly interactive: boolean;
  /** Takes what it prints, as it comes: any bytes, cut anywhere. */
  readonly onOutput: (chunk: Uint8Array) => void;
  /** Told when it runs: the process that all others of the bootstrap descend from. */
  readonly onProcess?: ((first: RunningChild) => void) | undefined;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Takes a message about what does not work as it should here. */
  readonly onNotice: (text: string) => void;
}

/**
 * Returns the command to run: programs by their full paths, with sudo if only root may run it.
 *
 * @throws {UserError} "launch" if a program is missing, or this is no Linux.
 */
export async function rootCommand(
  { argv, needsRoot }: Pick<RootRun, "argv" | "needsRoot">,
): Promise<string[]> {
  return (await locatedCommand({ argv, needsRoot })).whole;
}

async function locatedCommand(
  { argv, needsRoot }: Pick<RootRun, "argv" | "needsRoot">,
): Promise<{ readonly command: string[]; readonly whole: string[] }> {
  if (process.platform !== "linux") {
    throw new UserError("launch", "Cannot start a directory here: its programs are for Linux", {
      hint: "Use --qemu, or a machine with Linux",
    });
  }
  const command = await Promise.all(argv.map(locate));
  const whole = needsRoot ? asRoot(command) : command;
  await requireProgram(whole[0]!, { hint: whole[0] === "sudo" ? ROOT_HINT : HINT });
  return { command, whole };
}

/**
 * Runs the bootstrap to its end, with our standard output and standard error. Whatever it has
 * started ends with it.
 *
 * @throws {UserError} "launch" if a program is missing; "step" if the bootstrap, or what starts it,
 * fails; "died" if it is killed; "interrupt".
 */
export async function runRoot(
  { argv, needsRoot, interactive, onOutput, onProcess, signal, onNotice }: RootRun,
): Promise<void> {
  const { command, whole } = await locatedCommand({ argv, needsRoot });
  const contained = await contain(command, needsRoot, signal, onNotice);
  signal.addEventListener("abort", contained.release, { once: true });
  const outcome = await runProcess({
    argv: contained.argv,
    stdin: interactive ? "inherit" : "ignore",
    ...(!interactive && { onStdout: onOutput, onStderr: onOutput }),
    ...(onProcess && { onSpawn: onProcess }),
    // sudo may have to ask for a password, on the terminal.
    isApart: !interactive && process.getuid?.() === 0,
    signal,
    hint: HINT,
  }).finally(() => {
    signal.removeEventListener("abort", contained.release);
    contained.release();
    // A shell in a PID namespace cannot give the terminal back to a group outside.
    if (interactive) libc()?.takeTerminal(0);
  });
  const ended = outcome.signal ?? (contained.isShell ? signalOfShell(outcome.code) : null);
  const code = ended === null ? outcome.code : null;
  if (signal.aborted) throw new UserError("interrupt", "Interrupted, the bootstrap was ended");
  if (code === 0) return;
  if (ended === "SIGINT" || ended === "SIGQUIT") {
    throw new UserError("interrupt", "Interrupted in the bootstrap");
  }
  const end = ended === null ? `exit code ${code}` : `killed by ${ended}`;
  throw new UserError(ended === null ? "step" : "died", `${end}: ${shellQuote(whole)}`);
}

/** Returns the signal that a shell's exit code tells of: 128 and its number. */
function signalOfShell(code: number | null): string | null {
  const found = Object.entries(constants.signals).find(([, number]) => number + 128 === code);
  return found?.[0] ?? null;
}

/** Returns the full path of chroot and bwrap: `env -i` leaves no PATH to find them in. */
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
