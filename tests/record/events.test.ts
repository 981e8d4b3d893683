// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { ConsoleEvent } from "../../src/console/events.ts";
import { RunFollower } from "../../src/console/follow.ts";
import {
  eventsHeader,
  EventsWriter,
  MAX_EVENTS,
  MAX_EVENTS_BYTES,
  parseEvents,
  readEvents,
  type RecordedEvent,
  type Starter,
} from "../../src/record/events.ts";
import { earlierTimes } from "../../src/record/history.ts";
import { beginRun } from "../../src/record/run.ts";
import { bytesOf, MACHINE_PARTS, MACHINE_PLAN } from "../console/consoles.ts";
import { TempDirs } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const MACHINE = { cpu: "a processor", cores: 2, memoryMib: 4096 };
const DONE = { verdict: "done", why: "every step was built" } as const;

function paths(dir = temp.make()) {
  return { eventsPath: join(dir, "1.events"), timesPath: join(dir, "1.times") };
}

/** A writer that must have no problem. */
function writer(to: ReturnType<typeof paths>, by: Starter = "tcg"): EventsWriter {
  const header = eventsHeader(new Date(0), by, MACHINE, MACHINE_PLAN);
  return new EventsWriter(to, header, (text) => expect.unreachable(text));
}

const text = fc.string({ unit: "binary", maxLength: 30 });
const files = { files: fc.nat(), bytes: fc.nat() };
const event: fc.Arbitrary<ConsoleEvent> = fc.oneof(
  fc.record({
    kind: fc.constant("phase" as const),
    phase: fc.constantFrom("boot" as const, "load" as const, "stage0" as const, "steps" as const),
  }),
  fc.record({
    kind: fc.constant("kernel" as const),
    name: fc.constantFrom("builder-hex0" as const, "fiwix" as const, "linux" as const),
  }),
  fc.record({ kind: fc.constantFrom("load" as const, "import" as const), ...files }),
  fc.record({ kind: fc.constant("import-done" as const), ...files }),
  fc.record({ kind: fc.constant("step" as const), name: text, pass: fc.nat({ max: 9999 }) }),
  fc.record({ kind: fc.constant("step-phase" as const), name: text, phase: text }),
  fc.record({ kind: fc.constantFrom("step-done" as const, "jump" as const), name: text }),
  fc.record({ kind: fc.constant("checksum" as const), path: text, isRight: fc.boolean() }),
  fc.record({ kind: fc.constantFrom("fault" as const, "halt" as const), text }),
  fc.record({ kind: fc.constant("power-off" as const) }),
);

test("what is written of a run is read", () =>
  fc.assert(
    fc.property(fc.array(event, { maxLength: 20 }), (events) => {
      const to = paths();
      const written = writer(to);
      events.forEach((event, index) => written.event(index * 10.4, event));
      written.event(5000, { kind: "restart", by: "tcg" });
      written.end(6000, DONE);
      expect(readEvents(to.eventsPath)).toEqual({
        header: {
          format: "seedstrap-events/1",
          began: "1970-01-01T00:00:00.000Z",
          by: "tcg",
          machine: MACHINE,
          steps: 6,
          manifest: "cdbb3e62298b8f069ac3ad1eff8f46ebb1bfc7586e9e3e2477391aba0b7fdff8",
        },
        events: [
          ...events.map((event, index) => ({ ms: Math.round(index * 10.4), ...event })),
          { ms: 5000, kind: "restart", by: "tcg" },
          { ms: 6000, kind: "end", ...DONE },
        ] as RecordedEvent[],
      });
      temp.release();
    }),
    { numRuns: 50 },
  ));

const HEADER = JSON.stringify(eventsHeader(new Date(0), "kvm", MACHINE, { steps: undefined }));

test("a line that is not known, or not whole, is left out; times never go back", () => {
  const lines = [
    HEADER,
    '{"ms":5,"kind":"power-off"}',
    '{"ms":6,"kind":"of a later version","x":1}',
    '{"ms":7,"kind":"step","name":"a","pass":-1}',
    '{"ms":"8","kind":"power-off"}',
    '{"ms":9,"kind":"power-off","more":true}',
    "[[[[",
    '{"ms":3,"kind":"power-off"}',
    '{"ms":10,"kind":"powe',
  ];
  expect(parseEvents(lines.join("\n"))?.events).toEqual(
    [{ ms: 5, kind: "power-off" }, { ms: 5, kind: "power-off" }],
  );
});

test("what has no header is no record, and neither is a link", () => {
  for (const text of ["", "\n", "{}\n", `${HEADER}`, HEADER.replace("/1", "/2") + "\n"]) {
    expect(parseEvents(text)).toBeUndefined();
  }
  expect(parseEvents(`${HEADER}\n`)).toMatchObject({ events: [] });
  expect(readEvents(join(temp.make(), "1.events"))).toBeUndefined();
  expect(readEvents("/proc/self/cwd")).toBeUndefined();
});

test("no text makes the reader fail, or gives it events that there are not", () =>
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.json(), text)), (lines) => {
      for (const { ms, kind } of parseEvents(`${HEADER}\n${lines.join("\n")}`)?.events ?? []) {
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(kind).toBeString();
      }
    }),
  ));

