// SPDX-License-Identifier: MIT
/**
 * The time of the commit of a checkout.
 *
 * git reads the object, but not the configuration of the checkout, which could make it start
 * something: it works in a repository of ours, with the objects of the other.
 *
 * @module
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { findProgram, runProcess } from "../launch/process.ts";
import { readWholeText } from "../read.ts";
import { writing } from "../refused.ts";
import { statIfThere } from "../runtime/stat.ts";
import { findGitDir, headCommit } from "../tree/git.ts";

/**
 * Returns when the head of a checkout was committed, in milliseconds since 1970.
 *
 * @param scratch A directory of ours.
 * @returns undefined without git, and where the commit is not known.
 */
export async function commitTimeMs(
  root: string,
  scratch: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const commit = headCommit(root);
  const gitDir = commit === undefined ? undefined : findGitDir(root);
  const git = await findProgram("git");
  if (commit === undefined || gitDir === undefined || git === undefined) return undefined;
  const own = join(scratch, "git");
  writing(own, () => {
    for (const dir of ["objects", "refs"]) mkdirSync(join(own, dir), { recursive: true });
    writeFileSync(join(own, "HEAD"), "ref: refs/heads/none\n");
  }, "TMPDIR");
  let text = "";
  const silent = () => {};
  await runProcess({
    argv: [git, "cat-file", "commit", commit],
    env: {
      GIT_DIR: own,
      GIT_OBJECT_DIRECTORY: objectsOf(gitDir),
      GIT_CONFIG_NOSYSTEM: "1",
      HOME: own,
    },
    stdin: "ignore",
    onStdout: (chunk) => text = (text + new TextDecoder().decode(chunk)).slice(0, 10_000),
    onStderr: silent,
    signal,
  });
  const seconds = /^committer .* (\d{1,11}) [+-]\d{4}$/m.exec(text)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** The objects of a repository; a linked worktree has those of another. */
function objectsOf(gitDir: string): string {
  const common = join(gitDir, "commondir");
  if (statIfThere(common)?.isFile() !== true) return join(gitDir, "objects");
  return resolve(gitDir, readWholeText(common, { limitBytes: 4096 }).trimEnd(), "objects");
}
