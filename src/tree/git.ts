// SPDX-License-Identifier: MIT
/**
 * Reads the commit of a checkout without running git, so that nothing in the checkout (hooks,
 * filters, a configuration) is executed.
 *
 *   .git            a directory, or a file `gitdir: PATH` in a submodule or a linked worktree
 *   GITDIR/HEAD     `ref: refs/heads/NAME`, or a commit if the head is detached
 *   GITDIR/commondir  in a linked worktree: path of the repository that has the references
 *   refs/…          a commit, or another `ref: …`
 *   packed-refs     `COMMIT refs/…` a line, for references without a file of their own
 *
 * The commit says what the checkout was made from. The digest of `tree/digest.ts` says what its
 * files are now. Source: gitrepository-layout(5).
 *
 * @module
 */

import { join, resolve } from "node:path";
import { systemCode, UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import { statIfThere } from "../runtime/stat.ts";

/** Longest HEAD, reference or path that is read. */
const MAX_SMALL_BYTES = 4096;
const MAX_PACKED_BYTES = 32 * 1024 * 1024;
/** Longest chain of references; the same as in git. */
const MAX_DEPTH = 5;

/**
 * Returns the commit of the head of a checkout.
 *
 * @param dir Directory with a `.git` in it.
 * @returns Lower-case hex, 40 digits for SHA-1 and 64 for SHA-256; undefined if there is no
 * repository, no commit yet, or an unknown format, as no build should fail for that.
 */
export function headCommit(dir: string): string | undefined {
  try {
    const gitDir = findGitDir(dir);
    if (gitDir === undefined) return undefined;
    const common = readSmall(join(gitDir, "commondir"));
    const commonDir = common === undefined ? gitDir : resolve(gitDir, common);
    return follow("HEAD", gitDir, commonDir);
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}

/**
 * Returns the directory with the repository of a work tree; undefined if there is none.
 *
 * @throws {UserError} as {@link statIfThere}
 */
export function findGitDir(dir: string): string | undefined {
  const path = join(dir, ".git");
  if (statIfThere(path)?.isDirectory() === true) return path;
  const match = /^gitdir: (.+)$/s.exec(readSmall(path) ?? "");
  return match === null ? undefined : resolve(dir, match[1]!);
}

function follow(name: string, gitDir: string, commonDir: string): string | undefined {
  let ref = name;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const text = readSmall(join(gitDir, ref)) ?? readSmall(join(commonDir, ref)) ??
      packedRef(commonDir, ref);
    if (text === undefined || isCommit(text)) return text;
    const match = /^ref:\s*(refs\/\S+)$/.exec(text);
    if (match === null || !isPlainRef(match[1]!)) return undefined;
    ref = match[1]!;
  }
  return undefined;
}

/** Reports whether a reference stays inside the repository, see git-check-ref-format(1). */
function isPlainRef(ref: string): boolean {
  return ref.split("/").every((part) => part !== "" && !part.startsWith(".")) &&
    !/\.\.|[\p{Cc}\\~^:?*[]/u.test(ref);
}

function packedRef(commonDir: string, ref: string): string | undefined {
  const packed = readSmall(join(commonDir, "packed-refs"), MAX_PACKED_BYTES) ?? "";
  for (const line of packed.split("\n")) {
    const [commit = "", name] = line.split(" ");
    if (name === ref) return isCommit(commit) ? commit : undefined;
  }
  return undefined;
}

function isCommit(text: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}

/** Reads the text of a small regular file without white space at its end. */
function readSmall(path: string, most = MAX_SMALL_BYTES): string | undefined {
  try {
    if (statIfThere(path)?.isFile() !== true) return undefined;
    return readWholeText(path, { limitBytes: most }).trimEnd();
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}
