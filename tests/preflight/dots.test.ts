// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { MIB } from "../../src/format/segment.ts";
import { Dots } from "../../src/preflight/dots.ts";

/** Pushes a text in pieces that end at some places. */
function pushed(text: string, ends: readonly number[]): { text: string; dots: number } {
  const dots = new Dots();
  const bytes = new TextEncoder().encode(text);
  const places = [...ends.map((end) => end % (bytes.length + 1)), bytes.length].sort((a, b) =>
    a - b
  );
  let [shown, count, from] = ["", 0, 0];
  for (const end of places) {
    const result = dots.push(bytes.subarray(from, end));
    shown += new TextDecoder().decode(result.text);
    count += result.readBytes / (8 * MIB);
    from = end;
  }
  return { text: shown, dots: count };
}

test("a line of dots is counted, and not text, however it is cut", () =>
  fc.assert(fc.property(fc.array(fc.nat()), (ends) => {
    expect(pushed("preflight: start\r\n.....\r\npreflight: verdict ok\r\n..", ends)).toEqual({
      text: "preflight: start\r\npreflight: verdict ok\r\n",
      dots: 7,
    });
  })));

test("dots in other lines stay, also at their beginning", () =>
  fc.assert(fc.property(fc.array(fc.nat()), (ends) => {
    const text = "SeaBIOS (version 1.16.2)\r\n\r\n...and more\r\nx..\r\n";
    expect(pushed(text, ends).text).toBe(text);
  })));
