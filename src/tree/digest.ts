// SPDX-License-Identifier: MIT
/**
 * One digest over everything of a checkout that a build uses: what goes into the root of the booted
 * machine (stage0-posix, the files of seed/, steps/) and builder-hex0. A dirty checkout is told
 * from a clean one, wherever it lies, whoever owns it and whatever commit it says that it is at.
 *
 *   digest = SHA-256( record* )           sorted by the bytes of PATH
 *   record = KIND " " SHA256 " " PATH NUL
 *
 * KIND is `f` for a file, `x` for one that its owner may execute, `d` for a directory; SHA256 is of
 * the file's content in lower-case hex, `-` for a directory; PATH is relative to the checkout, in
 * UTF-8. A symbolic link counts as what it leads to. Left out is what no build reads: `.git`, a
 * steps/bootstrap.cfg that lies there, files of stage0-posix that one of seed/ replaces, and
 * distfiles, which have digests of their own.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { relative } from "node:path";
import { sha256Of, sortedByBytes } from "../bytes.ts";
import { readTreeFile } from "./checkout.ts";
import { STAGE1_PATH, STAGE2_PATH, type TreeModel } from "./model.ts";

/** A file or directory of a checkout. */
export interface DigestedEntry {
  /** Relative to the checkout. */
  readonly path: string;
  /** SHA-256 in lower-case hex; absent for a directory. */
  readonly sha256?: string;
  readonly isExecutable: boolean;
}

/** Computes the digest of entries, in whatever order they come. */
export function digestOfEntries(entries: readonly DigestedEntry[]): string {
  const hash = createHash("sha256");
  for (const { path, sha256, isExecutable } of sortedByBytes(entries, ({ path }) => path)) {
    const kind = sha256 === undefined ? "d" : isExecutable ? "x" : "f";
    hash.update(`${kind} ${sha256 ?? "-"} ${path}\0`);
  }
  return hash.digest("hex");
}

/**
 * Computes the digest of a checkout.
 *
 * @param known SHA-256 of files that were read already, by their path on this machine; the others
 * are read.
 * @throws {UserError} "tree" for a file that cannot be read.
 */
export function treeDigest(
  tree: TreeModel,
  known: ReadonlyMap<string, string> = new Map(),
): string {
  const { root, files, stage1, stage2 } = tree;
  const entries = files.map(({ kind, source, isExecutable }): DigestedEntry => {
    const path = relative(root, source);
    if (kind === "directory") return { path, isExecutable };
    return { path, isExecutable, sha256: known.get(source) ?? sha256Of(readTreeFile(root, path)) };
  });
  // They go into the image as what they assemble to: modes play no part.
  const boot = [[STAGE1_PATH, stage1], [STAGE2_PATH, stage2]] as const;
  for (const [path, bytes] of boot) {
    entries.push({ path, isExecutable: false, sha256: sha256Of(bytes) });
  }
  return digestOfEntries(entries);
}
