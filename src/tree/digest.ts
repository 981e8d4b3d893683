// SPDX-License-Identifier: MIT
/**
 * The digest of everything in a checkout that a build uses: the files for the root of the booted
 * machine (stage0-posix, the files of seed/, steps/ and the step
 * directories of extra builds) and builder-hex0. It differs between a
 * modified and a clean checkout, and does not depend on path, owner or commit.
 *
 *   digest = SHA-256( record* )           sorted by the bytes of PATH
 *   record = KIND " " SHA256 " " PATH NUL
 *
 * KIND is `f` for a file, `x` for one that its owner may execute, `d` for a directory. SHA256 is
 * the digest of the file's content in lower-case hex, `-` for a directory. PATH is relative to the
 * checkout, in UTF-8. A symbolic link counts as the file it leads to. Files that no build reads are
 * left out: `.git`, an existing steps/bootstrap.cfg, files of stage0-posix that one of seed/
 * replaces, and distfiles, which have digests of their own.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { relative } from "node:path";
import { sha256Of, sortedByBytes } from "../bytes.ts";
import { digestTreeFile } from "./checkout.ts";
import { STAGE1_PATH, STAGE2_PATH, type TreeModel } from "./model.ts";

/** A file or directory of a checkout. */
export interface DigestedEntry {
  /** Relative to the checkout. */
  readonly path: string;
  /** SHA-256 in lower-case hex; absent for a directory. */
  readonly sha256?: string;
  readonly isExecutable: boolean;
}

/** Computes the digest of entries in any order. */
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
 * @param known SHA-256 of files that have already been read, by their path on this machine; all
 * others are read.
 * @throws {UserError} "tree" if a file cannot be read.
 */
export function treeDigest(
  tree: TreeModel,
  known: ReadonlyMap<string, string> = new Map(),
): string {
  const { root, files, stages } = tree;
  const entries = files.map(({ kind, source, isExecutable }): DigestedEntry => {
    const path = relative(root, source);
    if (kind === "directory") return { path, isExecutable };
    return { path, isExecutable, sha256: known.get(source) ?? digestTreeFile(root, path) };
  });
  // The image has them assembled, so their modes do not matter.
  const boot = stages === undefined
    ? []
    : [[STAGE1_PATH, stages.stage1], [STAGE2_PATH, stages.stage2]] as const;
  for (const [path, bytes] of boot) {
    entries.push({ path, isExecutable: false, sha256: sha256Of(bytes) });
  }
  return digestOfEntries(entries);
}
