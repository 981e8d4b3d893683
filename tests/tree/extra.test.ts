// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { evaluateEvery, findExtraBuilds, lineAt } from "../../src/tree/extra.ts";
import { readMirroredFiles } from "../../src/tree/mirrored.ts";
import { readEveryDistfile, readTree } from "../../src/tree/model.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";
import { extraTree, type MiniOptions, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const extra = (options: MiniOptions = {}) => writeMiniTree(temp.make(), extraTree(options)).tree;

test("a checkout has the extra builds whose directory has a manifest", () => {
  const root = extra({ files: { "steps-none/x": "", "steps-a b/manifest": "", "steps-x": "" } });
  expect(findExtraBuilds(root)).toEqual(["guix", "other"]);
  expect(findExtraBuilds(writeMiniTree(temp.make(), miniTree()).tree)).toEqual([]);
});

test("readTree() puts the extra builds that it is asked for beside steps/, and no others", () => {
  const root = extra();
  const ofExtra = (names: readonly string[]) =>
    readTree(root, names).files.map(({ path }) => path).filter((path) => /^steps-/.test(path));
  expect(ofExtra([])).toEqual([]);
  expect(ofExtra(["other"]).sort()).toEqual([
    "steps-other",
    "steps-other/eta-9.0",
    "steps-other/eta-9.0/pass1.sh",
    "steps-other/eta-9.0/sources",
    "steps-other/manifest",
  ]);
  const { otherBuilds, extraReader } = readTree(root, ["guix"]);
  expect(otherBuilds).toEqual(["other"]);
  expect(extraReader).toEqual({ path: "steps/improve/after.sh", variable: "EXTRA_BUILDS" });
});

test("readTree() reads the sources of extra builds after those of steps/, in the given order", () => {
  const tree = readTree(extra(), ["other", "guix"]);
  const late = tree.sources.filter(({ file }) => !file.startsWith("steps/"));
  expect(late.map(({ file }) => file)).toEqual([
    "steps-other/eta-9.0/sources",
    "steps-guix/epsilon-7.0/sources",
    "steps-guix/zeta-8.0/sources",
    "steps-guix/zeta-8.0/sources",
    "steps-guix/alpha-1.0/sources",
  ]);
  expect(late.map(({ index }) => lineAt(tree, index)!.line.text)).toEqual([
    "build: eta-9.0",
    "build: epsilon-7.0",
    "build: zeta-8.0 ( BUILD_FIWIX == True )",
    "build: zeta-8.0",
    "build: alpha-1.0",
  ]);
  expect(lineAt(tree, 0)!.manifest.file).toBe("steps/manifest");
  expect(lineAt(tree, 1000)).toBeUndefined();
});

test("each manifest counts passes anew, with the variables that the one before has left", () => {
  const tree = readTree(extra(), ["guix"]);
  const passes = (kernel: string) =>
    evaluateEvery(tree, [["ARCH", "x86"], ["KERNEL_BOOTSTRAP", kernel]])
      .filter(({ index, line }) => index >= tree.manifest.lines.length && line.kind === "build")
      .map(({ line, pass }) => `${line.name} ${pass}`);
  expect(passes("True")).toEqual(["epsilon-7.0 1", "zeta-8.0 1", "zeta-8.0 2", "alpha-1.0 1"]);
  expect(passes("False")).toEqual(["epsilon-7.0 1", "zeta-8.0 1", "alpha-1.0 1"]);
});

test("an extra build that the checkout does not have is refused, with those that it has", () => {
  expect(faultOf(() => readTree(extra(), ["gentoo"]))).toStartWith(
    "Cannot use gentoo for --extra-builds: there is no steps-gentoo/manifest",
  );
});

test("two manifests cannot want two files of one name", () => {
  const files = { "steps-other/eta-9.0/sources": `f http://1/beta-2.0.tar.gz ${"0".repeat(64)}\n` };
  const root = extra({ files });
  expect(faultOf(() => readTree(root, ["other"]))).toEndWith("| steps-other/eta-9.0/sources:1");
  expect(readTree(root, ["guix"]).distfiles).toHaveLength(9);
});

test("a mirror, a server and a store have the distfiles of every extra build", () => {
  const root = extra();
  const names = readMirroredFiles(root).files.map(({ name }) => name);
  expect(names).toContain("guix-epsilon-7.0.tar.gz");
  expect(names).toContain("other-eta-9.0.tar.gz");
  const every = new Set(readEveryDistfile(root).map(({ name }) => name));
  expect([...every].sort()).toEqual([...names].sort());
});

test("an importer that reads numbers of 8 bytes gets a payload with such numbers", () => {
  const readsLayout64 = (source: string) =>
    readTree(
      writeMiniTree(
        temp.make(),
        miniTree({
          importsPayload: true,
          files: {
            "steps/manifest": "build: payload-import-1.0\nimprove: import_payload\n",
            "steps/payload-import-1.0/src/payload-import.c": source,
          },
        }),
      ).tree,
    ).ownImporter?.readsLayout64;
  expect(readsLayout64("file_count = get_u32le(buffer);")).toBe(false);
  expect(readsLayout64("file_count = get_u64le(buffer);")).toBe(true);
  expect(readsLayout64("/* layout 64 */")).toBe(true);
});