test("a guest that says too much ends its record, and the end of the run is in it", () => {
  const short = paths();
  const many = writer(short);
  for (let number = 0; number < MAX_EVENTS + 5; number++) {
    many.event(number / 1000, { kind: "power-off" });
  }
  many.end(1000, DONE);
  const read = readEvents(short.eventsPath)!;
  expect(read.events).toHaveLength(MAX_EVENTS + 1);
  expect(read.events.at(-1)).toEqual({ ms: 1000, kind: "end", ...DONE });
  const long = paths();
  const wide = writer(long);
  const path = "\x01".repeat(1024);
  for (let number = 0; number < 3000; number++) {
    wide.event(number, { kind: "checksum", path, isRight: true });
  }
  wide.end(3000, DONE);
  expect(statSync(long.eventsPath).size).toBeLessThan(MAX_EVENTS_BYTES + 1000);
  expect(readEvents(long.eventsPath)!.events.at(-1)).toMatchObject({ kind: "end" });
}, 60_000);

test("events are in the file a second later, and the times of the log once a second", async () => {
  const to = paths();
  const written = writer(to);
  written.event(1, { kind: "power-off" });
  for (let ms = 0; ms < 5000; ms += 100) written.logged(ms, 10 * ms);
  expect(readFileSync(to.timesPath, "latin1")).toBe(
    "0 0\n1000 10000\n2000 20000\n3000 30000\n4000 40000\n",
  );
  while (readEvents(to.eventsPath)!.events.length === 0) await setTimeout(20);
  written.end(6000, DONE);
  expect(readFileSync(to.timesPath, "latin1")).toEndWith("\n4000 40000\n4900 49000\n");
});

test("a record that cannot be written says so once, and the run goes on", () => {
  const said: string[] = [];
  const header = eventsHeader(new Date(0), "kvm", MACHINE, MACHINE_PLAN);
  const to = { eventsPath: "/dev/full/1.events", timesPath: "/dev/full/1.times" };
  const written = new EventsWriter(to, header, (text) => said.push(text));
  written.event(1, { kind: "power-off" });
  written.logged(1, 1);
  written.end(2, DONE);
  expect(said).toHaveLength(1);
  expect(said[0]).toStartWith("The times of the run end here, it continues: /dev/full/1.events: ");
});

/** Records a run of which each part takes so long. */
function recordRun(
  dir: string,
  parts: readonly (keyof typeof MACHINE_PARTS)[],
  { by = "tcg", partMs = 1000, isDone = false, restarts = false }: {
    readonly by?: Starter;
    readonly partMs?: number;
    readonly isDone?: boolean;
    readonly restarts?: boolean;
  } = {},
) {
  const files = beginRun(dir);
  const written = writer(files, by);
  let nowMs = 0;
  const onEvent = (event: ConsoleEvent) => written.event(nowMs, event);
  const follower = new RunFollower(MACHINE_PLAN, { onEvent }, () => nowMs);
  if (restarts) {
    follower.push(bytesOf(MACHINE_PARTS.bios));
    nowMs += 120_000;
    written.event(nowMs, { kind: "restart", by: "tcg" });
    follower.restart();
  }
  for (const part of parts) {
    follower.push(bytesOf(MACHINE_PARTS[part]));
    nowMs += partMs;
  }
  const verdict = isDone ? "done" : "failed";
  files.finish({ verdict, why: "x", lines: [] });
  written.end(nowMs, { verdict, why: "x" });
  return files;
}

const LIKE = { by: "tcg", machine: MACHINE } as const;
const told = (dir: string, like: Parameters<typeof earlierTimes>[2] = LIKE) =>
  earlierTimes(dir, MACHINE_PLAN, like).map((times) => Object.fromEntries(times));

test("an earlier run has the times of its parts, also one that failed has those that it did", () => {
  const dir = temp.make();
  recordRun(dir, ["bios", "load", "stage0"]);
  const all = Object.keys(MACHINE_PARTS) as (keyof typeof MACHINE_PARTS)[];
  recordRun(dir, all, { isDone: true, partMs: 2000 });
  expect(told(dir)).toEqual([
    { 0: 1000, 1: 1000 },
    // The steps of a part begin at once: time goes by in the last of them.
    { 0: 2000, 1: 2000, 2: 2000, 3: 0, 4: 6000, 5: 0, 6: 4000, 7: 0, 8: 4000 },
  ]);
});

test("a run is compared with none of other steps, another accelerator or another machine", () => {
  const dir = temp.make();
  recordRun(dir, ["bios", "load"]);
  recordRun(dir, ["bios", "load"], { by: "kvm" });
  expect(told(dir)).toHaveLength(1);
  expect(told(dir, { by: "kvm", machine: MACHINE })).toHaveLength(1);
  expect(told(dir, { by: "chroot", machine: MACHINE })).toEqual([]);
  expect(told(dir, { by: "tcg", machine: { ...MACHINE, cpu: "another" } })).toEqual([]);
  expect(told(dir, { by: "tcg", machine: { ...MACHINE, cores: 4 } })).toEqual([]);
  const { steps } = MACHINE_PLAN;
  expect(earlierTimes(dir, { steps: steps!.slice(1), loadSizes: [] }, LIKE)).toEqual([]);
  expect(earlierTimes(dir, { steps: undefined, loadSizes: [] }, LIKE)).toEqual([]);
});

test("of a run that began again under TCG, only what came after that counts, as one of TCG", () => {
  const dir = temp.make();
  recordRun(dir, ["bios", "load"], { by: "kvm", restarts: true });
  expect(told(dir)).toEqual([{ 0: 1000 }]);
  expect(told(dir, { by: "kvm", machine: MACHINE })).toEqual([]);
});

test("a record that is damaged is the same as none", () => {
  const dir = temp.make();
  const { eventsPath } = recordRun(dir, ["bios", "load"]);
  writeFileSync(eventsPath, "\xff\n");
  expect(told(dir)).toEqual([]);
});
