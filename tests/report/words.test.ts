// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { formatMs, formatTime, share } from "../../src/report/words.ts";

test("times are as long as they have to be", () => {
  const hour = 3_600_000;
  const times = [0, 999, 1000, 9_940, 59_999, 60_000, 3_599_999, hour, 27.5 * hour];
  expect(times.map(formatMs)).toEqual([
    "0 s",
    "999 ms",
    "1.0 s",
    "9.9 s",
    "59 s",
    "1:00 min",
    "59:59 min",
    "1:00 h",
    "27:30 h",
  ]);
  expect(formatTime("2026-11-26T19:40:00.123+01:00")).toBe("2026-11-26 18:40:00 UTC");
  expect(formatTime("never")).toBe("never");
});

test("shares have two digits at least, and none of nothing is told", () => {
  expect([share(0, 0), share(0, 5), share(1, 100_000), share(1, 3), share(5, 5)]).toEqual([
    "–",
    "0.00 %",
    "< 0.01 %",
    "33.3 %",
    "100.0 %",
  ]);
});
