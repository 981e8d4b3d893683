// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { setTimeout } from "node:timers/promises";
import type { ConsoleEvent } from "../../src/console/events.ts";
import { RunFollower } from "../../src/console/follow.ts";
import { NO_PLAN, type RunPlan, type RunState } from "../../src/console/position.ts";
import type { PartTimes } from "../../src/console/remaining.ts";
import { bytesOf, CHROOT, LOADED, MACHINE, MACHINE_PARTS, MACHINE_PLAN } from "./consoles.ts";

const MACHINE_END = { lastStep: MACHINE_PLAN.steps!.at(-1), switchesOff: true };

/** Follows a console of which each part comes a time after the one before. */
function followed(
  parts: readonly (readonly [afterMs: number, text: string])[],
  { plan = MACHINE_PLAN, earlier = [] }: {
    readonly plan?: RunPlan;
    readonly earlier?: readonly PartTimes[];
  } = {},
) {
  let nowMs = 1000;
  const told: { event: ConsoleEvent; state: RunState }[] = [];
  const onEvent = (event: ConsoleEvent, state: RunState) => told.push({ event, state });
  const follower = new RunFollower(plan, { onEvent }, () => nowMs);
  follower.restart(earlier);
  for (const [afterMs, text] of parts) {
    nowMs += afterMs;
    follower.push(bytesOf(text));
  }
  return { follower, told, wait: (ms: number) => nowMs += ms };
}

/** The parts of the console of a machine, a minute after each other. */
const MINUTES = Object.values(MACHINE_PARTS).map((text) => [60_000, text] as const);

test("a run knows its step as number n of m, and what was loaded, imported and checked", () => {
  const { follower } = followed(MINUTES);
  expect(follower.state).toEqual({
    phase: "steps",
    kernel: "linux",
    step: { name: "omega-1", pass: 1, number: 6, phase: undefined },
    stepCount: 6,
    beganMs: 1000,
    stepBeganMs: 541_000,
    load: { files: 6, bytes: 375 },
    loadWhole: { files: 6, bytes: 375 },
    imported: { files: 3, bytes: 1500, isDone: true },
    checksums: { right: 9, wrong: 0 },
    remaining: undefined,
    lastOutputMs: 601_000,
  });
  expect(follower.judge(MACHINE_END, { kind: "ended" }).verdict).toBe("done");
});

test("a step is in the phase that was said last, and in none once it is built", () => {
  const steps = followed([[0, MACHINE]]).told.map(({ state }) => state.step)
    .filter((step) => step?.number === 5);
  expect(steps.map((step) => step!.phase ?? "-").join(" ")).toBe(
    "- get get unpack prepare configure compile install postprocess package checksum checksum " +
      "clean apply -",
  );
});

test("without a plan, a step has no number, and its name and pass all the same", () => {
  const { follower } = followed([[0, CHROOT]], { plan: NO_PLAN });
  expect(follower.state).toMatchObject({
    step: { name: "beta-2.0", pass: 1, number: undefined },
    stepCount: undefined,
    kernel: undefined,
    load: undefined,
  });
});

test("a step of which the package is there is the next one of that name", () => {
  const ready = "beta-2.0: installing prebuilt package.\n";
  const [first, second, third] = [1, 2, 3].map((times) =>
    followed([[0, ready.repeat(times)]]).follower.state.step
  );
  expect(first).toMatchObject({ pass: 1, number: 3 });
  expect(second).toMatchObject({ pass: 2, number: 5 });
  expect(third).toEqual(second);
  const unknown = followed([[0, "other-1: installing prebuilt package.\n"]]);
  expect(unknown.follower.state.step).toBeUndefined();
});

test("a machine that begins again is in no step", () => {
  const { follower } = followed([[0, MACHINE + MACHINE_PARTS.bios]]);
  expect(follower.state).toMatchObject({ phase: "boot", kernel: undefined, step: undefined });
});

