// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import type { Config } from "../../src/tree/config.ts";
import { evaluateManifest, type Manifest, parseManifest } from "../../src/tree/manifest.ts";
import { faultOf } from "../support/sources.ts";

const parse = (...lines: string[]): Manifest => parseManifest(lines.join("\n"), "m");
/** Returns the executed lines in the form `build:NAME/PASS`. */
const active = (manifest: Manifest, config: Config = []) =>
  evaluateManifest(manifest, config).map(({ line, pass }) =>
    `${line.kind}:${line.name}${line.kind === "build" ? `/${pass}` : ""}`
  );
const fault = (line: string) =>
  faultOf(() => parse("", "# comment", line)).replace("Cannot read manifest: ", "");

test("parseManifest() reads every directive, with its line", () => {
  const manifest = parse(
    "# head",
    "",
    "build: a-1.0",
    "improve: b",
    "jump: c",
    "define: D = x",
    "uninstall: e f",
    "",
  );
  expect(manifest.file).toBe("m");
  expect(manifest.lines).toEqual([
    { kind: "build", name: "a-1.0", line: 3, text: "build: a-1.0" },
    { kind: "improve", name: "b", line: 4, text: "improve: b" },
    { kind: "jump", name: "c", line: 5, text: "jump: c" },
    { kind: "define", name: "D", value: "x", line: 6, text: "define: D = x" },
    { kind: "uninstall", name: "e f", line: 7, text: "uninstall: e f" },
  ]);
  expect(parse().lines).toEqual([]);
});

test("parseManifest() tolerates what the in-system reader tolerates", () => {
  const tolerated: [string, string][] = [
    ["build: a ", "build:a/1"], // one space at the end
    ["build: a#b", "build:a/1"], // a comment right after a token
    ["build: a # b  c\td", "build:a/1"],
    ["build: a ( True )", "build:a/1"],
    ["build: a ( True ) (", "build:a/1"], // nothing after a predicate is read
    ["build: a ( True )  x  \t", "build:a/1"],
    ["build: a ( V ==  )", "build:a/1"], // an empty value
    ["build: a ( V !=  || V == )", ""],
    ["uninstall: a  b", "uninstall:a  b"],
    [`build: ${"x".repeat(63)}`, `build:${"x".repeat(63)}/1`],
    ["uninstall: a ( True )", "uninstall:a"],
  ];
  for (const [line, wanted] of tolerated.filter(([line]) => !line.includes("||"))) {
    expect([line, active(parse(line)).join()]).toEqual([line, wanted]);
  }
});

test("evaluateManifest() compares an unset variable as the empty string", () => {
  expect(active(parse("build: a ( V ==  )", "build: b ( V !=  )"))).toEqual(["build:a/1"]);
  expect(active(parse("build: a ( V ==  )", "build: b ( V !=  )"), [["V", "1"]]))
    .toEqual(["build:b/1"]);
});

test.each([
  ["frob x", 'expected build:, improve:, jump:, define: or uninstall:, found "frob"'],
  ["frob:  x", "one space too many"],
  ["build:", "build: needs a name"],
  ["build: # x", "build: needs a name"],
  ["build:  x", "one space too many"],
  ["build: x  ", "one space too many"],
  [" build: x", "one space too many"],
  ["build: \t", 'a tab, return or NUL is part of "\\t"'],
  ["build: x\t# y", 'a tab, return or NUL is part of "x\\t"'],
  ["build: x\r", 'a tab, return or NUL is part of "x\\r"'],
  ["build: x ( A == b\t)", 'a tab, return or NUL is part of "b\\t)"'],
  ["build: a b", 'expected a predicate to begin with "(", found "b"'],
  ["build: a ( A == b", 'the predicate has no closing ")"'],
  ["build: a ( A == b &&", 'the predicate has no closing ")"'],
  ["build: a (", 'the predicate has no closing ")"'],
  ["build: a ( )", 'the predicate has no closing ")"'],
  ["build: a ( A = b )", 'expected == or != after "A", found "="'],
  ["build: a ( A == b & C == d )", 'expected && or || or ")", found "&"'],
  ["build: a ( ( A == b )", 'the predicate has no closing ")"'],
  ["build: a ( ( A == b ) C )", 'expected && or || or ")", found "C"'],
  ["define: A", "expected define: NAME = VALUE"],
  ["define: A =", "expected define: NAME = VALUE"],
  ["define: A == b", "expected define: NAME = VALUE"],
  ["define: A = b c", 'expected a predicate to begin with "(", found "c"'],
  [`build: ${"x".repeat(64)}`, `a token has at most 63 bytes, "${"x".repeat(64)}" has 64`],
  [`build: ${"ä".repeat(32)}`, `a token has at most 63 bytes, "${"ä".repeat(32)}" has 64`],
])("parseManifest() refuses %j and names the line", (line, message) => {
  expect(fault(line)).toBe(`${message} | m:3`);
});

