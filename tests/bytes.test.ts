// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { compareBytes, isZero, sha256Of, sortedByBytes } from "../src/bytes.ts";

test("compareBytes() orders byte strings as memcmp does", () =>
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 8 }), fc.uint8Array({ maxLength: 8 }), (a, b) => {
      expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
    }),
  ));

test("sortedByBytes() sorts by UTF-8, where UTF-16 has another order", () => {
  const names = ["\u{10000}", "\uffff", "b", "a", "ab"];
  expect(sortedByBytes(names, (name) => name)).toEqual(["a", "ab", "b", "\uffff", "\u{10000}"]);
  expect([...names].sort()).not.toEqual(sortedByBytes(names, (name) => name));
});

test("sortedByBytes() keeps the order of items with equal keys", () => {
  const items = [["b", 1], ["a", 2], ["b", 3], ["a", 4]] as const;
  expect(sortedByBytes(items, ([text]) => text).map(([, n]) => n)).toEqual([2, 4, 1, 3]);
});

test("isZero() finds a single byte that is not zero, wherever it is", () =>
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 200_000 }), fc.nat(199_999), (size, at) => {
      const bytes = new Uint8Array(size);
      expect(isZero(bytes)).toBe(true);
      if (at >= size) return;
      bytes[at] = 1;
      expect(isZero(bytes)).toBe(false);
    }),
    { numRuns: 50 },
  ));

test("sha256Of() agrees with sha256sum, for bytes and for text", () => {
  const { stdout } = spawnSync("sha256sum", { input: "grün\n", encoding: "utf8" });
  const digest = stdout.slice(0, 64);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect(sha256Of("grün\n")).toBe(digest);
  expect(sha256Of(Buffer.from("grün\n"))).toBe(digest);
});
