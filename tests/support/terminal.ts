// SPDX-License-Identifier: MIT
/**
 * Tests at a terminal, which script(1) provides.
 *
 * @module
 */
import { test } from "bun:test";
import { spawnSync } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import { shellQuote } from "../../src/launch/process.ts";
import { run } from "./run.ts";

/** Returns `test`, or `test.skip` if there are no terminals here, with the reason printed. */
export function testAtTerminal(): typeof test | typeof test.skip {
  const { status, stdout, stderr, error } = spawnSync("script", ["-qec", "true", "/dev/null"]);
  if (status === 0) return test;
  const why = error?.message ?? `${stdout}${stderr}`.trim();
  console.log(`skipped: tests at a terminal: script: ${why}`);
  return test.skip;
}

/** Prints with a terminal of this size, as most people have it at first. */
export const SCREEN = { rows: 24, columns: 80 } as const;

/** Runs a program at a terminal of {@link SCREEN} and returns what a person sees, line by line. */
export async function seenAtTerminal(argv: readonly string[], cwd: string): Promise<string[]> {
  const { rows, columns } = SCREEN;
  const words = `stty rows ${rows} cols ${columns}; ${shellQuote(argv)}`;
  const { stdout } = await run(["script", "-qec", words, "/dev/null"], { cwd });
  return stripVTControlCharacters(stdout).replaceAll("\r", "").trimEnd().split("\n");
}

/** Returns how many rows of the terminal lines take: it wraps what is too wide. */
export function rowsOf(lines: readonly string[]): number {
  return lines.reduce(
    (sum, { length }) => sum + Math.max(1, Math.ceil(length / SCREEN.columns)),
    0,
  );
}
