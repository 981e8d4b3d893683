// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { UserError } from "../../src/errors.ts";
import { readGitIndex } from "../../src/format/git_index.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const testGit = testWith("git");

function git(dir: string, ...args: string[]): string {
  const all = ["-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.org", ...args];
  const env = { PATH: process.env["PATH"]!, HOME: dir, GIT_CONFIG_NOSYSTEM: "1" };
  return execFileSync("git", all, { encoding: "utf8", env, stdio: "pipe" });
}

const LONG = `${"d".repeat(200)}/${"e".repeat(200)}/${"f".repeat(100)}`;

/** Makes a repository with names of many lengths in its index. */
function repository(...init: string[]): string {
  const dir = temp.make();
  git(dir, "init", "-q", "-b", "main", ...init);
  const names = Array.from({ length: 20 }, (_, i) => `${"n".repeat(i + 1)}${i % 3 ? "/x" : ""}`);
  writeFiles(
    dir,
    Object.fromEntries([...names, LONG, "\u00e4 b", "z"].map((name) => [name, name])),
  );
  symlinkSync("z", join(dir, "link"));
  git(dir, "add", ".");
  return dir;
}
const indexOf = (dir: string) => readFileSync(join(dir, ".git/index"));
const pathsOf = (dir: string) => readGitIndex(indexOf(dir), "i").map(({ path }) => path);
const listed = (dir: string) => git(dir, "ls-files", "-z").split("\0").slice(0, -1);

testGit("readGitIndex() reads what git ls-files lists, in every version", () => {
  const dir = repository();
  for (const version of [2, 4]) {
    git(dir, "update-index", "--index-version", `${version}`);
    expect(indexOf(dir)[7]).toBe(version);
    expect(pathsOf(dir)).toEqual(listed(dir));
    expect(pathsOf(dir)).toContain(LONG);
  }
  writeFiles(dir, { later: "" });
  git(dir, "update-index", "--index-version", "2");
  git(dir, "add", "-N", "later"); // needs the second flags, and so version 3
  expect(indexOf(dir)[7]).toBe(3);
  expect(pathsOf(dir)).toEqual(listed(dir));
  git(dir, "update-index", "--index-version", "4");
  expect(pathsOf(dir)).toEqual(listed(dir));
});

testGit("readGitIndex() reads SHA-256, extensions, links, submodules and no checksum", () => {
  const dir = repository("--object-format=sha256");
  expect(pathsOf(dir)).toEqual(listed(dir));
  const other = repository();
  git(other, "commit", "-q", "-m", "x"); // writes a TREE extension
  const head = git(other, "rev-parse", "HEAD").trim();
  git(other, "update-index", "--add", "--cacheinfo", `160000,${head},sub`);
  const kinds = new Map(
    readGitIndex(indexOf(other), "i").map(({ path, kind }) => [path, kind] as const),
  );
  expect([kinds.get("link"), kinds.get("sub"), kinds.get("z")]).toEqual([
    "link",
    "submodule",
    "file",
  ]);
  git(other, "-c", "index.skipHash=true", "update-index", "--force-write-index");
  const bytes = indexOf(other);
  bytes.fill(0, bytes.length - 20);
  expect(readGitIndex(bytes, "i").map(({ path }) => path)).toEqual(listed(other));
});

testGit("readGitIndex() reads one entry for a path in conflict, and a sparse directory", () => {
  const dir = repository();
  git(dir, "commit", "-q", "-m", "one");
  const id = git(dir, "rev-parse", "HEAD:z").trim();
  const stages = [1, 2, 3].map((stage) => `100644 ${id} ${stage}\tz\n`).join("");
  execFileSync("git", ["-C", dir, "update-index", "--index-info"], {
    input: `0 ${"0".repeat(40)}\tz\n${stages}`,
  });
  expect(pathsOf(dir).filter((path) => path === "z")).toEqual(["z"]);
  git(dir, "reset", "-q");
  git(dir, "config", "index.sparse", "true");
  git(dir, "sparse-checkout", "set", "--cone", "--sparse-index", "nn");
  const sparse = readGitIndex(indexOf(dir), "i").filter(({ kind }) => kind === "directory");
  expect(sparse.map(({ path }) => path)).toContain("nnn");
});

