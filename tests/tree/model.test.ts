// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { parseFiwixSizes, readTree } from "../../src/tree/model.ts";
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

test.each([
  ["", "make_fiwix_initrd -s"],
  ["kexec_size=1", "make_fiwix_initrd -s"],
  ["make_fiwix_initrd -s 1", "kexec_size="],
  ["make_fiwix_initrd -s SIZE\nkexec_size=1", "make_fiwix_initrd -s"],
  ["make_fiwix_initrd -s 1\nkexec_size=$SIZE", "kexec_size="],
  ["make_fiwix_initrd -s 1\nmy_kexec_size=1", "kexec_size="],
])("parseFiwixSizes() finds no number in %j", (script, what) => {
  expect(faultOf(() => parseFiwixSizes(script))).toBe(
    `Cannot find the number after "${what}" | steps/jump/fiwix.sh`,
  );
});
