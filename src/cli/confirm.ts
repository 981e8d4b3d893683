// SPDX-License-Identifier: MIT
/**
 * Asks for confirmation before a device or a file is overwritten.
 *
 * @module
 */

import { basename } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { WriteTarget } from "../device/candidates.ts";
import { UserError } from "../errors.ts";
import { printable } from "../text.ts";

/** Returns what `--yes` must be: the serial number, or the name of a target that has none. */
export function confirmationOf(target: WriteTarget): string {
  return target.kind === "device"
    ? target.device.serial || target.device.name
    : basename(target.path);
}

/**
 * Makes sure that the user means this target: asks on the terminal, or checks `yes`.
 *
 * @param yes Value of `--yes`, if it was given.
 * @throws {UserError} "usage" for another answer, or without a terminal to ask on; "interrupt"
 */
export async function confirmTarget(
  target: WriteTarget,
  yes: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const want = confirmationOf(target);
  if (yes !== undefined) {
    if (yes === want) return;
    const what = target.kind === "device" && target.device.serial !== "" ? "serial" : "name";
    throw new UserError(
      "usage",
      `Cannot write to ${target.path}: --yes ${yes} is not its ${what}, ${want}`,
      { hint: "Check that it is the right device: seedstrap devices" },
    );
  }
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) {
    throw new UserError("usage", `Cannot write to ${target.path}: there is no terminal to ask on`, {
      hint: `Confirm it with --yes ${want}`,
    });
  }
  const name = basename(target.path);
  const what = target.kind === "device" ? "Everything on it" : "What is in the file";
  const answer = await ask(`${what} is lost. Type ${printable(name)} to go on: `, signal);
  if ([name, target.path].includes(answer?.trim() ?? "")) return;
  throw new UserError("usage", `Cannot write to ${target.path}: the answer was not ${name}`);
}

/** Reads a line from the terminal; returns undefined at the end of input. */
async function ask(question: string, signal: AbortSignal): Promise<string | undefined> {
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await new Promise((resolve, reject) => {
      const interrupt = () =>
        reject(new UserError("interrupt", "Interrupted, nothing was written"));
      signal.addEventListener("abort", interrupt, { once: true });
      // In raw mode Ctrl-C is a key, and no signal.
      reader.on("SIGINT", interrupt);
      reader.on("close", () => resolve(undefined));
      reader.question(question, resolve);
    });
  } finally {
    reader.close();
    process.stdin.pause();
  }
}
