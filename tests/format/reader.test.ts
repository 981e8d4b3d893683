// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  Cursor,
  firstNonZero,
  memorySource,
  readExactly,
  readRange,
  sliceOf,
  takeExactly,
  WINDOW_BYTES,
} from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { sampleBody } from "../fetch/servers.ts";
import { concat, faultOf, watchedSource } from "../support/sources.ts";

const body = sampleBody(3 * WINDOW_BYTES + 17);

test("Cursor returns the bytes at its offset, however it is moved", () =>
  fc.assert(
    fc.property(
      fc.array(fc.record({
        jump: fc.option(fc.nat(body.length), { nil: undefined }),
        length: fc.oneof(fc.nat(2000), fc.nat(WINDOW_BYTES)),
        takes: fc.boolean(),
      })),
      (moves) => {
        const cursor = new Cursor(memorySource(body));
        for (const { jump, length, takes } of moves) {
          if (jump !== undefined) cursor.offsetBytes = jump;
          const wanted = body.subarray(cursor.offsetBytes, cursor.offsetBytes + length);
          const isWhole = wanted.length === length;
          const got = takes && isWhole ? cursor.take(length, "it") : cursor.peek(length);
          expect(Buffer.from(got).equals(wanted)).toBe(true);
        }
      },
    ),
  ));

test("Cursor.take() reports where a source ends too early, and does not advance", () => {
  const cursor = new Cursor(memorySource(new Uint8Array(10), "x.img"), 7);
  expect(faultOf(() => cursor.take(4, "a header"))).toBe(
    "Cannot read image: the image ends inside a header | x.img, offset 7",
  );
  expect(cursor.offsetBytes).toBe(7);
  expect(cursor.remainingBytes).toBe(3);
  expect(cursor.take(3, "the rest")).toHaveLength(3);
  expect(cursor.peek(1)).toHaveLength(0);
  cursor.offsetBytes = 11;
  expect(cursor.remainingBytes).toBe(0);
});

test("Cursor never reads more than its window at once", () => {
  const source = watchedSource(body);
  const cursor = new Cursor(source);
  while (cursor.remainingBytes > 0) cursor.take(Math.min(1000, cursor.remainingBytes), "it");
  expect(source.maxRead).toBe(WINDOW_BYTES);
  expect(source.totalRead).toBeLessThan(1.1 * body.length);
});

test("readRange() yields a run in parts of at most a MiB", () => {
  const source = watchedSource(sampleBody(2 * MIB + 100));
  const parts = Array.from(readRange(source, 50, 2 * MIB + 1), (part) => part.slice());
  expect(parts.map(({ length }) => length)).toEqual([MIB, MIB, 1]);
  expect(Buffer.from(concat(parts)).equals(sampleBody(2 * MIB + 51).subarray(50))).toBe(true);
  expect([...readRange(source, 5, 0)]).toEqual([]);
});

test("readRange() reports where a source ends too early", () => {
  const run = readRange(memorySource(new Uint8Array(10), "x.img"), 4, 9);
  expect(faultOf(() => [...run])).toBe(
    "Cannot read image: the image ends 3 bytes too early | x.img, offset 10",
  );
});

test("readRange() and firstNonZero() take bounded memory whatever size a source claims", () => {
  const claimed = { name: "x", sizeBytes: 2 ** 50, read: () => 0 };
  expect(faultOf(() => [...readRange(claimed, 0, 2 ** 49)])).toEndWith("too early | x, offset 0");
  expect(firstNonZero(claimed, 0)).toBe(-1);
});

test("firstNonZero() finds the first byte that is not zero from an offset on", () => {
  for (const at of [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 9]) {
    const bytes = new Uint8Array(2 * MIB + 10);
    bytes[at] = 1;
    expect(firstNonZero(memorySource(bytes), 0)).toBe(at);
    expect(firstNonZero(memorySource(bytes), at)).toBe(at);
    expect(firstNonZero(memorySource(bytes), at + 1)).toBe(-1);
    expect(firstNonZero(memorySource(bytes), 0, at)).toBe(-1);
    expect(firstNonZero(memorySource(bytes), 0, at + 1)).toBe(at);
  }
  expect(firstNonZero(memorySource(new Uint8Array()), 0)).toBe(-1);
  expect(firstNonZero(memorySource(new Uint8Array(5)), 99)).toBe(-1);
});

test("readExactly() returns bytes of a source, or undefined where it is too short", () => {
  const source = memorySource(Uint8Array.of(1, 2, 3, 4, 5));
  expect(readExactly(source, 1, 3)).toEqual(Uint8Array.of(2, 3, 4));
  expect(readExactly(source, 5, 0)).toEqual(new Uint8Array());
  const into = new Uint8Array(2);
  expect(readExactly(source, 3, into)).toBe(into);
  expect(into).toEqual(Uint8Array.of(4, 5));
  for (const [offset, size] of [[3, 3], [5, 1], [6, 0], [0, 2 ** 52]] as const) {
    expect(readExactly(source, offset, size)).toBeUndefined();
  }
  // A source that has become shorter than its size.
  expect(readExactly({ ...source, sizeBytes: 9 }, 4, 2)).toBeUndefined();
});

test("takeExactly() reports what is truncated, and its offset", () => {
  const source = memorySource(Uint8Array.of(1, 2, 3));
  expect(takeExactly(source, 1, 2, "a number")).toEqual(Uint8Array.of(2, 3));
  expect(faultOf(() => takeExactly(source, 2, 2, "a number"))).toBe(
    "Cannot read image: the image ends inside a number | memory, offset 2",
  );
});

test("a slice has nothing of what is before and after it", () => {
  const whole = Object.assign(memorySource(Uint8Array.from({ length: 100 }, (_, at) => at)), {
    nextData: (offset: number) => Math.max(offset, 90),
    runs: (offsetBytes: number, sizeBytes: number) => [{ path: "/a", offsetBytes, sizeBytes }],
  });
  const slice = sliceOf(sliceOf(whole, 10, 80), 20, 30);
  expect([slice.sizeBytes, slice.baseBytes]).toEqual([30, 30]);
  const bytes = new Uint8Array(8).fill(0xff);
  expect(slice.read(26, bytes)).toBe(4);
  expect([...bytes]).toEqual([56, 57, 58, 59, 0xff, 0xff, 0xff, 0xff]);
  expect([slice.read(30, bytes), slice.read(31, bytes)]).toEqual([0, 0]);
  expect(slice.nextData!(0)).toBe(30);
  expect(slice.runs!(5, 3)).toEqual([{ path: "/a", offsetBytes: 35, sizeBytes: 3 }]);
});
