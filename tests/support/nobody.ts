// SPDX-License-Identifier: MIT
/**
 * Another user, who may read nothing that is not for everybody: not even our sources, where they
 * lie in root's home.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { MAIN } from "./run.ts";

/** Words in front of a command that make it run as this user. */
export const NOBODY: readonly string[] = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
];

/** Why nothing can be run as another user here, or undefined. */
export function nobodyObstacle(): string | undefined {
  const { status, stderr, error } = spawnSync("setpriv", [...NOBODY.slice(1), "true"]);
  if (status === 0) return undefined;
  return `setpriv: ${error?.message ?? stderr.toString().trim()}`;
}

/**
 * Compiles a program to where everybody can run it.
 *
 * @param dir A directory, which everybody may enter then.
 * @returns The command that runs it as another user; give it a `cwd` that this user may enter.
 */
export function asNobody(dir: string, source: string = MAIN): string[] {
  chmodSync(dir, 0o755);
  const binary = join(dir, "program-for-everybody");
  // As scripts/build.sh does it: a thread is an entry point of its own.
  const root = new URL("../../src", import.meta.url).pathname;
  const entries = source === MAIN
    ? ["--root", root, MAIN, join(root, "write/sink_worker.ts")]
    : [source];
  const args = ["build", "--compile", "--format=esm", ...entries, "--outfile", binary];
  const { status, stderr } = spawnSync(process.execPath, args);
  if (status !== 0) throw new Error(`cannot compile ${source}: ${stderr}`);
  return [...NOBODY, binary];
}
