// SPDX-License-Identifier: MIT
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { RunFailure } from "../../src/console/failure.ts";
import { type End, type Expected, type Outcome, RunWatch } from "../../src/console/outcome.ts";

const ENDED: End = { kind: "ended" };
const encoder = new TextEncoder();

/** What a machine prints that builds two steps in kaem and one in bash, and switches itself off. */
const WHOLE = ` +> ./x86/artifact/hex0 ./x86/kaem-minimal.hex0 ./x86/artifact/kaem-0 \r
 +> pkg=first-1.0 \r
 +> cd first-1.0 \r
 +> kaem --file pass1.kaem \r
/usr/bin/first: OK\r
 +> pkg=second-1.0 \r
 +> kaem --file pass1.kaem \r
[    0.0] a kernel begins\r
third-2.0: beginning build using script pass1.sh\r
third-2.0: build successful\r
third-2.0: beginning build using script pass2.sh\r
third-2.0: build successful\r
[  123.456789] reboot: Power down\r
`;
const MACHINE: Expected = { lastStep: { name: "third-2.0", pass: 2 }, switchesOff: true };

function judged(text: string, expected: Expected, end: End = ENDED, chunkBytes = 7): Outcome {
  const watch = new RunWatch();
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    watch.push(bytes.subarray(at, at + chunkBytes));
  }
  return watch.judge(expected, end);
}

test("a run is done where its last step was built and the machine switched itself off", () => {
  expect(judged(WHOLE, MACHINE)).toEqual({
    verdict: "done",
    why: "every step was built",
    lastStep: "third-2.0 pass 2",
    lines: [],
  });
});

test("no outcome depends on where the output is cut", () =>
  fc.assert(
    fc.property(fc.integer({ min: 1, max: WHOLE.length }), (chunkBytes) => {
      expect(judged(WHOLE, MACHINE, ENDED, chunkBytes).verdict).toBe("done");
    }),
  ));

test("a run that is cut anywhere before its last line is not done", () =>
  fc.assert(
    fc.property(fc.integer({ min: 1, max: WHOLE.trimEnd().length - 1 }), (length) => {
      expect(judged(WHOLE.slice(0, length), MACHINE).verdict).not.toBe("done");
    }),
  ));

