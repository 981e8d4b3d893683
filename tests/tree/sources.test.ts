// SPDX-License-Identifier: MIT
import { UserError } from "../../src/errors.ts";
import { expect, test } from "bun:test";
import { configValue, formatConfig, parseConfig } from "../../src/tree/config.ts";
import { mergeSources } from "../../src/tree/distfiles.ts";
import { parseSources } from "../../src/tree/sources.ts";
import { faultOf } from "../support/sources.ts";

const A = "a".repeat(64);
const B = "b".repeat(64);
const parse = (text: string) => parseSources(text, "steps/x/sources");

test("parseSources() reads files and git sources, long forms too", () => {
  const url = "https://h/p/a-1.tar.gz";
  expect(parse(`f ${url} ${A}\nfile ${url} ${A} other.tar.gz\n`)).toEqual([
    { url, sha256: A, fileName: "a-1.tar.gz", line: 1 },
    { url, sha256: A, fileName: "other.tar.gz", line: 2 },
  ]);
  const git = { url: "git://h/r.git", reference: "v1~2" };
  expect(parse(`g git://h/r.git~v1 ${url} ${A}\ngit https://h/r~s _ ${B} r.tar.gz\n`)).toEqual([
    { url, sha256: A, fileName: "a-1.tar.gz", git: { ...git, reference: "v1" }, line: 1 },
    {
      url: "_",
      sha256: B,
      fileName: "r.tar.gz",
      git: { url: "https://h/r", reference: "s" },
      line: 2,
    },
  ]);
});

test("parseSources() quotes only the start of a very long field", () => {
  expect(faultOf(() => parse(`${"x".repeat(4_000_000)}\n`))).toBe(
    `Cannot read sources: expected f, file, g or git, found "${
      "x".repeat(297)
    }..." | steps/x/sources:1`,
  );
});

test("parseSources() ignores white space at the end of a line, and accepts an empty file", () => {
  expect(parse("")).toEqual([]);
  expect(parse(`f http://h/a ${A} \t\n`)).toHaveLength(1);
});

test("parseSources() reads a single line without a newline, which the machine does not download", () => {
  const remarks: string[] = [];
  const found = parseSources(`f http://h/a ${A}`, "s", (where, what) => remarks.push(where + what));
  expect(found).toEqual([{ url: "http://h/a", sha256: A, fileName: "a", line: 1, isUnread: true }]);
  expect(remarks).toEqual([
    "s:1the line has no newline: the booted machine does not download its file",
  ]);
});

test.each([
  [`f http://h/a ${A}`, "the last line has no newline, the booted machine would skip it"],
  ["x http://h/a\n", 'expected f, file, g or git, found "x"'],
  [`x ${A}\n`, 'expected f, file, g or git, found "x"'],
  [`git://h/r ${A} n\n`, 'expected git://host/path~REFERENCE, found "git://h/r"'],
  ["f\n", "expected URL SHA256 [FILE_NAME]"],
  ["f http://h/a\n", "expected URL SHA256 [FILE_NAME]"],
  [`f ftp://h/a ${A}\n`, 'expected an http or https URL, found "ftp://h/a"'],
  [`f _ ${A} n\n`, 'expected an http or https URL, found "_"'],
  [`f http://h/a ${A.slice(1)}\n`, "expected a SHA-256 of 64 lower-case hex digits"],
  [`f http://h/a ${A.toUpperCase()}\n`, "expected a SHA-256 of 64 lower-case hex digits"],
  [`f http://h/ ${A}\n`, '"" cannot be a file name: it is empty'],
  [`f http://h/a ${A} ..\n`, '".." cannot be a file name: it starts with a dot'],
  [`f http://h/a ${A} a/b\n`, '"a/b" cannot be a file name: it contains a path separator'],
  [`f http://h/a ${A} a\\b\n`, '"a\\\\b" cannot be a file name: it contains a path separator'],
  [
    `f http://h/a ${A} ${"x".repeat(256)}\n`,
    `"${"x".repeat(256)}" cannot be a file name: it has 256 bytes`,
  ],
  [`g git://h/r _ ${A} n\n`, 'expected git://host/path~REFERENCE, found "git://h/r"'],
  [`g git://h/r~ _ ${A} n\n`, "expected git://host/path~REFERENCE"],
  [`g ssh://h/r~x _ ${A} n\n`, "expected git://host/path~REFERENCE"],
  [`g git://h/r~x _ ${A}\n`, "a source without an HTTP URL needs a file name"],
  ["g\n", 'expected git://host/path~REFERENCE, found ""'],
])("parseSources() refuses %j and names the line", (text, message) => {
  const good = `f http://h/good ${A}\n`;
  const fault = faultOf(() => parse(`${good}${text}`));
  expect(fault).toStartWith(`Cannot read sources: ${message}`);
  expect(fault).toEndWith("| steps/x/sources:2");
});

test("parseSources() reads lines without a type, as before October 2025", () => {
  const url = "https://h/p/a-1.tar.gz";
  expect(parse(`${url} ${A}\ngit://h/r~v1 ${url} ${A}\ngit://h/r~v2 _ ${B} r.tar\n`)).toEqual([
    { url, sha256: A, fileName: "a-1.tar.gz", line: 1, isUntyped: true },
    {
      url,
      sha256: A,
      fileName: "a-1.tar.gz",
      git: { url: "git://h/r", reference: "v1" },
      line: 2,
      isUntyped: true,
    },
    {
      url: "_",
      sha256: B,
      fileName: "r.tar",
      git: { url: "git://h/r", reference: "v2" },
      line: 3,
      isUntyped: true,
    },
  ]);
});