test("parseManifest() quotes only the start of a very long token", () => {
  expect(fault(`build: ${"x".repeat(4_000_000)}`)).toBe(
    `a token has at most 63 bytes, "${"x".repeat(297)}..." has 4000000 | m:3`,
  );
});

test("parseManifest() refuses a line with very many tokens", () => {
  expect(fault(`build: a ( ${Array(100_000).fill("A == b").join(" && ")} )`))
    .toBe("a line has at most 4096 tokens, this one has 400003 | m:3");
});

test("evaluateManifest() reads `a && b || c` as `a && (b || c)`, without precedence", () => {
  const values = ["True", "False"];
  for (const a of values) {
    for (const b of values) {
      for (const c of values) {
        const config: Config = [["A", a], ["B", b], ["C", c]];
        const is = (predicate: string) => active(parse(`build: x ( ${predicate} )`), config).length;
        const [x, y, z] = [a, b, c].map((value) => value === "True");
        expect(is("A == True && B == True || C == True")).toBe(x && (y || z) ? 1 : 0);
        expect(is("A == True || B == True && C == True")).toBe(x || (y && z) ? 1 : 0);
        expect(is("A != True && B == True")).toBe(!x && y ? 1 : 0);
        expect(is("A == True || False")).toBe(x ? 1 : 0);
        expect(is("A == True && True")).toBe(x ? 1 : 0);
      }
    }
  }
});

test("evaluateManifest() reads inner brackets, at which upstream's reader stops", () => {
  for (const [a, b, c] of [[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1]]) {
    const config: Config = [["A", `${a}`], ["B", `${b}`], ["C", `${c}`]];
    const is = (predicate: string) => active(parse(`build: x ( ${predicate} )`), config).length;
    expect(is("( A == 1 && B == 1 ) || C == 1")).toBe((a && b) || c ? 1 : 0);
    expect(is("A == 1 && ( B == 1 || ( C == 1 ) )")).toBe(a && (b || c) ? 1 : 0);
    expect(is("( ( True ) ) && A == 1")).toBe(a!);
    expect(is("( ( False ) )")).toBe(0);
  }
  expect(parse("build: a", "build: x ( ( A == 1 ) )").remarks).toEqual([
    "m:2: a predicate with inner brackets, at which live-bootstrap's own reader stops",
  ]);
  expect(parse("build: x ( A == 1 ) # ( (").remarks).toEqual([]);
});

test("a directive that is not known is kept with a remark, and never executed", () => {
  const manifest = parse("build: a", "fetch: b ( A == 1 )", "build: c");
  expect(active(manifest)).toEqual(["build:a/1", "build:c/1"]);
  expect(manifest.lines[1]).toEqual({
    kind: "unknown",
    name: "fetch:",
    line: 2,
    text: "fetch: b ( A == 1 )",
  });
  expect(manifest.remarks).toEqual([
    "m:2: the directive fetch: is not known: what it needs is neither counted nor carried",
  ]);
});

test("evaluateManifest() treats a single constant as true only if it is True", () => {
  expect(active(parse("build: a ( True )", "build: b ( true )", "build: c ( A )"), [["A", "True"]]))
    .toEqual(["build:a/1"]);
});