describe("a run failed, and its step is named, where", () => {
  const failures: readonly (readonly [what: string, text: string, why: string, step: string])[] = [
    [
      "kaem says so in stage0-posix",
      " +> ./x86/artifact/hex0 a b \nSubprocess error 1\nABORTING HARD\nBuild finished.\n",
      "Subprocess error 1",
      "stage0-posix",
    ],
    [
      "kaem says so in a step",
      " +> pkg=a-1 \n +> kaem --file pass1.kaem \nSubprocess error 139\nABORTING HARD\n",
      "Subprocess error 139",
      "a-1 pass 1",
    ],
    [
      "a checksum differs",
      " +> pkg=a-1 \n +> kaem --file pass2.kaem \n/usr/bin/a: FAILED\n",
      "wrong checksum of /usr/bin/a",
      "a-1 pass 2",
    ],
    [
      "the kernel panics",
      "b-1: beginning build using script pass1.sh\n" +
      "[ 9.1] Kernel panic - not syncing: Attempted to kill init!\n",
      "[ 9.1] Kernel panic - not syncing: Attempted to kill init!",
      "b-1 pass 1",
    ],
    [
      "builder-hex0 has written no disk",
      " +> ./a b \nBuild finished.\nERROR: no hda writes!\n",
      "ERROR: no hda writes!",
      "stage0-posix",
    ],
  ];
  test.each(failures)("%s", (_, text, why, step) => {
    const outcome = judged(text, MACHINE);
    expect(outcome).toMatchObject({ verdict: "failed", why, lastStep: step });
    expect(outcome.lines.join("\n")).toContain(text.trim().split("\n").at(-1)!);
  });

  test("the machine resets before it has said anything of a step", () => {
    expect(judged("SeaBIOS (version 1.16)\r\n", MACHINE)).toMatchObject({
      verdict: "failed",
      why: "it ended before third-2.0 pass 2, the last step, was built",
    });
  });

  test("every step was built, but the machine did not switch itself off", () => {
    expect(judged(WHOLE.replace(/.*Power down.*\r\n/, ""), MACHINE)).toMatchObject({
      verdict: "failed",
      why: "it ended without switching itself off in good order",
    });
  });

  test("a machine switches itself off before its last step", () => {
    const early = WHOLE.replace(/third-2.0: beginning build using script pass2[^[]*/, "");
    expect(judged(early, MACHINE)).toMatchObject({ verdict: "failed" });
  });
});

describe("the failure is", () => {
  const inStep = " +> pkg=a-1 \n +> kaem --file pass1.kaem \n";
  const directory: Expected = { lastStep: MACHINE.lastStep, switchesOff: false };
  const failed = (failure: RunFailure): End => ({ kind: "failed", failure, why: "so" });
  const cases: readonly (readonly [RunFailure, what: string, Expected, End, text: string])[] = [
    ["step", "kaem says that a command failed", MACHINE, ENDED, `${inStep}Subprocess error 1\n`],
    [
      "step",
      "Linux's first process, the script, ends with an error",
      MACHINE,
      ENDED,
      "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n",
    ],
    [
      "panic",
      "Linux's first process is killed",
      MACHINE,
      ENDED,
      "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
    ],
    ["checksum", "a checksum differs", MACHINE, ENDED, `${inStep}a: FAILED\nSubprocess error 1\n`],
    [
      "ended-early",
      "Fiwix's last process ends",
      MACHINE,
      failed("ended-early"),
      "Safe to Power Off\n",
    ],
    ["ended-early", "the machine ends in order", MACHINE, ENDED, inStep],
    ["stall", "nothing is printed", MACHINE, failed("stall"), inStep],
    [
      "step",
      "a step failed before nothing was printed",
      MACHINE,
      failed("stall"),
      `${inStep}Subprocess error 1\n`,
    ],
    [
      "kvm",
      "KVM cannot, whatever was printed",
      MACHINE,
      failed("kvm"),
      `${inStep}Subprocess error 1\n`,
    ],
    ["step", "a bootstrap in a directory fails", directory, failed("step"), inStep],
    ["not-started", "a directory is not even started", directory, failed("step"), "bwrap: no\n"],
    [
      "host-disk-full",
      "a directory is full",
      directory,
      failed("step"),
      `${inStep}No space left on device\n`,
    ],
    [
      "step",
      "a disk of the machine is full",
      MACHINE,
      ENDED,
      `${inStep}No space left on device\nSubprocess error 1\n`,
    ],
    ["died", "QEMU is killed", MACHINE, failed("died"), inStep],
  ];
  test.each(cases)("%s where %s", (failure, _, expected, end, text) => {
    expect(judged(text, expected, end)).toMatchObject({ verdict: "failed", failure });
  });

  test("reset where the guest resets itself, as QEMU tells, and done where it was done before", () => {
    for (const [text, wanted] of [[inStep, "reset"], [WHOLE, undefined]] as const) {
      const watch = new RunWatch();
      watch.push(encoder.encode(text));
      watch.sawReset();
      expect(watch.judge(MACHINE, ENDED).failure).toBe(wanted);
    }
  });
});

test("a failure on which something goes on is a failure", () => {
  const text =
    ` +> pkg=a-1 \n +> kaem --file pass1.kaem \nSubprocess error 1\nABORTING HARD\n${WHOLE}`;
  expect(judged(text, MACHINE)).toMatchObject({ verdict: "failed", why: "Subprocess error 1" });
});

test("nothing can be said of a run that printed nothing", () => {
  expect(judged("", MACHINE)).toMatchObject({ verdict: "unknown" });
  const directory = { lastStep: MACHINE.lastStep, switchesOff: false };
  expect(judged("", directory).verdict).toBe("unknown");
  expect(judged("", { ...directory, isPackaged: () => true }).verdict).toBe("done");
  expect(judged("x\n", { ...directory, isPackaged: () => false }).verdict).toBe("failed");
});

test("an interrupt is no failure, whatever was printed", () => {
  const end: End = { kind: "interrupted", why: "Interrupted" };
  expect(judged(`${WHOLE}Subprocess error 1\n`, MACHINE, end).verdict).toBe("interrupted");
});

test("a process that fails is a failure, though it says nothing of it", () => {
  const end: End = { kind: "failed", failure: "step", why: "exit code 1: chroot" };
  expect(judged(" +> cp a b \n", { ...MACHINE, switchesOff: false }, end)).toEqual({
    verdict: "failed",
    failure: "step",
    why: "exit code 1: chroot",
    lastStep: "stage0-posix",
    lines: [" +> cp a b"],
  });
});

test("endless lines and escape sequences take no memory and hide nothing", () => {
  const watch = new RunWatch();
  const junk = encoder.encode("x".repeat(65_536));
  for (let i = 0; i < 64; i++) watch.push(junk);
  watch.push(encoder.encode("\n\x1b[?7l\x1b[2J\x1b]0;title\x07Subprocess error 3\x1b[0m\r\n"));
  const outcome = watch.judge(MACHINE, ENDED);
  expect(outcome.why).toBe("Subprocess error 3");
  expect(Math.max(...outcome.lines.map(({ length }) => length))).toBeLessThanOrEqual(4096);
});