test("parseSources() takes the white space, types and last fields that upstream's reader takes", () => {
  const read = (text: string) => {
    const remarks: string[] = [];
    const sources = parseSources(text, "s", (where, what) => remarks.push(`${where}: ${what}`));
    return { sources: sources.map(({ url, fileName }) => `${url} ${fileName}`), remarks };
  };
  const taken = { sources: ["http://h/a a"], remarks: [] };
  expect(read(`f  http://h/a   ${A}\n`)).toEqual(taken);
  expect(read(` \tf http://h/a\t${A} a\n`)).toEqual(taken);
  expect(read(`f http://h/a ${A} a more\n`)).toEqual(taken);
  expect(read(`f http://h/a ${A} a # a comment\n`)).toEqual(taken);
  const typed = read(`z http://h/a ${A}\nz zz://h/r~1 _ ${A} n\n`.replace("_", "http://h/b"));
  expect(typed.sources).toEqual(["http://h/a a", "http://h/b n"]);
  expect(typed.remarks).toEqual([
    's:1: the type "z" is not known: read by its URL and SHA-256',
    's:2: the type "z" is not known: read by its URL and SHA-256',
  ]);
});

test("parseSources() leaves out comments and empty lines, and says what the machine does", () => {
  const remarks: string[] = [];
  const text = `# why\n\nf http://h/a ${A} # so\n`;
  const sources = parseSources(text, "s", (where, what) => remarks.push(`${where}: ${what}`));
  expect(sources.map(({ fileName, line }) => `${fileName} ${line}`)).toEqual(["a 3"]);
  const reads = "if it reads this file";
  expect(remarks).toEqual([
    `s:1: a comment: the booted machine takes it for a distfile ${reads}`,
    `s:2: an empty line: the booted machine takes it for a distfile ${reads}`,
    `s:3: a comment after the SHA-256: the booted machine takes "#" for the file name ${reads}`,
  ]);
});

test("parseSources() has a hint about names for a name, and one about the syntax for the rest", () => {
  const hintOf = (text: string) => {
    try {
      parse(text);
    } catch (error) {
      return error instanceof UserError ? error.hint : undefined;
    }
  };
  expect(hintOf(`f http://h/a ${A} a/b\n`)).toStartWith("Give another FILE_NAME");
  expect(hintOf("f\n")).toStartWith("A line is: f URL SHA256");
});

test("mergeSources() joins the URLs of a name, in order and without duplicates", () => {
  const lines = (step: string, index: number, text: string) =>
    parse(text).map((source) => ({ step, index, file: `steps/${step}/sources`, source }));
  const merged = mergeSources([
    ...lines("p", 3, `f http://1/a ${A}\nf http://2/a ${A}\ng git://g~r http://1/a ${A}\n`),
    ...lines("q", 5, `f http://3/b ${B}\ng git://g~r _ ${A} a\n`),
    ...lines("p", 9, `f http://1/a ${A}\n`),
  ]);
  expect(merged).toEqual([
    {
      name: "a",
      sha256: A,
      urls: ["http://1/a", "http://2/a"],
      git: [{ url: "git://g", reference: "r" }],
      uses: [{ step: "p", index: 3 }, { step: "q", index: 5 }, { step: "p", index: 9 }],
    },
    { name: "b", sha256: B, urls: ["http://3/b"], git: [], uses: [{ step: "q", index: 5 }] },
  ]);
});

test("mergeSources() refuses one name with two checksums, and names both lines", () => {
  const [one, two] = parse(`f http://1/a ${A}\nf http://2/a ${B}\n`);
  const placed = [
    { step: "p", index: 0, file: "steps/p/sources", source: one! },
    { step: "q", index: 1, file: "steps/q/sources", source: two! },
  ];
  expect(faultOf(() => mergeSources(placed))).toBe(
    `Cannot use two distfiles with the name a: steps/p/sources:1 wants SHA-256 ${A}, ` +
      `steps/q/sources:2 wants ${B} | steps/q/sources:2`,
  );
});

test("parseConfig() takes the rest of a line as the value, and the first of two values", () => {
  const text = 'A=1\nB="x=y z"\nC=\nA=2\n';
  const config = parseConfig(text, "c");
  expect(config).toEqual([["A", "1"], ["B", '"x=y z"'], ["C", ""], ["A", "2"]]);
  expect(formatConfig(config)).toBe(text);
  expect(configValue(config, "A")).toBe("1");
  expect(configValue(config, "Z")).toBe("");
  expect(parseConfig("", "c")).toEqual([]);
});

test.each([
  ["A=1", "the last line has no newline", 1],
  ["A=1\n\n", "expected NAME=VALUE", 2],
  ["A=1\n# x\n", "expected NAME=VALUE", 2],
  [`A=1\nB=${"x".repeat(2045)}\n`, "a line has at most 2046 bytes and no NUL", 2],
  ["A=\0\n", "a line has at most 2046 bytes and no NUL", 1],
])("parseConfig() refuses %p and names the line", (text, message, line) => {
  const fault = faultOf(() => parseConfig(text, "c"));
  expect(fault).toStartWith(`Cannot read bootstrap.cfg: ${message}`);
  expect(fault).toEndWith(`| c:${line}`);
});

test("formatConfig() refuses what could not be read back", () => {
  expect(parseConfig(formatConfig([["A", "x".repeat(2044)]]), "c")).toHaveLength(1);
  for (const [name, value] of [["A", "x".repeat(2045)], ["A", "1\n2"], ["A B", ""], ["", "1"]]) {
    expect(faultOf(() => formatConfig([["OK", "1"], [name!, value!]]))).toEndWith(
      "| steps/bootstrap.cfg:2",
    );
  }
});
