// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { neededSubmodules, parseFiwixSizes, readTree } from "../../src/tree/model.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";
import { type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

function tree(options: MiniOptions = {}): string {
  return writeMiniTree(temp.make(), miniTree(options)).tree;
}
const rootFiles = (root: string) => readTree(root).files.map(({ path }) => path).sort();

test("readTree() puts stage0-posix, the files of seed, and steps into the root", () => {
  const root = tree({ files: { "seed/folder/x": "no", "steps/a/b/c": "" } });
  const left = /^steps\/(\w+-|jump|improve)|^bootstrap-seeds/;
  expect(rootFiles(root).filter((path) => !left.test(path))).toEqual([
    ".gitignore",
    "High Level Prototypes",
    "High Level Prototypes/a file.c",
    "after.kaem",
    "empty",
    "seed.kaem",
    "steps",
    "steps/a",
    "steps/a/b",
    "steps/a/b/c",
    "steps/helpers.sh",
    "steps/manifest",
    "x86",
    "x86/hex0_x86.hex0",
    "x86/kaem-minimal.hex0",
  ]);
});

test("readTree() prefers a file of seed to that of stage0-posix", () => {
  const root = tree();
  const file = readTree(root).files.find(({ path }) => path === "after.kaem")!;
  expect(file.source).toBe(join(root, "seed/after.kaem"));
});

test("readTree() leaves out a bootstrap.cfg of the checkout, but not one of a step", () => {
  const files = rootFiles(tree({
    files: { "steps/bootstrap.cfg": "ARCH=old\n", "steps/a/bootstrap.cfg": "" },
  }));
  expect(files.filter((path) => path.endsWith("bootstrap.cfg"))).toEqual(["steps/a/bootstrap.cfg"]);
});

test("readTree() lists the sources of every build line, whatever its predicate", () => {
  const { sources, distfiles } = readTree(tree());
  expect(sources.map(({ step }) => step)).toEqual([
    "alpha-1.0",
    "beta-2.0",
    "gamma-3.0",
    "linux-4.0",
    "delta-5.0",
    "omega-6.0",
    "alpha-1.0",
  ]);
  expect(distfiles).toHaveLength(6);
  expect(distfiles[0]!.uses).toHaveLength(2);
});

test("readTree() accepts a step without sources, and names the line of bad ones", () => {
  const root = tree({ files: { "steps/alpha-1.0/sources": "f x y\n" } });
  expect(faultOf(() => readTree(root))).toEndWith("| steps/alpha-1.0/sources:1");
  const manifest = "build: none-1.0\n";
  expect(readTree(tree({ files: { "steps/manifest": manifest } })).distfiles).toEqual([]);
});

test("readTree() has no Fiwix sizes if there is no such jump", () => {
  const root = tree();
  expect(readTree(root).fiwix).toEqual({ ramdiskBytes: 1024 * 1024, kexecBytes: 512 * 1024 });
  const { files } = miniTree();
  const { "steps/jump/fiwix.sh": _, ...others } = files;
  const other = writeMiniTree(temp.make(), { files: others, distfiles: {} }).tree;
  expect(readTree(other).fiwix).toBeUndefined();
});

test("parseFiwixSizes() reads both numbers, in KiB", () => {
  expect(parseFiwixSizes("make_fiwix_initrd -s 1381376 /x\nkexec_size=199680 y\n")).toEqual({
    ramdiskBytes: 1381376 * 1024,
    kexecBytes: 199680 * 1024,
  });
  expect(parseFiwixSizes('  make_fiwix_initrd  -s\t2 x # y\nx="a kexec_size=3 b"')).toEqual({
    ramdiskBytes: 2048,
    kexecBytes: 3072,
  });
});

test("parseFiwixSizes() does not read comments", () => {
  const script = [
    "# make_fiwix_initrd -s 1",
    "  # kexec_size=1",
    "true # make_fiwix_initrd -s 2 and kexec_size=2",
    "make_fiwix_initrd -s 7 x",
    "kexec_size=8",
  ].join("\n");
  expect(parseFiwixSizes(script)).toEqual({ ramdiskBytes: 7 * 1024, kexecBytes: 8 * 1024 });
});

test("parseFiwixSizes() reads a variable that the script sets once to a number", () => {
  for (const size of ["$RAMDISK", "${RAMDISK}", '"${RAMDISK}"']) {
    const script = `RAMDISK=7\nmake_fiwix_initrd -s ${size} /x\nx="kexec_size=\${K} y"\n  K=8\n`;
    expect(parseFiwixSizes(script)).toEqual({ ramdiskBytes: 7 * 1024, kexecBytes: 8 * 1024 });
  }
});

test.each([
  "",
  "kexec_size=a\nmy_kexec_size=1",
  "make_fiwix_initrd",
  "make_fiwix_initrd -s SIZE\nkexec_size=$SIZE",
  "make_fiwix_initrd -s ${RAMDISK}",
  "A=1\nA=2\nmake_fiwix_initrd -s ${A}\nkexec_size=$A",
  "make_fiwix_initrd -s ${A:-1}\nkexec_size=1k",
  "A=$(size)\nmake_fiwix_initrd -s ${A}",
])("parseFiwixSizes() knows no size in %j", (script) => {
  expect(parseFiwixSizes(script)).toEqual({ ramdiskBytes: undefined, kexecBytes: undefined });
});

test("readTree() refuses lines with and without a type in one checkout", () => {
  const line = `http://127.0.0.1:9/x ${"a".repeat(64)}\n`;
  const root = tree({ files: { "steps/beta-2.0/sources": line } });
  expect(faultOf(() => readTree(root))).toBe(
    "Cannot read sources: a line has no type, while steps/alpha-1.0/sources:1 has one " +
      "| steps/beta-2.0/sources:1",
  );
});

const GITMODULES = '[submodule "seed/stage0-posix"]\n\tpath = seed/stage0-posix\n\turl = u\n' +
  '[submodule "b"]\n\tpath = "builder-hex0"\n';
const INNER = ["x86", "AMD64", "M2libc", "M2-Planet", "bootstrap-seeds"]
  .map((name) => `[submodule "${name}"]\n  path = ${name}\n`).join("");

test("readTree() finds empty and absent submodules, nested ones too", () => {
  const files = {
    ".gitmodules": GITMODULES,
    "seed/stage0-posix/.gitmodules": INNER,
    "seed/stage0-posix/AMD64/": "",
    "seed/stage0-posix/M2libc/.git": "gitdir: elsewhere\n",
    "seed/stage0-posix/M2-Planet/.gitmodules": '[submodule "M2libc"]\n path = M2libc\n',
  };
  const model = readTree(tree({ files }));
  expect(model.emptySubmodules.map((path) => path.replace("seed/stage0-posix/", ""))).toEqual([
    "AMD64",
    "M2libc",
    "M2-Planet/M2libc",
  ]);
  expect(neededSubmodules(model, "x86")).toEqual(["seed/stage0-posix/M2libc"]);
  expect(neededSubmodules(model, "AMD64")).toEqual([
    "seed/stage0-posix/AMD64",
    "seed/stage0-posix/M2libc",
  ]);
});

test("readTree() names every empty submodule, where it can read nothing without one", () => {
  const { files } = miniTree({ files: { ".gitmodules": GITMODULES } });
  const others = Object.entries(files).filter(([path]) =>
    !/^(builder-hex0|seed\/stage0-posix)\//.test(path)
  );
  const { tree } = writeMiniTree(temp.make(), {
    files: { ...Object.fromEntries(others), "builder-hex0/": "" },
    distfiles: {},
  });
  expect(faultOf(() => readTree(tree))).toBe(
    "Cannot bootstrap with this checkout: 2 submodules are empty: seed/stage0-posix, " +
      `builder-hex0 | ${join(tree, "seed/stage0-posix")}`,
  );
});

test("readTree() looks at no path of .gitmodules outside of the checkout", () => {
  const outside = ["../x", "/etc", "a/../../b", ".", ""]
    .map((path) => `[submodule "s"]\n  path = ${path}\n`).join("");
  expect(readTree(tree({ files: { ".gitmodules": outside } })).emptySubmodules).toEqual([]);
});
