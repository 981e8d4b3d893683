// SPDX-License-Identifier: MIT
/** The status area of a run, for terminals of every size. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { columnsOf } from "../../../src/cli/status.ts";
import { LEAST_SIZE, statusRows, type ViewState } from "../../../src/cli/view/layout.ts";
import type { RunState } from "../../../src/console/position.ts";
import { printable } from "../../../src/text.ts";

const BEGUN: RunState = {
  phase: undefined,
  kernel: undefined,
  step: undefined,
  stepCount: undefined,
  beganMs: 1000,
  stepBeganMs: undefined,
  load: undefined,
  imported: undefined,
  checksums: { right: 0, wrong: 0 },
  remaining: undefined,
  lastOutputMs: 1000,
};

const IN_STEP: RunState = {
  ...BEGUN,
  phase: "steps",
  kernel: "linux",
  step: { name: "gcc-4.0.4", pass: 1, number: 61, phase: "compile" },
  stepCount: 171,
  stepBeganMs: 3_601_000,
  checksums: { right: 1041, wrong: 0 },
  remaining: { fromMs: 7_200_000, toMs: 10_800_000 },
  lastOutputMs: 3_719_000,
};

function viewOf(run: RunState, more: Partial<ViewState> = {}): ViewState {
  return {
    by: "in QEMU with KVM",
    run,
    nowMs: 3_721_000,
    activity: undefined,
    shows: "console",
    waitingLines: undefined,
    keys: "view",
    canType: true,
    ...more,
  };
}

const BUSY = { cpuPercent: 98.4, disk: { readBytes: 4096, writtenBytes: 1_300_000 } };

function textOf(view: ViewState, columns: number, rows: number): string[] {
  return statusRows(view, { columns, rows }).map(({ text }) => text);
}

describe("in a step the area says where, since when, how fast and what keys do", () => {
  const view = viewOf(IN_STEP, { activity: BUSY });

  test("at 80x24", () => {
    expect(textOf(view, 80, 24)).toEqual([
      "-- in QEMU with KVM -----------------------------------------------------------",
      "step 61 of 171  gcc-4.0.4 pass 1  1 h 02 min  2 h 00 min to 3 h 00 min left",
      "2 min 00 s in this step  CPU 98 %  writes 1.24 MiB/s  1,041 checksums right",
      "p pause  l only steps  i type into the guest  q quit  ? help",
    ]);
  });

  test("at 200x60", () => {
    expect(textOf(view, 200, 60)).toEqual([
      `-- in QEMU with KVM ${"-".repeat(179)}`,
      "step 61 of 171  gcc-4.0.4 pass 1  compile  on Linux  1 h 02 min since the start  " +
      "2 h 00 min to 3 h 00 min left",
      "2 min 00 s in this step  CPU 98 %  writes 1.24 MiB/s  reads 4.00 KiB/s  " +
      "1,041 checksums right",
      "p pause  l only steps  i type into the guest  q quit  ? help",
    ]);
  });

  test("at 40x24, where the least important is left out", () => {
    expect(textOf(view, 40, 24)).toEqual([
      "-- in QEMU with KVM -------------------",
      "step 61 of 171  gcc-4.0.4 pass 1",
      "2 min 00 s in this step  CPU 98 %",
      "p pause  l only steps  q quit  ? help",
    ]);
  });
});

describe("the phases have words of their own", () => {
  const place = (run: Partial<RunState>) => textOf(viewOf({ ...BEGUN, ...run }), 120, 24)[1];
  const rows: readonly (readonly [string, Partial<RunState>, string])[] = [
    ["before anything is known", {}, "running  1 h 02 min since the start"],
    [
      "the load",
      { phase: "load", kernel: "builder-hex0", load: { files: 1200, bytes: 1_048_576 } },
      "loading files  1,200 files  1.00 MiB  on builder-hex0  1 h 02 min since the start",
    ],
    ["stage0", { phase: "stage0" }, "stage0-posix  1 h 02 min since the start"],
    [
      "the import",
      { phase: "steps", imported: { files: 1, bytes: 512, isDone: false } },
      "payload import  1 file  512 B  1 h 02 min since the start",
    ],
    [
      "a step of which the number is not known",
      { phase: "steps", step: { name: "a-1.0", pass: 2, number: undefined, phase: undefined } },
      "a-1.0 pass 2  1 h 02 min since the start",
    ],
    [
      "a remaining time of which both ends read the same",
      { phase: "boot", remaining: { fromMs: 60_100, toMs: 60_900 } },
      "booting  1 h 02 min since the start  about 1 min 01 s left",
    ],
  ];
  for (const [name, run, text] of rows) test(name, () => expect(place(run)).toBe(text));
});

test("a wrong checksum and a long silence are told on the narrowest terminal", () => {
  const run = { ...BEGUN, checksums: { right: 5, wrong: 1 }, lastOutputMs: 121_000 };
  expect(textOf(viewOf(run), 40, 8)).toEqual([
    "running  1 h 02 min since the start",
    "1 checksum WRONG  silent for 1 h 00 min",
  ]);
});

test("a paused view says so at every size, and how many lines wait", () => {
  for (const [columns, rows] of [[40, 8], [80, 24], [200, 60]] as const) {
    const text = textOf(viewOf(BEGUN, { waitingLines: 1234 }), columns, rows).join("\n");
    expect(text).toContain("PAUSED, 1,234 lines wait");
  }
});

test("keys that go to the guest are told, and how to end that", () => {
  const rows = textOf(viewOf(BEGUN, { keys: "guest" }), 80, 24);
  expect(rows[0]).toStartWith("-- KEYS GO TO THE GUEST, in QEMU with KVM ---");
  expect(rows[3]).toBe("Ctrl-] keys go to seedstrap again");
});

const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constant("\x1b[2J\u202e\n"));
const count = fc.nat({ max: 2 ** 40 });
const time = fc.double({ min: -1e9, max: 1e12, noNaN: true });
const amount = fc.record({ files: count, bytes: count });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

const runs: fc.Arbitrary<RunState> = fc.record({
  phase: maybe(fc.constantFrom("boot", "load", "stage0", "steps")),
  kernel: maybe(fc.constantFrom("builder-hex0", "fiwix", "linux")),
  step: maybe(fc.record({ name: text, pass: count, number: maybe(count), phase: maybe(text) })),
  stepCount: maybe(count),
  beganMs: time,
  stepBeganMs: maybe(time),
  load: maybe(amount),
  imported: maybe(fc.record({ files: count, bytes: count, isDone: fc.boolean() })),
  checksums: fc.record({ right: count, wrong: count }),
  remaining: maybe(fc.record({ fromMs: time, toMs: time })),
  lastOutputMs: time,
});

const views: fc.Arbitrary<ViewState> = fc.record({
  by: text,
  run: runs,
  nowMs: time,
  activity: maybe(fc.record({
    cpuPercent: time,
    disk: maybe(fc.record({ readBytes: count, writtenBytes: count })),
  })),
  shows: fc.constantFrom("console", "steps"),
  waitingLines: maybe(count),
  keys: fc.constantFrom("view", "guest", "none"),
  canType: fc.boolean(),
});

const sizes = fc.record({
  columns: fc.integer({ min: 0, max: 300 }),
  rows: fc.integer({ min: 0, max: 100 }),
});

test("whatever the run says, no row is too wide for its terminal, and none has a control character", () => {
  fc.assert(
    fc.property(views, sizes, (view, size) => {
      for (const { text } of statusRows(view, size)) {
        expect(columnsOf(text)).toBeLessThan(size.columns);
        expect(printable(text)).toBe(text);
      }
    }),
    { numRuns: 2000 },
  );
});

test("how many rows there are depends on the size alone: none in a small one, else two to four", () => {
  fc.assert(
    fc.property(views, views, sizes, (one, other, size) => {
      const { length } = statusRows(one, size);
      expect(statusRows(other, size)).toHaveLength(length);
      const isSmall = size.columns < LEAST_SIZE.columns || size.rows < LEAST_SIZE.rows;
      if (isSmall) expect(length).toBe(0);
      else expect(length).toBeWithin(2, 5);
    }),
  );
});
