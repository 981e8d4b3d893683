// SPDX-License-Identifier: MIT
/**
 * A terminal, which script(1) gives to a program.
 *
 * @module
 */
import { test } from "bun:test";
import { spawnSync } from "node:child_process";

/** `test`, or where there are no terminals to be had a skipped one, with the reason printed. */
export function testAtTerminal(): typeof test | typeof test.skip {
  const { status, stdout, stderr, error } = spawnSync("script", ["-qec", "true", "/dev/null"]);
  if (status === 0) return test;
  const why = error?.message ?? `${stdout}${stderr}`.trim();
  console.log(`skipped: tests at a terminal: script: ${why}`);
  return test.skip;
}
