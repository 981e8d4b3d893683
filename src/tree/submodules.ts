// SPDX-License-Identifier: MIT
/**
 * Finds submodules of a checkout that git has not cloned.
 *
 * `.gitmodules` of the checkout and of each submodule names their paths:
 *
 *   [submodule "NAME"]
 *           path = PATH
 *
 * A clone without `--recursive`, or one that was interrupted, leaves a directory with nothing in it
 * but perhaps `.git`. Source: gitmodules(5).
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../errors.ts";
import { hasTreeFile, holdsAnything, readTreeText } from "./checkout.ts";

/** The submodule that has submodules of its own. */
export const STAGE0 = "seed/stage0-posix";

/** Deepest nesting that is read: live-bootstrap has three levels. */
const MAX_DEPTH = 8;
/** Most submodules that are looked at: live-bootstrap has some twenty. */
const MAX_SUBMODULES = 1000;

/**
 * Returns the paths of empty or absent submodules, relative to the checkout, each after the one that
 * it is in.
 *
 * @throws {UserError} "tree" for a `.gitmodules` that cannot be read.
 */
export function findEmptySubmodules(root: string): string[] {
  const empty: string[] = [];
  const seen = new Set<string>();
  const look = (dir: string, depth: number) => {
    for (const inner of submodulePaths(root, dir)) {
      const path = dir === "" ? inner : `${dir}/${inner}`;
      if (seen.has(path) || seen.size === MAX_SUBMODULES || depth > MAX_DEPTH) continue;
      seen.add(path);
      if (holdsAnything(root, path)) look(path, depth + 1);
      else empty.push(path);
    }
  };
  look("", 1);
  // A copy of a checkout may lack the first of these files.
  look(STAGE0, 2);
  return empty;
}

function submodulePaths(root: string, dir: string): string[] {
  const file = dir === "" ? ".gitmodules" : `${dir}/.gitmodules`;
  if (!hasTreeFile(root, file)) return [];
  const lines = readTreeText(root, file).matchAll(/^\s*path\s*=\s*"?([^"\n]*?)"?\s*$/gm);
  return [...lines].map(([, path]) => path!.replace(/\/+$/, "")).filter(isInside);
}

/** Reports whether a path leads to something below the directory that it is relative to. */
function isInside(path: string): boolean {
  return path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/** Returns the error for submodules that a bootstrap needs and that are empty. */
export function emptySubmoduleError(root: string, paths: readonly string[]): UserError {
  const [first] = paths;
  const what = paths.length === 1
    ? `the submodule ${first} is empty`
    : `${paths.length} submodules are empty: ${paths.join(", ")}`;
  return new UserError("tree", `Cannot bootstrap with this checkout: ${what}`, {
    where: join(root, first!),
    hint: "Run git submodule update --init --recursive in the checkout",
  });
}
