// SPDX-License-Identifier: MIT
/** Consoles of whole runs, played again: what each says, where the run is then, how it is judged. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ConsoleEvent } from "../../src/console/events.ts";
import { RunFollower } from "../../src/console/follow.ts";
import type { End, Expected, Outcome } from "../../src/console/outcome.ts";
import type { RunPlan, RunState } from "../../src/console/position.ts";
import { bashStep, bytesOf, CHROOT, MACHINE, MACHINE_PARTS, MACHINE_PLAN } from "./consoles.ts";

const { bios, load, stage0, kaem, fiwix, import: imported, linux } = MACHINE_PARTS;
const TO_FIWIX = bios + load + stage0 + kaem + fiwix;

interface Replay {
  readonly text: string;
  readonly plan?: RunPlan;
  readonly expected?: Expected;
  readonly end?: End;
  /** Its events in order, a word each, see {@link word}. */
  readonly says: string;
  readonly state: Partial<RunState>;
  readonly outcome: Partial<Outcome>;
}

const ENDED: End = { kind: "ended" };
const MACHINE_END: Expected = { lastStep: { name: "omega-1", pass: 1 }, switchesOff: true };
const CHROOT_STEPS = ["alpha-1.0", "kexec-1.0", "bash-5", "beta-2.0"].map((name) => ({
  name,
  pass: 1,
}));

const STARTED = "boot builder-hex0 load … stage0 steps";
const KAEM = "alpha-1.0 kexec-1.0";
const PHASES = "get unpack prepare configure compile install postprocess package checksum clean " +
  "apply";

const REPLAYS: Readonly<Record<string, Replay>> = {
  "a machine to its end": {
    text: MACHINE,
    says: `${STARTED} ${KAEM} jump:fiwix fiwix … imported beta-2.0 bash-5 linux ` +
      `beta-2.0:2 ${PHASES} built omega-1 ${PHASES} built off`,
    state: { phase: "steps", kernel: "linux", step: step("omega-1", 1, 6), stepCount: 6 },
    outcome: { verdict: "done", lastStep: "omega-1 pass 1" },
  },
  "a chroot to its end": {
    text: CHROOT,
    plan: { steps: CHROOT_STEPS, loadSizes: [] },
    expected: { lastStep: { name: "beta-2.0", pass: 1 }, switchesOff: false },
    says: `stage0 steps ${KAEM} bash-5 beta-2.0 ${PHASES} built`,
    state: { kernel: undefined, load: undefined, step: step("beta-2.0", 1, 4), stepCount: 4 },
    outcome: { verdict: "done" },
  },
  "a machine that runs Fiwix and imports the payload, and is interrupted there": {
    text: TO_FIWIX + imported.slice(0, imported.indexOf("payload-import: 3/3")),
    end: { kind: "interrupted", why: "Interrupted" },
    says: `${STARTED} ${KAEM} jump:fiwix fiwix …`,
    state: {
      kernel: "fiwix",
      step: step("kexec-1.0", 1, 2),
      imported: { files: 2, bytes: 1000, isDone: false },
    },
    outcome: { verdict: "interrupted", lastStep: "kexec-1.0 pass 1" },
  },
  "a checksum that differs": {
    text: TO_FIWIX + imported + " +> pkg=beta-2.0 \r\n +> kaem --file pass1.kaem \r\n" +
      "/usr/bin/beta: FAILED\r\nSubprocess error 1\r\nABORTING HARD\r\n",
    says: `${STARTED} ${KAEM} jump:fiwix fiwix … imported beta-2.0 wrong:/usr/bin/beta fault fault`,
    state: { step: step("beta-2.0", 1, 3), checksums: { right: 4, wrong: 1 } },
    outcome: { verdict: "failed", why: "wrong checksum of /usr/bin/beta" },
  },
  "a KVM that cannot run builder-hex0: QEMU is ended": {
    text: bios + load.slice(0, load.indexOf("./steps/manifest")),
    end: { kind: "failed", failure: "kvm", why: "KVM cannot run this guest (KVM internal error)" },
    says: "boot builder-hex0 load …",
    state: { phase: "load", load: { files: 2, bytes: 0 }, step: undefined },
    outcome: { verdict: "failed", why: "KVM cannot run this guest (KVM internal error)" },
  },
  "a console that stalls": {
    text: TO_FIWIX + bashStep("beta-2.0", 1).split("beta-2.0: install to")[0],
    end: { kind: "failed", failure: "stall", why: "its console was silent for 30 min" },
    says: `${STARTED} ${KAEM} jump:fiwix fiwix beta-2.0 get unpack prepare configure compile`,
    state: { step: { ...step("beta-2.0", 1, 3), phase: "compile" }, lastOutputMs: 5000 },
    outcome: { verdict: "failed", why: "its console was silent for 30 min" },
  },
  "a panic of Linux": {
    text: TO_FIWIX + imported + linux +
      "[    1.0] Kernel panic - not syncing: Attempted to kill init!\r\n",
    says: `${STARTED} ${KAEM} jump:fiwix fiwix … imported linux halt`,
    state: { kernel: "linux" },
    outcome: {
      verdict: "failed",
      why: "[    1.0] Kernel panic - not syncing: Attempted to kill init!",
    },
  },
  "a Fiwix whose last process has ended": {
    text: `${TO_FIWIX}\r\n**    Safe to Power Off    **\r\n`,
    says: `${STARTED} ${KAEM} jump:fiwix fiwix halt`,
    state: { kernel: "fiwix" },
    outcome: { verdict: "failed", why: "**    Safe to Power Off    **" },
  },
  "a triple fault: QEMU ends as it does at a good end": {
    text: TO_FIWIX,
    says: `${STARTED} ${KAEM} jump:fiwix fiwix`,
    state: { kernel: "fiwix", step: step("kexec-1.0", 1, 2) },
    outcome: {
      verdict: "failed",
      why: "it ended before omega-1 pass 1, the last step, was built",
      lastStep: "kexec-1.0 pass 1",
    },
  },
};

