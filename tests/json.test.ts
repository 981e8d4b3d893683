// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as v from "valibot";
import {
  anyText,
  count,
  list,
  object,
  objectOf,
  openObject,
  parseJson,
  textThat,
} from "../src/json.ts";

const POINT = object({ x: count(0, 9), name: v.exactOptional(anyText) });

test("parseJson() returns the value with its keys in the order of the text", () => {
  const read = parseJson(object({ a: anyText, b: anyText }), '{"b":"1","a":"2"}');
  expect(JSON.stringify(read)).toBe('{"b":"1","a":"2"}');
});

test.each([
  ["", "it is not JSON"],
  ["{", "it is not JSON"],
  ["null", "it is null, not an object"],
  ['"x"', 'it is "x", not an object'],
  ["[]", "x is missing"],
  ["[1]", "x is missing"],
  ["{}", "x is missing"],
  ['{"x":10}', "x is 10, not a whole number from 0 to 9"],
  ['{"x":-0.5}', "x is -0.5, not a whole number from 0 to 9"],
  ['{"x":1e400}', "x is Infinity, not a whole number from 0 to 9"],
  ['{"x":null}', "x is null, not a whole number from 0 to 9"],
  ['{"x":1,"name":null}', "name is null, not a string"],
  ['{"x":1,"__proto__":{"x":1}}', "__proto__ is not known"],
  ['{"__proto__":{"x":1}}', "x is missing"],
  ['{"x":1,"constructor":1}', "constructor is not known"],
  ['{"x":1,"hasOwnProperty":1}', "hasOwnProperty is not known"],
  ['{"x":1,"a\\nb":1}', String.raw`"a\nb" is not known`],
])("parseJson() says of %s that %s", (text, fault) => {
  expect(parseJson(POINT, text)).toBe(fault);
});

test("a fault is short, whatever the text", () => {
  const long = "k".repeat(1e6);
  for (const text of [`"${long}"`, `{"x":"${long}"}`, `{"x":1,"${long}":1}`]) {
    expect(String(parseJson(POINT, text)).length).toBeLessThan(150);
  }
});

test("nesting of any depth is a fault, not a crash", () => {
  for (const depth of [1e4, 1e5, 1e6]) {
    const nested = "[".repeat(depth) + "]".repeat(depth);
    for (const text of [nested, nested.slice(0, depth), `{"x":${nested}}`]) {
      expect(typeof parseJson(POINT, text)).toBe("string");
    }
  }
});

test("a text is refused for its extent before it is parsed", () => {
  const deep = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  expect(parseJson(POINT, deep(64))).toBe("x is missing");
  expect(parseJson(POINT, deep(65))).toBe("it is nested deeper than 64 levels");
  expect(parseJson(POINT, "[".repeat(30_000_000))).toBe("it is nested deeper than 64 levels");
  expect(parseJson(POINT, "{},".repeat(1_000_000))).toBe("it has more than 2000000 values");
  expect(parseJson(POINT, `[0${",0".repeat(1_999_998)}]`)).toBe("x is missing");
  expect(parseJson(POINT, `[0${",0".repeat(1_999_999)}]`)).toBe("it has more than 2000000 values");
});

test("brackets and commas within a text do not count, quoted quotes end none", () => {
  const odd = `${"[".repeat(100)}${",".repeat(3_000_000)}\\\"`;
  const schema = openObject({ x: anyText });
  expect(parseJson(schema, JSON.stringify({ x: odd }))).toEqual({ x: odd });
  expect(parseJson(schema, `{"x":"${"[".repeat(100)}`)).toBe("it is not JSON");
  expect(parseJson(schema, `{"x":"a\\\\"${"[".repeat(100)}`)).toBe(
    "it is nested deeper than 64 levels",
  );
});

test("openObject() accepts unknown fields, and keeps them in their order", () => {
  const read = parseJson(openObject({ x: anyText }), '{"y":1,"x":"1","__proto__":{"z":1}}');
  expect(JSON.stringify(read)).toBe('{"y":1,"x":"1","__proto__":{"z":1}}');
  expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
});

test("a fault in a list has its index in the path", () => {
  const lines = objectOf<{ readonly lines: readonly string[] }>({
    lines: list(textThat((line) => line !== "", "a line")),
  });
  expect(parseJson(lines, '{"lines":["a",""]}')).toBe('lines.1 is "", not a line');
});
