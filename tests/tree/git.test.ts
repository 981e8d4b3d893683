// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { headCommit } from "../../src/tree/git.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const testGit = testWith("git");

function git(dir: string, ...args: string[]): string {
  const identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
  const all = ["-C", dir, ...identity, "-c", "protocol.file.allow=always", ...args];
  const env = { PATH: process.env["PATH"]!, HOME: dir, GIT_CONFIG_NOSYSTEM: "1" };
  return execFileSync("git", all, { encoding: "utf8", env, stdio: "pipe" }).trim();
}

function repository(...init: string[]): string {
  const dir = temp.make();
  git(dir, "init", "-q", "-b", "main", ...init);
  return dir;
}

function commit(dir: string, text: string): string {
  writeFiles(dir, { file: text });
  git(dir, "add", "file");
  git(dir, "commit", "-q", "-m", text);
  return git(dir, "rev-parse", "HEAD");
}

testGit("headCommit() follows a branch, loose or packed, and a detached head", () => {
  const dir = repository();
  expect(headCommit(dir)).toBeUndefined(); // a branch without a commit
  const first = commit(dir, "one");
  expect(headCommit(dir)).toBe(first);
  git(dir, "pack-refs", "--all");
  expect(headCommit(dir)).toBe(first);
  const second = commit(dir, "two"); // loose again, which overrides the packed one
  expect(headCommit(dir)).toBe(second);
  git(dir, "checkout", "-q", "--detach", first);
  expect(headCommit(dir)).toBe(first);
});

testGit("headCommit() knows linked worktrees, submodules, and SHA-256", () => {
  const dir = repository();
  commit(dir, "one");
  const inner = repository();
  const innerHead = commit(inner, "inner");
  git(dir, "submodule", "add", "-q", inner, "seed/inner");
  git(dir, "commit", "-q", "-m", "submodule");
  expect(headCommit(join(dir, "seed/inner"))).toBe(innerHead);
  const linked = join(temp.make(), "linked");
  git(dir, "worktree", "add", "-q", "-b", "side", linked);
  const side = commit(linked, "side");
  expect(headCommit(linked)).toBe(side);
  git(dir, "pack-refs", "--all");
  expect(headCommit(linked)).toBe(side);
  expect(headCommit(dir)).toBe(git(dir, "rev-parse", "HEAD"));
  const long = repository("--object-format=sha256");
  const head = commit(long, "x");
  expect(head).toHaveLength(64);
  expect(headCommit(long)).toBe(head);
});

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

test("headCommit() accepts only commits, and does not leave the repository", () => {
  const dir = temp.make();
  expect(headCommit(dir)).toBeUndefined();
  expect(headCommit(join(dir, "absent"))).toBeUndefined();
  writeFiles(dir, { "outside": COMMIT, ".git/inside": COMMIT });
  const heads = [
    "",
    "\0",
    COMMIT.toUpperCase(),
    `${COMMIT}0`,
    "ref: refs/../../outside",
    "ref: ../outside",
    "ref: inside",
    "ref: refs/heads/absent",
    "ref: refs//heads",
    "ref: refs/heads/\u001b[31m",
    `${" ".repeat(5000)}${COMMIT}`,
  ];
  for (const head of heads) {
    writeFiles(dir, { ".git/HEAD": head });
    expect([head, headCommit(dir)]).toEqual([head, undefined]);
  }
  writeFiles(dir, { ".git/HEAD": "ref: refs/a", ".git/refs/a": "ref: refs/b" });
  writeFiles(dir, { ".git/refs/b": "ref: refs/a" });
  expect(headCommit(dir)).toBeUndefined(); // a loop
  writeFiles(dir, { ".git/refs/b": `${COMMIT}\n` });
  expect(headCommit(dir)).toBe(COMMIT);
  rmSync(join(dir, ".git/refs/b"));
  writeFiles(dir, { ".git/packed-refs": `# header\nnonsense refs/b\n^${COMMIT}\n` });
  expect(headCommit(dir)).toBeUndefined();
});

test("headCommit() does not block on a pipe, a directory or a dangling link", () => {
  const dir = temp.make();
  mkdirSync(join(dir, ".git"));
  execFileSync("mkfifo", [join(dir, ".git/HEAD")]);
  expect(headCommit(dir)).toBeUndefined();
  rmSync(join(dir, ".git/HEAD"));
  mkdirSync(join(dir, ".git/HEAD"));
  expect(headCommit(dir)).toBeUndefined();
  rmSync(join(dir, ".git"), { recursive: true });
  symlinkSync("absent", join(dir, ".git"));
  expect(headCommit(dir)).toBeUndefined();
  rmSync(join(dir, ".git"));
  for (const text of ["gitdir: absent", "gitdir: ", "gitdir: \0", "x".repeat(9000)]) {
    writeFileSync(join(dir, ".git"), text);
    expect(headCommit(dir)).toBeUndefined();
  }
});
