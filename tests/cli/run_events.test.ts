// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { EventLines, eventObject } from "../../src/cli/run_events.ts";
import { RunFollower } from "../../src/console/follow.ts";
import type { PartTimes } from "../../src/console/remaining.ts";
import { bytesOf, MACHINE, MACHINE_PLAN } from "../console/consoles.ts";

/** The lines, and the objects, for a console that comes at once. */
function shown(text: string, earlier: readonly PartTimes[] = []) {
  const lines = new EventLines();
  const all: string[] = [];
  const objects: object[] = [];
  let nowMs = 0;
  const follower = new RunFollower(MACHINE_PLAN, {
    onEvent: (event, state) => {
      all.push(...lines.of(event, state, nowMs));
      objects.push(eventObject(event, state, nowMs));
    },
  }, () => nowMs);
  follower.restart(earlier);
  for (const part of text.split(/(?<=\n)/)) {
    follower.push(bytesOf(part));
    nowMs += 1;
  }
  return { lines: all, objects };
}

test("each event of a console is a line", () => {
  const { lines } = shown(MACHINE);
  expect(lines.slice(0, 14)).toEqual([
    "the machine boots",
    "kernel: builder-hex0",
    "builder-hex0 loads files",
    "loaded: 1 of 6 entries",
    "loaded: 6 of 6 entries, 375 B",
    "stage0-posix begins",
    "checksum OK: ./x86/bin/M1",
    "the steps of the manifest begin",
    "step 1 of 6: alpha-1.0 pass 1",
    "checksum OK: /external/distfiles/alpha-1.0.tar.gz",
    "checksum OK: /usr/bin/alpha",
    "step 2 of 6: kexec-1.0 pass 1",
    "checksum OK: /usr/bin/kexec",
    "jump: fiwix",
  ]);
  const rest = lines.slice(14).filter((line) => !line.startsWith("checksum OK"));
  expect(rest.slice(0, 8)).toEqual([
    "kernel: fiwix",
    "payload: 3 files, 1.46 KiB restored",
    "payload: 3 files done, 1.46 KiB written",
    "step 3 of 6: beta-2.0 pass 1",
    "step 4 of 6: bash-5 pass 1",
    "kernel: linux",
    "step 5 of 6: beta-2.0 pass 2",
    "beta-2.0: get",
  ]);
  expect(lines.slice(-2)).toEqual(["omega-1: built", "the machine switches itself off"]);
});

test("a failure is a line in the words of the guest", () => {
  const { lines } = shown("/usr/bin/a: FAILED\nSubprocess error 1\n** Safe to Power Off **\n");
  expect(lines).toEqual([
    "checksum WRONG: /usr/bin/a",
    "failed: Subprocess error 1",
    "stopped: ** Safe to Power Off **",
  ]);
});

/** Of an earlier run, of which each part took an hour. */
const HOURS = [new Map(Array.from({ length: 9 }, (_, part) => [part, 3_600_000]))];

test("what is left of a run is said at the beginning of a step", () => {
  const { lines } = shown("bash-5: beginning build using script pass1.sh\n", HOURS);
  expect(lines.at(-1)).toBe("step 4 of 6: bash-5 pass 1; 2 h 42 min to 3 h 18 min left");
});

test("an event for scripts has its time, the place of its step, and what is left", () => {
  const { objects } = shown("omega-1: beginning build using script pass1.sh\n", HOURS);
  expect(objects).toEqual([
    { time: expect.stringMatching(/^2.*Z$/), ms: 0, kind: "phase", phase: "steps" },
    {
      time: expect.any(String),
      ms: 0,
      kind: "step",
      name: "omega-1",
      pass: 1,
      number: 6,
      of: 6,
      remainingMs: [3_240_000, 3_960_000],
    },
  ]);
});
