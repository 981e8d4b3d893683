// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import type { RecordedEvent } from "../../src/record/events.ts";
import { kernelTimes, timelineOf } from "../../src/report/timeline.ts";

const RUN: readonly RecordedEvent[] = [
  { ms: 0, kind: "phase", phase: "boot" },
  { ms: 100, kind: "kernel", name: "builder-hex0" },
  { ms: 200, kind: "phase", phase: "load" },
  { ms: 300, kind: "load", files: 1380, bytes: 7 * 1024 * 1024 },
  { ms: 400, kind: "phase", phase: "stage0" },
  { ms: 1000, kind: "phase", phase: "steps" },
  { ms: 1000, kind: "step", name: "mes-0.27.1", pass: 1 },
  { ms: 1500, kind: "checksum", path: "/usr/bin/mes", isRight: true },
  { ms: 2000, kind: "jump", name: "fiwix" },
  { ms: 2100, kind: "kernel", name: "fiwix" },
  { ms: 2200, kind: "import", files: 3, bytes: 100 },
  { ms: 3000, kind: "step", name: "gawk-3.0.4", pass: 1 },
  { ms: 3500, kind: "step-done", name: "gawk-3.0.4" },
  { ms: 4000, kind: "step", name: "perl-5.000", pass: 1 },
  { ms: 5000, kind: "checksum", path: "/usr/bin/perl", isRight: false },
  { ms: 5100, kind: "fault", text: "Subprocess error 1" },
  { ms: 6000, kind: "end", verdict: "failed", why: "wrong checksum of /usr/bin/perl" },
];

test("timelineOf() has the parts before the first step, and each step until the next begins", () => {
  const { spans, wholeMs } = timelineOf(RUN);
  expect(wholeMs).toBe(6000);
  expect(spans.map(({ name, pass, beganMs, endedMs, state }) => [
    name,
    pass,
    beganMs,
    endedMs,
    state,
  ])).toEqual([
    ["BIOS", undefined, 0, 200, "done"],
    ["builder-hex0 loads its files", undefined, 200, 400, "done"],
    ["stage0-posix", undefined, 400, 1000, "done"],
    ["mes-0.27.1", 1, 1000, 3000, "done"],
    ["gawk-3.0.4", 1, 3000, 3500, "done"],
    ["perl-5.000", 1, 4000, 6000, "open"],
  ]);
  expect(spans[1]!.notes).toEqual(["1,380 entries, 7.00 MiB"]);
  expect(spans[3]!.notes).toEqual(["3 files imported, 100 B", "1 checksum OK"]);
  expect(spans[5]!.faults).toEqual(["wrong checksum of /usr/bin/perl", "Subprocess error 1"]);
});

test("kernelTimes() has the time of each kernel until the next takes over", () => {
  expect(kernelTimes(timelineOf(RUN))).toEqual([
    { name: "builder-hex0", ms: 2000 },
    { name: "Fiwix", ms: 3900 },
  ]);
});

test("timelineOf() leaves out what a guest did before it was started again", () => {
  const again: RecordedEvent[] = [
    ...RUN.slice(0, 8),
    { ms: 60_000, kind: "restart", by: "tcg" },
    { ms: 60_100, kind: "phase", phase: "boot" },
    { ms: 60_200, kind: "phase", phase: "load" },
  ];
  const { spans, restart } = timelineOf(again);
  expect(spans.map(({ name }) => name)).toEqual(["BIOS", "builder-hex0 loads its files"]);
  expect(restart).toEqual({ ms: 60_000, by: "tcg" });
});

test("timelineOf() takes no events, and more of them than any run has", () => {
  expect(timelineOf([])).toMatchObject({ spans: [], wholeMs: 0 });
  const many = Array.from({ length: 40_000 }, (_, ms): RecordedEvent => ({
    ms,
    kind: "step",
    name: `s${ms}`,
    pass: 1,
  }));
  const { spans, leftOut } = timelineOf(many);
  expect(spans.length + leftOut).toBe(40_000);
  expect(spans.length).toBeLessThan(3000);
});
