// SPDX-License-Identifier: MIT
/**
 * What comes beside a checkout: prebuilt packages, and an archive that holds what the first steps
 * would make.
 *
 * @module
 */

import type { LeftOut } from "../archive/entries.ts";
import type { Archive } from "../archive/types.ts";
import { UserError } from "../errors.ts";
import type { TreeEntry } from "../tree/checkout.ts";
import { archDir } from "./config.ts";
import { seedPath } from "./entries.ts";
import { type BuildOptions, startOf } from "./options.ts";

/** What comes beside a checkout. */
export interface Extras {
  /** Prebuilt packages, none where there are none. */
  readonly repo: readonly TreeEntry[];
  /** Lies in the root in place of stage0-posix and the files of seed/. */
  readonly preseed?: Archive;
}

/** Names at the top of an archive that are replaced by those of the build. */
export const REPLACED: readonly string[] = ["steps", "external"];

/**
 * Checks that a bootstrap can begin from an archive.
 *
 * @throws {UserError} "format" with what is missing in it.
 */
export function checkPreseed(preseed: Archive, options: BuildOptions): void {
  const paths = new Set(preseed.members.map(({ path }) => path));
  const missing = firstPrograms(options).find((path) => !paths.has(path));
  if (missing === undefined) return;
  throw new UserError("format", `Cannot begin from ${preseed.path}: it has no ${missing}`, {
    where: preseed.path,
    hint: "An archive for --early-preseed holds the whole root of an earlier bootstrap",
  });
}

/** What is started, or assembled, before anything else. */
function firstPrograms(options: BuildOptions): string[] {
  switch (startOf(options)) {
    case "builder-hex0":
      return ["x86/hex0_x86.hex0", "x86/kaem-minimal.hex0"];
    case "directory":
      return [seedPath(archDir(options.arch))];
    case "disk":
      return ["init"];
  }
}

/** Says what of an archive is not as it was. */
export function preseedWarnings(leftOut: readonly LeftOut[]): string[] {
  if (leftOut.length === 0) return [];
  const some = leftOut.slice(0, 5).map(({ path, why }) => `${path} (${why})`).join(", ");
  const rest = leftOut.length > 5 ? `, and ${leftOut.length - 5} more` : "";
  return [`a boot image cannot hold all that the archive does: ${some}${rest}`];
}