testGit("readGitIndex() refuses a split index", () => {
  const dir = repository();
  git(dir, "update-index", "--split-index");
  expect(faultOf(() => readGitIndex(indexOf(dir), "i"))).toStartWith(
    "Cannot read i as an index of git",
  );
});

/** Makes an index by hand: a header, the rest, and a right checksum. */
function made(version: number, count: number, ...rest: Uint8Array[]): Uint8Array {
  const header = Buffer.alloc(12);
  header.write("DIRC");
  header.writeUInt32BE(version, 4);
  header.writeUInt32BE(count, 8);
  const body = Buffer.concat([header, ...rest]);
  return Buffer.concat([body, createHash("sha1").update(body).digest()]);
}
/** An entry without the end of its name. */
function entry(mode: number, name: Uint8Array | string): Uint8Array {
  const fixed = Buffer.alloc(62);
  fixed.writeUInt32BE(mode, 24);
  return Buffer.concat([fixed, Buffer.from(name)]);
}
const FILE = 0o100644;

test.each([
  ["an empty file", new Uint8Array(), "it does not begin with DIRC"],
  ["another file", Buffer.from("GIF89a and more"), "it does not begin with DIRC"],
  ["version 5", made(5, 0), "its version is 5, not 2, 3 or 4"],
  ["a byte changed", made(2, 0).fill(1, 31, 32), "its checksum is wrong"],
  ["more entries than there are", made(2, 1), "it ends within an entry"],
  ["a name without end", made(2, 1, entry(FILE, "x")), "a path has no end"],
  ["an empty name", made(2, 1, entry(FILE, "\0\0")), "a path is empty or longer than 4096 bytes"],
  [
    "a very long name",
    made(2, 1, entry(FILE, `${"x".repeat(4097)}\0`)),
    "a path is empty or longer than 4096 bytes",
  ],
  ["an unknown type", made(2, 1, entry(0o010000, "x\0")), "an entry has an unknown type"],
  [
    "a drop too long",
    made(4, 1, entry(FILE, "\x05x\0")),
    "a path drops more than the last one has",
  ],
  [
    "a number without end",
    made(4, 1, entry(FILE, Buffer.from([255, 255, 255, 255, 255, 1]))),
    "a path drops more than the last one has",
  ],
  [
    "a split index",
    made(2, 0, Buffer.from("link\0\0\0\0")),
    'it has the extension "link", which is not read',
  ],
  ["half an extension", made(2, 0, Buffer.from("TREE")), "it ends within an extension"],
  [
    "a long extension",
    made(2, 0, Buffer.from("TREE\xff\xff\xff\xff", "latin1")),
    "an extension is longer than the file",
  ],
])("readGitIndex() refuses %s", (_, bytes, what) => {
  const fault = faultOf(() => readGitIndex(bytes, "i"));
  expect(fault).toStartWith(`Cannot read i as an index of git: ${what}`);
  expect(fault).toMatch(/\| i, offset \d+$/);
});

testGit("readGitIndex() refuses or reads any other bytes, and nothing else", () => {
  const good = indexOf(repository());
  const body = good.subarray(0, -20);
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.nat(body.length - 1), fc.nat(255)), { maxLength: 8 }),
    fc.nat(body.length),
    (changes, cut) => {
      const bytes = Buffer.from(body.subarray(0, Math.max(12, cut)));
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
      const whole = Buffer.concat([bytes, createHash("sha1").update(bytes).digest()]);
      try {
        readGitIndex(whole, "i");
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
      }
    },
  ));
});
