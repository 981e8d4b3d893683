// SPDX-License-Identifier: MIT
/**
 * Empty files and directories of the steps that a kernel bootstrap would lose.
 *
 * builder-hex0 does not distinguish an empty file from a directory, and the program that copies its
 * files into the Fiwix ramdisk drops both, or makes files of them. Right after the jump, an improve
 * of the overlay creates them again.
 *
 * @module
 */

import { isStepPath } from "../tree/extra.ts";
import type { ActiveLine, Manifest } from "../tree/manifest.ts";
import type { Boundaries } from "./split.ts";
import type { PlannedEntry } from "./types.ts";

/** The entries lost at the jump: paths relative to the root, in the order of the image. */
export interface LostEntries {
  readonly files: readonly string[];
  readonly directories: readonly string[];
}

/**
 * Finds the entries that are lost at `jump: fiwix` and that a step may need after it: all those
 * below `steps/` except those of steps that are only built before the jump, and those of extra
 * builds.
 *
 * @param entries The boot image, with all empty directories of the checkout.
 */
export function findLost(
  entries: readonly PlannedEntry[],
  manifest: Manifest,
  active: readonly ActiveLine[],
  { fiwix }: Boundaries,
): LostEntries {
  const built = active.filter(({ line }) => line.kind === "build");
  const later = new Set(built.filter(({ index }) => index > fiwix).map(({ line }) => line.name));
  const steps = new Set(
    manifest.lines.flatMap((line) => line.kind === "build" ? [line.name] : []),
  );
  const isNeeded = ({ path }: PlannedEntry) => {
    const [, top = "", step] = path.split("/");
    if (!isStepPath(top) || step === undefined) return false;
    return top !== "steps" || later.has(step) || !steps.has(step);
  };
  const parents = new Set(entries.map(({ path }) => path.slice(0, path.lastIndexOf("/"))));
  const empty = entries.filter((entry) => entry.size === 0 && isNeeded(entry));
  const pathsOf = (kind: "tree" | "directory") =>
    empty.filter(({ content }) => content.kind === kind).map(({ path }) => path.slice(2));
  return {
    files: pathsOf("tree"),
    directories: pathsOf("directory").filter((path) => !parents.has(`./${path}`)),
  };
}

/**
 * Returns the entries of a boot image without those that are created again. After the jump, a
 * directory that is empty, or of which all content is lost, would be a file in their way.
 */
export function withoutLost(
  entries: readonly PlannedEntry[],
  { files, directories }: LostEntries,
): PlannedEntry[] {
  const lost = new Set([...files, ...directories].map((path) => `./${path}`));
  let kept = entries.filter(({ path }) => !lost.has(path));
  const above = new Set([...lost].flatMap(parentsOf));
  // From the inside out, as a directory may contain only such directories.
  for (const path of [...above].sort((a, b) => b.length - a.length)) {
    if (!kept.some((entry) => entry.path.startsWith(`${path}/`))) {
      kept = kept.filter((entry) => entry.path !== path);
    }
  }
  return kept;
}

/** Returns the directories above a path, without the root. */
function parentsOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.slice(1).map((_, index) => parts.slice(0, index + 2).join("/"));
}

export const NOTHING_LOST: LostEntries = { files: [], directories: [] };

/** Returns the lost entries that the first shells can create again. */
export function canMakeAgain({ files, directories }: LostEntries): LostEntries {
  return { files: files.filter(isPlainPath), directories: directories.filter(isPlainPath) };
}

/** Returns the lost paths that they cannot create again. */
export function lostForGood({ files, directories }: LostEntries): string[] {
  return [...files, ...directories].filter((path) => !isPlainPath(path));
}

/** Reports whether a path can appear in a script of the first shells, which have no escapes. */
function isPlainPath(path: string): boolean {
  return /^[\w ./+@%:=,~-]+$/.test(path);
}

/**
 * Returns the script that creates them again. kaem runs it, and a later shell could.
 *
 * @param lost See {@link canMakeAgain}.
 */
export function restoreScript({ files, directories }: LostEntries): string {
  const above = files.map((path) => path.slice(0, path.lastIndexOf("/")));
  const dirs = [...new Set([...directories, ...above])].sort();
  return [
    "#!/bin/sh",
    "#",
    "# SPDX-License-Identifier: MIT",
    "",
    "# Makes the empty files and directories again that were lost at the jump.",
    "",
    "set -ex",
    "",
    ...dirs.map((path) => `mkdir -p "/${path}"`),
    ...files.map((path) => `catm "/${path}"`),
    "",
  ].join("\n");
}
