// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { makePlan } from "../../src/plan/plan.ts";
import type { BuildOptions } from "../../src/plan/options.ts";
import { readTree } from "../../src/tree/model.ts";
import { type FileTree, TempDirs } from "../support/files.ts";
import { buildOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const MANIFEST = [
  "build: alpha-1.0",
  "jump: fiwix",
  "build: bash-1.0",
  "improve: get_network",
  "build: beta-2.0",
  "build: gamma-3.0 ( CHROOT == True )",
  "",
].join("\n");
const BASH = { "steps/bash-1.0/sources": "", "steps/bash-1.0/pass1.kaem": "exec bash\n" };

/** Returns what is missing without some files, and with others. */
function missing(
  without: RegExp,
  more: FileTree = {},
  changes: Partial<BuildOptions> = {},
): readonly string[] {
  const { files } = miniTree({ files: { "steps/manifest": MANIFEST, ...BASH, ...more } });
  const kept = Object.entries(files).filter(([path]) => !without.test(path));
  const all = { files: Object.fromEntries(kept), distfiles: {} };
  const { tree } = writeMiniTree(temp.make(), all);
  return makePlan(readTree(tree), buildOptions(changes), new Map()).missing;
}
const NOTHING = /^$/;

test("nothing is missing in a whole checkout, or without what no active line names", () => {
  expect(missing(NOTHING)).toEqual([]);
  expect(missing(/^steps\/gamma/)).toEqual([]);
  expect(missing(/pass1\.sh$/)).toEqual([]);
  expect(missing(/linux\.sh$/)).toEqual([]);
});

test("a step, a script of an improve or a jump that is not there is missing", () => {
  expect(missing(/^steps\/beta/)).toEqual([
    "steps/manifest:5: build: beta-2.0: there is no step steps/beta-2.0",
  ]);
  expect(missing(/fiwix\.sh|network\.sh/)).toEqual([
    "steps/manifest:2: jump: fiwix: there is no steps/jump/fiwix.sh",
    "steps/manifest:4: improve: get_network: there is no steps/improve/get_network.sh",
  ]);
});

test("up to bash each pass needs its script", () => {
  expect(missing(/alpha-1\.0\/pass1\.kaem/)).toEqual([
    "steps/manifest:1: build: alpha-1.0: there is no steps/alpha-1.0/pass1.kaem",
  ]);
  const again = { "steps/manifest": MANIFEST.replace("jump:", "build: alpha-1.0\njump:") };
  expect(missing(/pass2\.kaem/, again)).toEqual([
    "steps/manifest:2: build: alpha-1.0: there is no steps/alpha-1.0/pass2.kaem",
  ]);
});

test("after bash a step needs sources, unless its script gets them in its own way", () => {
  const none = "steps/manifest:5: build: beta-2.0: there is no steps/beta-2.0/sources, " +
    "which the default src_get reads";
  const sources = /beta-2\.0\/sources/;
  expect(missing(sources)).toEqual([none]);
  expect(missing(/beta-2\.0\/(sources|pass1\.sh)/)).toEqual([none]);
  expect(missing(sources, { "steps/beta-2.0/pass1.sh": "src_get() {\n  :\n}\n" })).toEqual([]);
  expect(missing(sources, { "steps/beta-2.0/pass1.sh": "  . ../../common.sh\n" })).toEqual([]);
  expect(missing(sources, { "steps/beta-2.0/pass1.sh": "# src_get\n" })).toEqual([none]);
});

test("patches that a script names have to be there", () => {
  const script = "patch -Np0 -i ../../patches/a.patch\nsimple-patch x ../simple-patches/b.before\n";
  const named = { "steps/alpha-1.0/pass1.kaem": script };
  const path = "steps/alpha-1.0/pass1.kaem";
  expect(missing(NOTHING, named)).toEqual([
    `steps/manifest:1: build: alpha-1.0: ${path} names steps/alpha-1.0/patches/a.patch`,
    `steps/manifest:1: build: alpha-1.0: ${path} names steps/alpha-1.0/simple-patches/b.before`,
  ]);
  expect(missing(NOTHING, {
    ...named,
    "steps/alpha-1.0/patches/a.patch": "-",
    "steps/alpha-1.0/simple-patches/b.before": "-",
  })).toEqual([]);
  const later =
    'src_prepare() {\n  patch_dir="${base_dir}/patches-two"\n  # $base_dir/patches-3\n}\n';
  expect(missing(NOTHING, { "steps/beta-2.0/pass1.sh": later })).toEqual([
    "steps/manifest:5: build: beta-2.0: steps/beta-2.0/pass1.sh names steps/beta-2.0/patches-two",
  ]);
});

test("an archive has what the lines before bash make, and packages may replace later builds", () => {
  const preseed = { hasPreseed: true };
  expect(missing(/alpha-1\.0\/pass1\.kaem/, {
    "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed",
  }, {
    ...preseed,
    mode: "chroot",
    payload: "never",
  })).toEqual([]);
  expect(missing(/^steps\/beta/, {}, { hasRepo: true })).toEqual([]);
});
