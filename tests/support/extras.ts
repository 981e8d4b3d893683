// SPDX-License-Identifier: MIT
/**
 * A checkout, packages and directories of the user for a payload that has more than distfiles.
 *
 * @module
 */
import { chmodSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type FileTree, writeFiles } from "./files.ts";
import { type MiniTree, miniTree, writeMiniTree } from "./tree.ts";

/** The miniature tree with a step that builds tar, as live-bootstrap does before bash. */
export function treeWithTar(files: FileTree = {}): MiniTree {
  const mini = miniTree({ movesToDisk: true, ramdiskKib: 64 * 1024, kexecKib: 1024 * 1024 });
  const manifest = String(mini.files["steps/manifest"])
    .replace("build: beta-2.0", "build: beta-2.0\nbuild: tar-1.0");
  return {
    ...mini,
    files: {
      ...mini.files,
      "steps/manifest": manifest,
      "steps/tar-1.0/pass1.kaem": "exec tar\n",
      ...files,
    },
  };
}

/** Long enough for two members in a tar. */
export const LONG_NAME = `${"n".repeat(120)} é`;

/** Writes a checkout with its mirror, packages as harvest leaves them, and a directory to add. */
export function writeExtras(dir: string, mini = treeWithTar()) {
  const { tree, mirror } = writeMiniTree(dir, mini);
  const repo = join(dir, "repo");
  writeFiles(repo, {
    "omega-6.0_0.tar.bz2": "a package, the first\n",
    "alpha-1.0_1.tar.bz2": "a package, the second\n",
    SHA256SUMS: "of no use to the machine\n",
  });
  const more = join(dir, "my files");
  mkdirSync(join(more, "data", "empty"), { recursive: true });
  writeFiles(more, {
    "go.sh": "echo went\n",
    "data/answers": "42\n",
    "data/nothing": "",
    [`data/${LONG_NAME}`]: "long\n",
  });
  chmodSync(join(more, "go.sh"), 0o700);
  symlinkSync("data/answers", join(more, "link"));
  return { tree, mirror, repo, more };
}