function step(name: string, pass: number, number: number): NonNullable<RunState["step"]> {
  return { name, pass, number, phase: undefined };
}

/** An event as a word; none for a checksum that is right, and one for any number of counts. */
function word(event: ConsoleEvent): string {
  switch (event.kind) {
    case "phase":
    case "step-phase":
      return event.phase;
    case "kernel":
      return event.name;
    case "load":
    case "import":
      return "…";
    case "import-done":
      return "imported";
    case "step":
      return event.pass === 1 ? event.name : `${event.name}:${event.pass}`;
    case "step-done":
      return "built";
    case "jump":
      return `jump:${event.name}`;
    case "checksum":
      return event.isRight ? "" : `wrong:${event.path}`;
    case "power-off":
      return "off";
    default:
      return event.kind;
  }
}

/** Plays a console in chunks of a size, at a time of 5 s. */
function played(
  { text, plan = MACHINE_PLAN, expected = MACHINE_END, end = ENDED }: Replay,
  size: number,
) {
  const words: string[] = [];
  const onEvent = (event: ConsoleEvent) => words.push(word(event));
  const follower = new RunFollower(plan, { onEvent }, () => 5000);
  const bytes = bytesOf(text);
  for (let at = 0; at < bytes.length; at += size) follower.push(bytes.subarray(at, at + size));
  const outcome = follower.judge(expected, end);
  return { says: words.filter((said) => said !== "").join(" "), state: follower.state, outcome };
}

describe("a console that is played again is that of", () => {
  test.each(Object.entries(REPLAYS))("%s", (_, replay) => {
    const whole = played(replay, replay.text.length);
    expect(whole.says.replaceAll(/(… )+…|… …/g, "…")).toBe(replay.says);
    expect(whole.state).toMatchObject(replay.state);
    expect(whole.outcome).toMatchObject(replay.outcome);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), (size) => {
        expect(played(replay, size)).toEqual(whole);
      }),
      { numRuns: 20 },
    );
  });
});