test("evaluateManifest() counts passes after the predicates, by argument only", () => {
  const manifest = parse(
    "build: a ( X == 1 )",
    "build: a",
    "build: b",
    "improve: b",
    "build: b",
    "uninstall: a",
    "build: a",
  );
  expect(active(manifest)).toEqual([
    "build:a/1",
    "build:b/1",
    "improve:b",
    "build:b/3",
    "uninstall:a",
    "build:a/3",
  ]);
  expect(active(manifest, [["X", "1"]])[1]).toBe("build:a/2");
});

test("evaluateManifest() applies defines to later lines, conditional and computed ones", () => {
  const manifest = parse(
    "define: K = ( A == 1 || B == 1 )",
    "define: L = no ( K == False )",
    "define: L = yes ( K == True )",
    "build: x ( L == yes )",
    "build: y ( L != yes )",
  );
  expect(active(manifest, [["Z", ""], ["A", "1"]])).toEqual(["build:x/1"]);
  expect(active(manifest, [["Z", ""], ["A", "2"], ["B", "1"]])).toEqual(["build:x/1"]);
  expect(active(manifest, [["Z", ""]])).toEqual(["build:y/1"]);
});

test("evaluateManifest() replaces a variable of the configuration, but never the first", () => {
  const manifest = parse(
    "define: A = 2",
    "define: B = 2",
    "build: a ( A == 2 )",
    "build: b ( B == 2 )",
  );
  expect(active(manifest, [["A", "1"], ["B", "1"]])).toEqual(["build:b/1"]);
  expect(active(manifest, [])).toEqual(["build:a/1", "build:b/1"]);
  // A lookup finds the first variable of a name; a define replaces the first after index 0.
  expect(active(manifest, [["B", "1"], ["B", "1"]])).toEqual(["build:a/1"]);
});

test("evaluateManifest() returns the index of each line in the manifest", () => {
  const manifest = parse("define: A = 1", "build: x ( A == 2 )", "build: y");
  expect(evaluateManifest(manifest, [["Q", ""]]).map(({ index }) => index)).toEqual([2]);
});

test("evaluateManifest() keeps variables as the in-system reader does, whatever is defined", () => {
  const name = fc.constantFrom("A", "B", "C");
  const value = fc.constantFrom("0", "1", "2");
  const pairs = fc.array(fc.tuple(name, value), { maxLength: 4 });
  fc.assert(
    fc.property(pairs, fc.array(fc.tuple(name, value), { maxLength: 12 }), (config, defs) => {
      const probes = ["A", "B", "C"].flatMap((name) =>
        ["1", "2"].map((value) => `build: ${name}${value} ( ${name} == ${value} )`)
      );
      const manifest = parse(
        ...defs.map(([name, value]) => `define: ${name} = ${value}`),
        ...probes,
      );
      // The list of the in-system reader, searched from its beginning.
      const list = config.map(([name, value]) => ({ name, value }));
      for (const [name, value] of defs) {
        const at = list.findIndex((variable, index) => index > 0 && variable.name === name);
        if (at > 0) list[at]!.value = value;
        else list.push({ name, value });
      }
      const wanted = ["A", "B", "C"].flatMap((name) => {
        const found = list.find((variable) => variable.name === name)?.value ?? "";
        return found === "" || found === "0" ? [] : [`build:${name}${found}/1`];
      });
      expect(active(manifest, config)).toEqual(wanted);
    }),
  );
});

// With a search through all variables for each line this takes many minutes.
test("evaluateManifest() takes 200,000 definitions and as many lookups", () => {
  const size = 200_000;
  const lines = Array.from({ length: size }, (_, index) => [
    `define: V${index} = x`,
    `build: a ( V${index} == x )`,
  ]);
  const config = lines.map((_, index): [string, string] => [`C${index}`, "1"]);
  expect(evaluateManifest(parse(...lines.flat()), config)).toHaveLength(size);
});
