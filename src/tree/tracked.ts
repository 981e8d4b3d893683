// SPDX-License-Identifier: MIT
/**
 * Which files of a checkout git tracks, without running git.
 *
 *   GITDIR/index   the paths that it tracks; a submodule is one path, and has an index of its own
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../errors.ts";
import { type IndexedPath, readGitIndex } from "../format/git_index.ts";
import { readWhole } from "../read.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { findGitDir } from "./git.ts";

/** Longest index that is read: some 100 bytes a path, and live-bootstrap has some 2,000. */
const MAX_INDEX_FILE_BYTES = 64 * 1024 * 1024;
/** Most work trees and deepest nesting: live-bootstrap has some twenty, in four levels. */
const MAX_WORK_TREES = 1000;
const MAX_NESTING = 8;

/** The paths that git tracks in a checkout and its submodules, relative to the checkout. */
export interface Tracked {
  /** Reports whether git tracks a file, or a link to it or to a directory above it. */
  has(path: string): boolean;
  /** Reports whether git tracks anything below a directory. */
  hasBelow(path: string): boolean;
}

/**
 * Reads which files of a checkout git tracks.
 *
 * @param root Absolute.
 * @returns undefined if this is no work tree of git, or its index cannot be read: no build should
 * fail for that.
 */
export function readTracked(root: string): Tracked | undefined {
  /** Tracked files and links, and directories about whose content nothing is known. */
  const whole = new Set<string>();
  const above = new Set<string>();
  let count = 0;
  const add = (dir: string, depth: number): boolean => {
    const paths = ++count > MAX_WORK_TREES || depth > MAX_NESTING
      ? undefined
      : indexOf(join(root, dir));
    if (paths === undefined) return false;
    for (const { path, kind } of paths) {
      const place = dir === "" ? path : `${dir}/${path}`;
      for (const parent of parentsOf(place)) above.add(parent);
      if (kind === "submodule" && add(place, depth + 1)) above.add(place);
      else whole.add(place);
    }
    return true;
  };
  if (!add("", 1)) return undefined;
  const has = (path: string) => [...parentsOf(path), path].some((place) => whole.has(place));
  return { has, hasBelow: (path) => above.has(path) || has(path) };
}

function indexOf(dir: string): readonly IndexedPath[] | undefined {
  try {
    const gitDir = findGitDir(dir);
    const path = gitDir && join(gitDir, "index");
    if (path === undefined || lstatIfThere(path)?.isFile() !== true) return undefined;
    return readGitIndex(readWhole(path, { limitBytes: MAX_INDEX_FILE_BYTES }), path);
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** Returns the directories above a path, outermost first. */
function parentsOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}

/**
 * Returns paths that git does not track; instead of all files of a directory, the outermost
 * directory in which it tracks nothing, with a slash at its end.
 *
 * @param paths Files, relative to the checkout.
 */
export function findUntracked(tracked: Tracked, paths: readonly string[]): string[] {
  return [
    ...new Set(
      paths.filter((path) => !tracked.has(path)).map((path) => {
        const dir = parentsOf(path).find((parent) => !tracked.hasBelow(parent));
        return dir === undefined ? path : `${dir}/`;
      }),
    ),
  ];
}
