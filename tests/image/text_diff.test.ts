// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { diffText } from "../../src/image/text_diff.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const text = fc.tuple(fc.array(fc.constantFrom("a", "b", "c", ""), { maxLength: 30 }), fc.boolean())
  .map(([lines, isEnded]) => lines.join("\n") + (isEnded ? "\n" : ""));

testWith("patch")("patch makes the second text from the first", () => {
  const dir = temp.make();
  fc.assert(
    fc.property(text, text, (a, b) => {
      const lines = diffText(a, b)!;
      expect(lines.length === 0).toBe(a === b);
      if (a === b) return;
      const [file, change] = [join(dir, "file"), join(dir, "change")];
      writeFileSync(file, a);
      writeFileSync(change, ["--- file", "+++ file", ...lines, ""].join("\n"));
      // Without --posix a file that becomes empty is removed.
      const ran = Bun.spawnSync(["patch", "-s", "--posix", file, change]);
      expect(ran.stdout.toString() + ran.stderr.toString()).toBe("");
      expect(readFileSync(file, "utf8")).toBe(b);
    }),
    { numRuns: 200 },
  );
});

test("diffText() shows three lines around a change, as diff -u does", () => {
  const lines = Array.from({ length: 20 }, (_, i) => `${i}`);
  const changed = lines.with(9, "new");
  expect(diffText(`${lines.join("\n")}\n`, `${changed.join("\n")}\n`)).toEqual([
    "@@ -7,7 +7,7 @@",
    " 6",
    " 7",
    " 8",
    "-9",
    "+new",
    " 10",
    " 11",
    " 12",
  ]);
  expect(diffText("", "a\n")).toEqual(["@@ -0,0 +1 @@", "+a"]);
  expect(diffText("a\n", "a")).toEqual(["@@ -1 +1 @@", "-a", "+a", "\\ No newline at end of file"]);
  expect(diffText("a\r\n", "a\n")).toEqual(["@@ -1 +1 @@", "-a\r", "+a"]);
});

test("diffText() gives up on texts that have too little in common", () => {
  const lines = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${prefix}${i}\n`).join("");
  expect(diffText(lines("a", 600), lines("b", 600))).toBeUndefined();
  expect(diffText(lines("a", 20_001), "")).toBeUndefined();
});
