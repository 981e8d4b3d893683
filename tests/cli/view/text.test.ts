// SPDX-License-Identifier: MIT
/** The console of a guest as lines of a terminal. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ConsoleText } from "../../../src/cli/view/text.ts";
import { printable } from "../../../src/text.ts";

/** The lines of an output, the last one without its end too. */
function linesOf(...chunks: Uint8Array[]): string[] {
  const text = new ConsoleText();
  return [...chunks.flatMap((chunk) => text.push(chunk)), text.current];
}

const bytes = (text: string) => new TextEncoder().encode(text);

test.each([
  ["lines with LF and with CR LF", "a\nb\r\nc", ["a", "b", "c"]],
  ["what is printed over", "10 %\r 20 %\r100 %\n", ["100 %", ""]],
  ["what is printed over in part", "abcdef\rXY\n", ["XYcdef", ""]],
  ["what is taken back", "abd\bc\n", ["abc", ""]],
  ["backspaces at the beginning of a line", "\b\b\ba", ["a"]],
  ["tabs", "a\tb\t\tc", ["a       b               c"]],
  ["colours, titles and movement", "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J\x1b[5;5Hx\n", [
    "redx",
    "",
  ]],
  ["letters of several bytes", "é漢\n", ["é漢", ""]],
])("%s are as a terminal shows them", (_, output, lines) => {
  expect(linesOf(bytes(output))).toEqual(lines);
});

test("a line without an end does not grow for ever", () => {
  const text = new ConsoleText();
  const lines = text.push(bytes("x".repeat(100_000)));
  expect(lines.join("") + text.current).toBe("x".repeat(100_000));
  for (let i = 0; i < 100; i++) text.push(bytes("y".repeat(1000)));
  expect(text.current.length).toBeLessThan(10_000);
});

test("lines have nothing that a terminal obeys, and are the same however the output is cut", () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.constantFrom("\x1b[2J", "\x1b]0;t\x07", "\r", "\n", "\t", "\b", "\u202e", "漢", "\x9b1m")
      .map(bytes),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), fc.array(fc.nat(600)), (pieces, cuts) => {
      const whole = Buffer.concat(pieces);
      const lines = linesOf(whole);
      for (const line of lines) expect(printable(line)).toBe(line);
      const places = [0, ...cuts.filter((at) => at < whole.length).sort((a, b) => a - b)];
      const chunks = places.map((at, index) => whole.subarray(at, places[index + 1]));
      expect(linesOf(...chunks)).toEqual(lines);
    }),
    { numRuns: 1000 },
  );
});
