// SPDX-License-Identifier: MIT
/**
 * Tests at a terminal, which script(1) provides.
 *
 * @module
 */
import { test } from "bun:test";
import { spawnSync } from "node:child_process";

/** Returns `test`, or `test.skip` if there are no terminals here, with the reason printed. */
export function testAtTerminal(): typeof test | typeof test.skip {
  const { status, stdout, stderr, error } = spawnSync("script", ["-qec", "true", "/dev/null"]);
  if (status === 0) return test;
  const why = error?.message ?? `${stdout}${stderr}`.trim();
  console.log(`skipped: tests at a terminal: script: ${why}`);
  return test.skip;
}
