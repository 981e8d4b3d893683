// SPDX-License-Identifier: MIT
/**
 * The user's terminal while a guest runs: it is left as it was found, and keys that are typed for
 * nobody do not end up in the user's shell.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { findProgram } from "./process.ts";

/** Line wrap on, cursor visible, no attributes: what guests and firmware change. */
const RESTORE = "\x1b[?7h\x1b[?25h\x1b[0m";

/**
 * Runs something while the terminal is guarded.
 *
 * @param isLent Whether the guest has the terminal for itself: then keys are its own, and its output
 * may have left anything in it.
 */
export async function guardingTerminal<T>(isLent: boolean, run: () => Promise<T>): Promise<T> {
  const program = isForeground() ? await findProgram("stty") : undefined;
  const stty = (...args: string[]) => program && callStty(program, args);
  const saved = stty("-g");
  const swallow = () => {};
  const swallows = saved !== undefined && !isLent;
  if (swallows) {
    stty("-echo", "-icanon");
    process.stdin.on("data", swallow);
  }
  try {
    return await run();
  } finally {
    if (swallows) {
      process.stdin.off("data", swallow);
      process.stdin.pause();
    }
    if (saved !== undefined) stty(saved);
    if (isLent && process.stdout.isTTY) process.stdout.write(RESTORE);
  }
}

/** Runs stty on our terminal. @returns What it printed; undefined where it failed. */
function callStty(program: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(program, args, {
    stdio: ["inherit", "pipe", "ignore"],
    encoding: "utf8",
  });
  return status === 0 ? stdout.trim() : undefined;
}

/**
 * Reports whether we are in the foreground of the terminal that is our standard input: to read it
 * or to change it from the background would stop us.
 *
 * @see proc(5): fields 5 and 8 of /proc/PID/stat, the process group and that of the foreground
 */
function isForeground(): boolean {
  if (!process.stdin.isTTY) return false;
  try {
    const stat = readFileSync("/proc/self/stat", "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[2] === fields[5];
  } catch {
    return true; // no /proc: nobody starts a guest in the background there by chance
  }
}
