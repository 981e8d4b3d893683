// SPDX-License-Identifier: MIT
/**
 * Starts this program again in a session of its own, without our terminal and our descriptors.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import process from "node:process";
import { systemCode } from "../errors.ts";
import { loaderCommand, ownBinary } from "./binary.ts";
import { libc } from "./libc.ts";
import { statIfThere } from "./stat.ts";

/** A process that {@link startApart} has started. */
export interface ApartProcess {
  readonly pid: number;
  /** Settles when it has ended, with what it ended with; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Sends it a signal, unless it has ended. */
  kill(signal: "SIGTERM"): void;
}

/** The words that start this program. */
function ownCommand(): [string, ...string[]] {
  const binary = ownBinary();
  // By its name, if that still leads to it, so that people know it in a list of processes.
  if (binary !== undefined) {
    const byLoader = loaderCommand();
    if (byLoader !== undefined) return byLoader;
    return [isSameFile(process.execPath, binary) ? process.execPath : binary];
  }
  const main = process.argv[1]!;
  return "Bun" in globalThis
    ? [process.execPath, main]
    : [process.execPath, "run", "--quiet", "-A", main];
}

/**
 * Starts this program in a session of its own. We may end before it.
 *
 * @param args Its arguments.
 * @param output A descriptor, for its standard output and error.
 * @param env What it has in its environment, besides what we have.
 * @throws The system's error where it cannot be started.
 */
export async function startApart(
  args: readonly string[],
  output: number,
  env: Readonly<Record<string, string>>,
): Promise<ApartProcess> {
  const [program, ...words] = ownCommand();
  // What a shell has opened for us would stay open as long as the child lives: a lock, or the pipe
  // whose end ssh waits for.
  for (const file of openFiles()) ignoring(() => libc()?.closeOnExec(file));
  const child = spawn(program, [...words, ...args], {
    detached: true,
    stdio: ["ignore", output, output],
    env: { ...process.env, ...env },
  });
  const ended = new Promise<number | null>((settle) => child.once("exit", settle));
  await new Promise((settle, fail) => child.once("spawn", settle).once("error", fail));
  child.unref();
  let hasEnded = false;
  void ended.then(() => hasEnded = true);
  return {
    pid: child.pid!,
    ended,
    kill: (signal) => {
      if (!hasEnded) ignoring(() => process.kill(child.pid!, signal));
    },
  };
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [statIfThere(one), statIfThere(other)];
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino;
}

/** Our descriptors after the standard streams; none where there is no /proc. */
function openFiles(): number[] {
  return (ignoring(() => readdirSync("/proc/self/fd")) ?? []).map(Number).filter((n) => n > 2);
}

function ignoring<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
