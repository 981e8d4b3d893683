// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PlainOutput } from "../../src/console/plain.ts";

const encoder = new TextEncoder();

function plain(text: string, chunkBytes = 1000): string {
  const output = new PlainOutput();
  const bytes = encoder.encode(text);
  let result = "";
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    result += output.push(bytes.subarray(at, at + chunkBytes));
  }
  return result;
}

test("what SeaBIOS begins with leaves its text only", () => {
  const text = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16)\r\n";
  expect(plain(text)).toBe("SeaBIOS (version 1.16)\r\n");
});

test("titles, answers, colours, C1 and bidirectional characters do not reach a terminal", () => {
  const text =
    "a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c\x1bP$q\x1b\\d\x1b[31me\u009b2Jf\u202eg\u200bh";
  expect(plain(text)).toBe("abcde2Jfgh");
});

test("text of any language, tabs and lines pass", () => {
  const text = "grün\tпривет 日本\b\r\n100 %\n";
  expect(plain(text)).toBe(text);
});

test("however it is cut, the same text comes out, and nothing that a terminal obeys", () => {
  const parts = fc.array(
    fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 5 }),
      fc.constantFrom("\x1b[?7l", "\x1b[1;31m", "\x1b]0;t\x07", "\x1bc", "\x1b(B", "\x9b", "\n"),
    ),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(parts, fc.integer({ min: 1, max: 9 }), (parts, chunkBytes) => {
      const text = parts.join("");
      const cut = plain(`${text}\n`, chunkBytes);
      expect(cut).toBe(plain(`${text}\n`));
      // deno-lint-ignore no-control-regex -- that is what is looked for
      expect(cut).not.toMatch(/[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]/);
    }),
  );
});

test("a sequence without an end swallows little, and takes no memory", () => {
  const output = new PlainOutput();
  output.push(encoder.encode("\x1b]0;"));
  for (let i = 0; i < 100; i++) output.push(encoder.encode("x".repeat(1000)));
  expect(output.push(encoder.encode("\nhere\n"))).toContain("here");
});
