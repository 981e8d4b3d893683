// SPDX-License-Identifier: MIT
/**
 * The inputs of a build other than the checkout: prebuilt packages, and an archive with the results
 * of the first steps.
 *
 * @module
 */

import { fileFinder, type LeftOut } from "../archive/entries.ts";
import type { Archive } from "../archive/types.ts";
import { UserError } from "../errors.ts";
import type { TreeEntry } from "../tree/entry.ts";
import type { AddedDirectory } from "./added.ts";
import { archDir } from "./config.ts";
import { FIRST_SCRIPT, seedPath } from "./entries.ts";
import { type BuildOptions, startOf } from "./options.ts";
import { SEED_COMMANDS, SEED_DIRECTORIES } from "./types.ts";

/** The inputs of a build other than the checkout. */
export interface Extras {
  /** Prebuilt packages; may be empty. */
  readonly repo: readonly TreeEntry[];
  /** Directories of the user, in the order in which they were given. */
  readonly added?: readonly AddedDirectory[];
  /** Replaces stage0-posix and the files of seed/ in the root. */
  readonly preseed?: Archive;
}

/** Names at the top level of an archive that are replaced by those of the build. */
export const REPLACED: readonly string[] = ["steps", "external"];

/**
 * Checks that a bootstrap can start from an archive.
 *
 * @throws {UserError} "format", naming a member that is missing or in the way.
 */
export function checkPreseed(preseed: Archive, options: BuildOptions): void {
  const isFile = fileFinder(preseed);
  const first = firstPrograms(options).find((path) => !isFile(path));
  if (first !== undefined) {
    const isThere = preseed.members.some(({ path }) => path === first);
    throw refusal(preseed, isThere ? `its ${first} is not a file` : `it has no ${first}`);
  }
  const { files, directories } = madePaths(options);
  const below = preseed.members.find(({ path }) =>
    files.some((file) => path.startsWith(`${file}/`))
  );
  if (below !== undefined) {
    throw refusal(preseed, `its ${below.path} is below a path where the build has a file`);
  }
  const inTheWay = directories.find(isFile);
  if (inTheWay !== undefined) throw refusal(preseed, `its ${inTheWay} is not a directory`);
}

function refusal({ path }: Archive, what: string): UserError {
  return new UserError("format", `Cannot start from ${path}: ${what}`, {
    where: path,
    hint: "An archive for --early-preseed has to contain the whole root of an earlier bootstrap",
  });
}

/** Returns the paths that the build creates in the root. Members below such files would be lost. */
function madePaths(options: BuildOptions): { files: string[]; directories: string[] } {
  if (startOf(options) !== "builder-hex0") return { files: [FIRST_SCRIPT], directories: [] };
  const assembled = SEED_COMMANDS.map((command) => command.split(" "))
    .flatMap(([verb, , path]) => verb === "hex0" && path !== undefined ? [path.slice(1)] : []);
  return {
    files: [FIRST_SCRIPT, ...assembled],
    directories: SEED_DIRECTORIES.map((path) => path.slice(1)),
  };
}

/** Returns the files that are started, or assembled, before anything else. */
function firstPrograms(options: BuildOptions): string[] {
  switch (startOf(options)) {
    case "builder-hex0":
      return ["x86/hex0_x86.hex0", "x86/kaem-minimal.hex0"];
    case "directory":
    case "container":
      return [seedPath(archDir(options.arch))];
    case "disk":
      return ["init"];
  }
}

/** Returns the warning about members of an archive that are left out or changed. */
export function preseedWarnings(leftOut: readonly LeftOut[]): string[] {
  if (leftOut.length === 0) return [];
  const some = leftOut.slice(0, 5).map(({ path, why }) => `${path} (${why})`).join(", ");
  const rest = leftOut.length > 5 ? `, and ${leftOut.length - 5} more` : "";
  return [`a boot image cannot contain everything in the archive: ${some}${rest}`];
}
