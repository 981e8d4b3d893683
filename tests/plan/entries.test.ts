// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { bootEntries, directoryEntries } from "../../src/plan/entries.ts";
import { readTree, type TreeModel } from "../../src/tree/model.ts";
import { type FileTree, TempDirs } from "../support/files.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const FILES: FileTree = {
  "seed/stage0-posix/bootstrap-seeds/NATIVE/x": "",
  "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed",
  "seed/stage0-posix/bootstrap-seeds-2/x": "",
  "seed/stage0-posix/x86/bootstrap-seeds/x": "",
  "seed/stage0-posix/x.git/f": "",
  "seed/stage0-posix/x86/.gitignore": "",
};
const SEED = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";

function model(): TreeModel {
  const { tree } = writeMiniTree(temp.make(), miniTree({ files: FILES }));
  chmodSync(join(tree, SEED), 0o755);
  return readTree(tree);
}
const paths = (entries: readonly { path: string }[]) => entries.map(({ path }) => path);

test("a boot image has no bootstrap-seeds, but files with similar names", () => {
  const entries = paths(bootEntries(model(), []));
  expect(entries.filter((path) => path.includes("bootstrap-seeds"))).toEqual([
    "./bootstrap-seeds-2",
    "./bootstrap-seeds-2/x",
    "./x86/bootstrap-seeds",
    "./x86/bootstrap-seeds/x",
  ]);
});

test("a boot image has no path that contains .git, a directory has", () => {
  const tree = model();
  expect(paths(bootEntries(tree, [])).filter((path) => path.includes(".git"))).toEqual(
    [],
  );
  expect(paths(directoryEntries(tree, "x86", [], []))).toContain("./x86/.gitignore");
});

test("a directory has the seeds, and as init the first of them", () => {
  const entries = directoryEntries(model(), "x86", [], []);
  const find = (path: string) => entries.find((entry) => entry.path === path);
  expect(find("./init")?.content).toEqual(
    find("./bootstrap-seeds/POSIX/x86/kaem-optional-seed")!.content,
  );
  expect(find("./init")?.isExecutable).toBe(true);
  expect(find("./after.kaem")?.isExecutable).toBe(false);
  expect(() => directoryEntries(model(), "vax", [], [])).toThrow("Cannot bootstrap vax");
});

test("a boot image without distfiles has no empty directory for them", () => {
  expect(paths(bootEntries(model(), []))).not.toContain("./external");
  expect(paths(directoryEntries(model(), "x86", [], []))).toContain(
    "./external/distfiles",
  );
});

test("entries are sorted bytewise by path, a directory before its content", () => {
  for (
    const entries of [bootEntries, (m: TreeModel) => directoryEntries(m, "x86", [], [])]
  ) {
    const list = paths(entries(model(), []));
    expect(list).toEqual([...list].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
    expect(new Set(list).size).toBe(list.length);
    for (const path of list.slice(1)) {
      expect(list.indexOf(path.slice(0, path.lastIndexOf("/")))).toBeLessThan(list.indexOf(path));
    }
  }
});
