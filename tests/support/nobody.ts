// SPDX-License-Identifier: MIT
/**
 * Runs programs as another user, who may read only what everybody may: not our sources, if they are
 * in root's home.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { MAIN } from "./run.ts";

/** Words before a command that make it run as this user. */
export const NOBODY: readonly string[] = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
];

/** Returns why nothing can be run as another user here, or undefined. */
export function nobodyObstacle(): string | undefined {
  const { status, stderr, error } = spawnSync("setpriv", [...NOBODY.slice(1), "true"]);
  if (status === 0) return undefined;
  return `setpriv: ${error?.message ?? stderr.toString().trim()}`;
}

/**
 * Compiles a program into a directory where everybody can run it.
 *
 * @param dir The directory; everybody may enter it from then on.
 * @returns The command that runs it as another user; give it a `cwd` that this user may enter.
 */
export function asNobody(dir: string, source: string = MAIN): string[] {
  chmodSync(dir, 0o755);
  const binary = join(dir, "program-for-everybody");
  // As scripts/build.sh does it: each worker thread is an entry point of its own.
  const root = new URL("../../src", import.meta.url).pathname;
  const entries = source === MAIN
    ? [
      "--root",
      root,
      MAIN,
      ...["device/digest", "hash/hash"].map((n) => join(root, `${n}_worker.ts`)),
    ]
    : [source];
  const args = ["build", "--compile", "--format=esm", ...entries, "--outfile", binary];
  const { status, stderr } = spawnSync(process.execPath, args);
  if (status !== 0) throw new Error(`cannot compile ${source}: ${stderr}`);
  return [...NOBODY, binary];
}
