// SPDX-License-Identifier: MIT
/**
 * Builds the target that the tests of the command line share.
 *
 * @module
 */
import { join } from "node:path";
import { type Ran, seedstrap } from "../support/run.ts";
import { type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

/** Writes a miniature tree below a directory and returns the arguments that build it there. */
export function setUp(dir: string, options: MiniOptions = {}): string[] {
  const { tree, mirror } = writeMiniTree(dir, miniTree({ importsPayload: true, ...options }));
  return ["--tree", tree, "-m", `file://${mirror}`, "--distfiles", join(dir, "store")];
}

/** Builds both images of a miniature tree in `DIR/target`. */
export function buildIn(dir: string, args: readonly string[]): Promise<Ran> {
  return seedstrap([
    "build",
    "--bare-metal",
    "--external-sources",
    ...args,
    "-t",
    join(dir, "target"),
  ]);
}