test("files that are loaded are counted once a second, and at their end", () => {
  const entries = LOADED.map(([path]) => [400, `src\r\n${path}\r\n`] as const);
  const { told } = followed([...entries, [0, MACHINE_PARTS.stage0]]);
  const counts = told.flatMap(({ event }) => event.kind === "load" ? [event.files] : []);
  expect(counts).toEqual([1, 4, 6]);
  const kinds = told.map(({ event }) => event.kind);
  expect(kinds.indexOf("phase", 3)).toBeGreaterThan(kinds.lastIndexOf("load"));
});

test("the state is told at once, and then at most once in a tenth of a second", async () => {
  const states: RunState[] = [];
  const follower = new RunFollower(MACHINE_PLAN, { onState: (state) => states.push(state) });
  for (const line of MACHINE.split(/(?<=\n)/)) follower.push(bytesOf(line));
  expect(states).toHaveLength(1);
  while (states.length < 2) await setTimeout(5);
  expect(states[1]).toMatchObject({ step: { name: "omega-1" }, checksums: { right: 9 } });
  follower.push(bytesOf("more\n"));
  follower.stop();
});

/** Times of an earlier run: of the parts before the steps, and of the six steps. */
const earlier = (factor: number): PartTimes =>
  new Map([10, 20, 30, 100, 200, 300, 400, 500, 600].map((s, part) => [part, s * 1000 * factor]));

test("without earlier runs, nothing is said of the rest", () => {
  expect(followed(MINUTES).told.every(({ state }) => state.remaining === undefined)).toBe(true);
});

test("the rest is what earlier runs took for it, the range of them and a tenth more", () => {
  const { follower } = followed([[0, MACHINE_PARTS.bios]], { earlier: [earlier(1), earlier(2)] });
  const remaining = follower.state.remaining!;
  expect(remaining.fromMs).toBeCloseTo(2_160_000 * 0.9);
  expect(remaining.toMs).toBeCloseTo(2 * 2_160_000 * 1.1);
});

test("the rest becomes less while a part goes on, and stays once it takes longer than ever", () => {
  const { follower, wait } = followed(
    [[0, MACHINE_PARTS.kaem], [0, MACHINE_PARTS.linuxSteps]],
    { earlier: [earlier(1)] },
  );
  expect(follower.state.remaining!.toMs).toBeCloseTo(600_000 * 1.1);
  wait(60_000);
  expect(follower.state.remaining!.toMs).toBeCloseTo(600_000 * 1.1 - 60_000);
  wait(3_600_000);
  expect(follower.state.remaining).toEqual({ fromMs: 0, toMs: 0 });
});

test("the pace of what is done counts for what is to come", () => {
  const { kaem, stage0, fiwixSteps } = MACHINE_PARTS;
  // stage0 took 30 s and now 60 s; alpha takes 100 s and now 200 s.
  const [alpha = "", kexec = ""] = kaem.split(/(?= \+> pkg=kexec)/);
  const { follower } = followed(
    [[0, stage0], [60_000, alpha], [200_000, kexec], [200_000, fiwixSteps]],
    { earlier: [earlier(1)] },
  );
  // bash-5 and two more; beta-2.0 was over at once, so that the rest is not known to be slow.
  const pace = 460 / 630;
  const whole = 400_000 + 500_000 + 600_000;
  expect(follower.state.remaining!.fromMs).toBeCloseTo(whole * pace * 0.9);
  expect(follower.state.remaining!.toMs).toBeCloseTo(whole * 1.1);
});

test("where a part that is to come was never timed, nothing is said", () => {
  const partial = new Map([...earlier(1)].filter(([part]) => part !== 5));
  const at = (text: string) => followed([[0, text]], { earlier: [partial] }).follower.state;
  expect(at(MACHINE_PARTS.kaem).remaining).toBeUndefined();
  expect(at(MACHINE_PARTS.linuxSteps).remaining).toBeDefined();
  const both = followed([[0, MACHINE_PARTS.kaem]], {
    earlier: [partial, new Map([[5, 300_000]])],
  });
  expect(both.follower.state.remaining).toBeDefined();
});
