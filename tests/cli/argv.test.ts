// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { expandAbbreviations, expandShortOptions, passQemuArguments } from "../../src/cli/argv.ts";
import { formatBytes, formatCount, formatTable } from "../../src/cli/output.ts";
import { printable } from "../../src/text.ts";

test.each([
  [["-qr4096"], ["--qemu-ram=4096"]],
  [["-qr", "4096"], ["--qemu-ram", "4096"]],
  [["-qr=4096"], ["--qemu-ram=4096"]],
  [["-qs16G", "-qc=/q", "-qk", "K"], ["--target-size=16G", "--qemu-cmd=/q", "--kernel", "K"]],
  [["-bw"], ["--bwrap"]],
  [["-q", "-b", "-i", "-t", "x"], ["-q", "-b", "-i", "-t", "x"]],
  [["--qemu-ram", "-5", "a-qr"], ["--qemu-ram", "-5", "a-qr"]],
  [["-t=x=y", "-s=4G", "-m=http://a", "b"], ["-tx=y", "-s4G", "-mhttp://a", "b"]],
  [["-t=", "-t", "=", "--t=x"], ["-t", "", "-t", "=", "--t=x"]],
  [["-qr1", "--", "-qr1"], ["--qemu-ram=1", "--", "-qr1"]],
])("expandShortOptions() makes of %j %j", (args, wanted) => {
  expect(expandShortOptions(args)).toEqual(wanted);
});

const KNOWN = new Set(["--force", "--force-timestamps", "--mirror-port", "--qemu", "--tree"]);

test.each([
  [["--ext", "--mirror", "x"], ["--external-sources", "--mirrors", "x"]],
  [["--target-s=4G", "--no-c"], ["--target-size=4G", "--no-create-config"]],
  [["--force", "--qemu", "--force-t"], ["--force", "--qemu", "--force-timestamps"]],
  [["--tree", "--frob", "-t", "x"], ["--tree", "--frob", "-t", "x"]],
  [["--ext", "--", "--ext"], ["--external-sources", "--", "--ext"]],
])("expandAbbreviations() makes of %j %j", (args, wanted) => {
  expect(expandAbbreviations(args, KNOWN)).toEqual(wanted);
});

test.each([
  [["run", "t", "--", "-vnc", ":1", "--"], ["run", "t", "-vnc", ":1", "--"]],
  [["run", "--", "a=b", ""], ["run", "a=b", ""]],
  [["-q", "-m", "plan", "--", "-vnc"], ["-q", "-m", "plan", "-vnc"]],
])("passQemuArguments() gives QEMU what follows the first -- of %j", (args, words) => {
  const end = args.indexOf("--");
  const wanted = words.map((word, index) => index < end ? word : `--qemu-arg=${word}`);
  expect(passQemuArguments(args, new Set(["plan", "run"]))).toEqual(wanted);
});

test("passQemuArguments() leaves operands of other commands, and lines without --", () => {
  for (const args of [["plan", "--", "-x"], ["run", "t"], []]) {
    expect(passQemuArguments(args, new Set(["plan", "run"]))).toEqual(args);
  }
});

test("expandAbbreviations() refuses a prefix of several options", () => {
  expect(() => expandAbbreviations(["--tmp"], KNOWN)).toThrow("Cannot use --tmp: it is ambiguous");
});

test("formatBytes() has units of 1,024", () => {
  expect([0, 1023, 1024, 10 * 1024, 1.5 * 1024 ** 3, 5000 * 1024 ** 4].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.00 KiB",
    "10.0 KiB",
    "1.50 GiB",
    "5000.0 TiB",
  ]);
});

test("formatCount() sets thousands apart", () => {
  expect([0, 999, 1000, 1234567].map(formatCount)).toEqual(["0", "999", "1,000", "1,234,567"]);
});

test("formatTable() aligns its columns", () => {
  expect(formatTable([["a", "1", "x"], ["bbb", "22", ""]], "lrl")).toEqual([
    "a     1  x",
    "bbb  22",
  ]);
  expect(formatTable([], "lr")).toEqual([]);
});

test("printable() leaves no control character, and none that changes the order of text", () => {
  expect(printable("a\u202eb\u200b\u061c\ufeff\u2066")).toBe(
    "a\\u202eb\\u200b\\u061c\\ufeff\\u2066",
  );
  expect(printable("a\x1b[31m\x07\u009b\r\nä")).toBe("a\\x1b[31m\\x07\\x9b\\x0d\\x0aä");
});
