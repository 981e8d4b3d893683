// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readTree } from "../../src/tree/model.ts";
import { findUntracked, readTracked } from "../../src/tree/tracked.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const testGit = testWith("git");

function git(dir: string, ...args: string[]): void {
  const identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
  const all = ["-C", dir, ...identity, "-c", "protocol.file.allow=always", ...args];
  const env = { PATH: process.env["PATH"]!, HOME: dir, GIT_CONFIG_NOSYSTEM: "1" };
  execFileSync("git", all, { env, stdio: "pipe" });
}

function commitAll(dir: string): void {
  git(dir, "init", "-q", "-b", "main");
  git(dir, "add", "-A");
  git(dir, "commit", "-q", "-m", "x");
}

/** Makes a checkout with stage0-posix as a submodule, which has a submodule of its own. */
function checkout(): string {
  const dir = temp.make();
  const { files } = miniTree();
  const stage0 = "seed/stage0-posix/";
  const own = Object.entries(files).filter(([path]) => !path.startsWith(stage0));
  const inner = Object.entries(files).filter(([path]) => path.startsWith(stage0))
    .map(([path, body]) => [path.slice(stage0.length), body]);
  writeFiles(join(dir, "libc"), { "stdio.c": "" });
  writeFiles(join(dir, "stage0"), Object.fromEntries(inner));
  writeFiles(join(dir, "tree"), Object.fromEntries(own));
  symlinkSync("alpha-1.0", join(dir, "tree/steps/link"));
  commitAll(join(dir, "libc"));
  commitAll(join(dir, "stage0"));
  git(join(dir, "stage0"), "submodule", "add", "-q", join(dir, "libc"), "M2libc");
  git(join(dir, "stage0"), "commit", "-q", "-m", "libc");
  commitAll(join(dir, "tree"));
  git(join(dir, "tree"), "submodule", "add", "-q", join(dir, "stage0"), "seed/stage0-posix");
  git(join(dir, "tree"), "submodule", "update", "-q", "--init", "--recursive");
  git(join(dir, "tree"), "commit", "-q", "-m", "stage0");
  return join(dir, "tree");
}

testGit("readTree() finds nothing untracked in a clean checkout with submodules and links", () => {
  const tree = checkout();
  expect(readTree(tree).untracked).toEqual([]);
  git(tree, "update-index", "--index-version", "4");
  expect(readTree(tree).untracked).toEqual([]);
});

testGit("readTree() finds untracked files of the root, and directories as one", () => {
  const tree = checkout();
  writeFiles(tree, {
    "steps/junk": "",
    "steps/new/a": "",
    "steps/new/deep/b": "",
    "steps/alpha-1.0/patches/p.patch": "",
    "steps/alpha-1.0/core": "",
    "steps/bootstrap.cfg": "ARCH=x86\n",
    "seed/stage0-posix/a.out": "",
    "seed/stage0-posix/M2libc/b.out": "",
    "seed/not-packed/c": "",
    "notes.txt": "not read by builds",
  });
  expect([...readTree(tree).untracked].sort()).toEqual([
    "seed/stage0-posix/M2libc/b.out",
    "seed/stage0-posix/a.out",
    // The link to the directory is tracked, and so all that it leads to.
    "steps/alpha-1.0/core",
    "steps/alpha-1.0/patches/",
    "steps/junk",
    "steps/new/",
  ]);
  git(tree, "add", "steps/junk");
  expect(readTree(tree).untracked).not.toContain("steps/junk");
});

testGit("readTracked() knows nothing about a submodule without a repository", () => {
  const tree = checkout();
  writeFileSync(join(tree, "seed/stage0-posix/.git"), "gitdir: nowhere\n");
  writeFiles(tree, { "seed/stage0-posix/a.out": "", "steps/junk": "" });
  expect(readTree(tree).untracked).toEqual(["steps/junk"]);
  const tracked = readTracked(tree)!;
  expect(tracked.has("seed/stage0-posix/whatever")).toBe(true);
  expect(tracked.hasBelow("seed")).toBe(true);
  expect(tracked.hasBelow("steps/junk")).toBe(false);
});

test("readTracked() knows nothing without a repository or an index that it can read", () => {
  const { tree } = writeMiniTree(temp.make());
  expect(readTracked(tree)).toBeUndefined();
  writeFiles(tree, { ".git/HEAD": "ref: refs/heads/main\n" });
  expect(readTracked(tree)).toBeUndefined();
  writeFiles(tree, { ".git/index": "DIRC\0\0\0\x02\0\0\0\x01 damaged" });
  expect(readTracked(tree)).toBeUndefined();
  expect(readTree(tree).untracked).toEqual([]);
});

testGit("readTracked() does not follow repositories that lead in a circle", () => {
  const dir = temp.make();
  writeFiles(dir, { x: "" });
  commitAll(dir);
  git(dir, "submodule", "add", "-q", dir, "in");
  writeFileSync(join(dir, "in/.git"), `gitdir: ${join(dir, ".git")}\n`);
  expect(readTracked(dir)!.has("in/x")).toBe(true);
});

test("findUntracked() names the outermost directory in which nothing is tracked", () => {
  const tracked = {
    has: (path: string) => path === "a/b/c",
    hasBelow: (path: string) => path === "a" || path === "a/b",
  };
  expect(findUntracked(tracked, ["a/b/c", "a/b/d", "a/e/f/g", "a/e/h", "i"])).toEqual([
    "a/b/d",
    "a/e/",
    "i",
  ]);
});
