// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  hasTreeFile,
  openCheckout,
  readTreeFile,
  readTreeText,
  walkTree,
} from "../../src/tree/checkout.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Makes a directory with a checkout in `c` and a file beside it. */
function checkout(): string {
  const dir = temp.make();
  writeFiles(dir, {
    "outside/secret": "x",
    "c/steps/manifest": "",
    "c/d/a file": "12345",
    "c/d/inner/f": "1",
    "c/d/none/": "",
  });
  return join(dir, "c");
}

const walked = (root: string, path = "d") =>
  walkTree(root, path).map(({ path, kind, sizeBytes }) => `${path} ${kind} ${sizeBytes}`).sort();
const PLAIN = ["a file file 5", "inner directory 0", "inner/f file 1", "none directory 0"];

test("openCheckout() accepts a directory with steps/manifest, and no other", () => {
  const root = checkout();
  expect(openCheckout(`${root}/../c/`)).toBe(root);
  const other = temp.make();
  for (const dir of [other, join(other, "none"), join(root, "steps", "manifest")]) {
    expect(faultOf(() => openCheckout(dir))).toStartWith(
      `Cannot find a live-bootstrap checkout in ${dir}`,
    );
  }
  mkdirSync(join(other, "steps", "manifest"), { recursive: true });
  expect(faultOf(() => openCheckout(other))).toStartWith("Cannot find");
});

test("walkTree() lists files with their sizes, and directories", () => {
  const root = checkout();
  expect(walked(root)).toEqual(PLAIN);
  expect(walkTree(root, "d").find(({ path }) => path === "inner/f")!.source)
    .toBe(join(root, "d/inner/f"));
});

test("walkTree() leaves out .git, but no files with similar names", () => {
  const root = checkout();
  writeFiles(join(root, "d"), { ".git/config": "", "inner/.git": "", ".gitignore": "" });
  expect(walked(root)).toEqual([...PLAIN, ".gitignore file 0"].sort());
});

test("walkTree() follows links inside the checkout", () => {
  const root = checkout();
  symlinkSync("a file", join(root, "d/link"));
  symlinkSync("../steps", join(root, "d/dir"));
  symlinkSync("inner", join(root, "d/again"));
  expect(walked(root)).toEqual([
    ...PLAIN,
    "again directory 0",
    "again/f file 1",
    "dir directory 0",
    "dir/manifest file 0",
    "link file 5",
  ].sort());
});

test("walkTree() works if the path of the checkout is a link", () => {
  const root = checkout();
  symlinkSync("c", join(root, "..", "via"));
  symlinkSync("inner", join(root, "d/again"));
  expect(walked(join(root, "..", "via"))).toContain("again/f file 1");
  expect(readTreeText(join(root, "..", "via"), "d/a file")).toBe("12345");
});

test("walkTree() refuses links that leave the checkout", () => {
  for (const target of ["../../outside/secret", "/dev/null", "../../outside", "../.."]) {
    const root = checkout();
    symlinkSync(target, join(root, "d/link"));
    const fault = faultOf(() => walkTree(root, "d"));
    expect(fault).toStartWith("Cannot follow a link out of the checkout, to /");
    expect(fault).toEndWith(`| ${join(root, "d/link")}`);
  }
});

test("walkTree() refuses links that form a loop", () => {
  for (const target of [".", "..", "../../d", "/proc/self/cwd"]) {
    const root = checkout();
    symlinkSync(target, join(root, "d/inner/link"));
    expect(faultOf(() => walkTree(root, "d"))).toStartWith("Cannot follow a link ");
  }
  const root = checkout();
  symlinkSync("self", join(root, "d/self"));
  expect(faultOf(() => walkTree(root, "d"))).toStartWith("Cannot read the checkout: ELOOP");
});

test("walkTree() refuses links that multiply", () => {
  const root = checkout();
  for (let level = 0; level < 10; level++) {
    mkdirSync(join(root, `d/${level}`));
    for (const name of level === 0 ? [] : ["a", "b"]) {
      symlinkSync(`../${level - 1}`, join(root, `d/${level}/${name}`));
    }
  }
  expect(faultOf(() => walkTree(root, "d"))).toStartWith("Cannot follow more than 1000 links");
});

test("walkTree() refuses a dangling link", () => {
  const root = checkout();
  symlinkSync("none here", join(root, "d/link"));
  expect(faultOf(() => walkTree(root, "d"))).toStartWith("Cannot read the checkout: ENOENT");
});

testWith("mkfifo")("walkTree() refuses a fifo, and does not hang", () => {
  const root = checkout();
  Bun.spawnSync(["mkfifo", join(root, "d/pipe")]);
  expect(faultOf(() => walkTree(root, "d"))).toBe(
    `Cannot use pipe: neither a file nor a directory | ${join(root, "d/pipe")}`,
  );
  expect(faultOf(() => readTreeFile(root, "d/pipe"))).toStartWith("Cannot read d/pipe: it is no");
});

test("walkTree() refuses a file name that is not UTF-8", () => {
  const root = checkout();
  try {
    writeFileSync(Buffer.concat([Buffer.from(join(root, "d/bad")), Buffer.from([0xff])]), "");
  } catch {
    console.log("skipped: this file system accepts only names in UTF-8");
    return;
  }
  expect(faultOf(() => walkTree(root, "d"))).toStartWith(
    "Cannot use a file name that is not UTF-8: bad",
  );
});

test("a missing submodule is reported with a hint", () => {
  const root = checkout();
  for (const read of [() => walkTree(root, "seed"), () => readTreeFile(root, "builder/x")]) {
    expect(faultOf(read)).toStartWith(`Cannot read the checkout: ENOENT | ${root}/`);
    try {
      read();
    } catch (error) {
      expect(error).toMatchObject({ kind: "tree" });
      expect(error).toHaveProperty(
        "hint",
        "Is the checkout complete? git submodule update --init --recursive",
      );
    }
  }
});

test("a file in place of a directory, and a directory in place of a file, is reported", () => {
  const root = checkout();
  expect(faultOf(() => walkTree(root, "d/a file"))).toStartWith(
    "Cannot read the checkout: ENOTDIR",
  );
  expect(faultOf(() => readTreeFile(root, "d/a file/x"))).toContain("ENOTDIR");
  expect(faultOf(() => readTreeFile(root, "d/inner"))).toStartWith(
    "Cannot read d/inner: it is no regular file",
  );
  expect(hasTreeFile(root, "d/a file/x")).toBe(false);
  expect(hasTreeFile(root, "d/inner")).toBe(false);
  expect(hasTreeFile(root, "d/none/x")).toBe(false);
  rmSync(join(root, "d"), { recursive: true });
  expect(hasTreeFile(root, "d/a file")).toBe(false);
});

test("readTreeFile() reads no file outside the checkout", () => {
  const root = checkout();
  symlinkSync("../../outside/secret", join(root, "d/link"));
  expect(faultOf(() => readTreeFile(root, "d/link"))).toStartWith("Cannot follow a link out");
  expect(faultOf(() => readTreeFile(root, "../outside/secret"))).toStartWith("Cannot follow");
});

test("readTreeText() refuses a file that is not UTF-8", () => {
  const root = checkout();
  writeFileSync(join(root, "d/text"), new Uint8Array([0x61, 0xff]));
  expect(faultOf(() => readTreeText(root, "d/text"))).toStartWith(
    "Cannot read d/text: it is not UTF-8 text",
  );
});
