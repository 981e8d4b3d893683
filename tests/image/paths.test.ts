// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { halfSipHash, PathNumbers } from "../../src/image/paths.ts";

test("PathNumbers gives each path one number, in the order in which they come", () => {
  const text = fc.string({ unit: "binary", maxLength: 4 });
  fc.assert(fc.property(fc.array(text, { maxLength: 60 }), (paths) => {
    const numbers = new PathNumbers();
    const known = [...new Set(paths)];
    for (const path of paths) expect(numbers.add(path)).toBe(known.indexOf(path));
    expect(numbers.count).toBe(known.length);
    known.forEach((path, number) => expect(numbers.path(number)).toBe(path));
  }));
});

test("PathNumbers takes many paths, and long ones", () => {
  const numbers = new PathNumbers();
  const paths = Array.from({ length: 20_000 }, (_, index) => `${"ü".repeat(index % 99)}/${index}`);
  paths.push("x".repeat(200_000), "", "\ufeffa");
  for (let round = 0; round < 2; round++) {
    paths.forEach((path, index) => expect(numbers.add(path)).toBe(index));
  }
  paths.forEach((path, index) => expect(numbers.path(index)).toBe(path));
});

test("halfSipHash() depends on every byte, the length and the key", () => {
  const hashes = new Set<number>();
  const key = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7);
  for (let length = 0; length < 9; length++) {
    const bytes = new Uint8Array(length);
    hashes.add(halfSipHash(key, bytes));
    for (let at = 0; at < length; at++) hashes.add(halfSipHash(key, bytes.with(at, 1)));
    hashes.add(halfSipHash(key.with(length % 8, 99), bytes));
  }
  expect(hashes.size).toBe(9 + 36 + 9);
  for (const hash of hashes) expect(hash >= 0 && hash < 2 ** 32).toBe(true);
});
