// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type ConsoleEvent, EventReader } from "../../src/console/events.ts";
import { LineReader } from "../../src/console/lines.ts";
import { bashStep, bytesOf, CHROOT, LOADED, MACHINE, MACHINE_PARTS } from "./consoles.ts";

const SIZES = LOADED.map(([, sizeBytes]) => sizeBytes);

/** The events of a console that comes in these chunks. */
function eventsOf(chunks: readonly Uint8Array[], loadSizes: readonly number[] = SIZES) {
  const lines = new LineReader();
  const events = new EventReader(loadSizes);
  const all = [...chunks.flatMap((chunk) => lines.push(chunk)), ...lines.end()];
  return all.flatMap((line) => [...events.read(line)]);
}

/** Cuts bytes at these places. */
function cut(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set([0, ...cuts.map((at) => at % (bytes.length + 1)), bytes.length])]
    .sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index]!, end));
}

const ok = (path: string): ConsoleEvent => ({ kind: "checksum", path, isRight: true });
const step = (name: string, pass: number): ConsoleEvent => ({ kind: "step", name, pass });

/** The events of {@link bashStep}. */
function bashEvents(name: string, pass: number): ConsoleEvent[] {
  const phases = (names: string): ConsoleEvent[] =>
    names.split(" ").map((phase) => ({ kind: "step-phase", name, phase }));
  return [
    step(name, pass),
    ...phases("get"),
    ok(`${name}.tar.gz`),
    ...phases("unpack prepare configure compile install postprocess package checksum"),
    ok(`${name}_${pass - 1}.tar.bz2`),
    ...phases("clean apply"),
    { kind: "step-done", name },
  ];
}

const STAGE0_EVENTS: readonly ConsoleEvent[] = [
  { kind: "phase", phase: "stage0" },
  ok("./x86/bin/M1"),
  { kind: "phase", phase: "steps" },
];
const KAEM_EVENTS: readonly ConsoleEvent[] = [
  step("alpha-1.0", 1),
  ok("/external/distfiles/alpha-1.0.tar.gz"),
  ok("/usr/bin/alpha"),
  step("kexec-1.0", 1),
  ok("/usr/bin/kexec"),
];

/** What the console of a machine says. */
const MACHINE_EVENTS: readonly ConsoleEvent[] = [
  { kind: "phase", phase: "boot" },
  { kind: "kernel", name: "builder-hex0" },
  { kind: "phase", phase: "load" },
  ...[0, 0, 300, 370, 370, 375].map((bytes, index) =>
    ({ kind: "load", files: index + 1, bytes }) as const
  ),
  ...STAGE0_EVENTS,
  ...KAEM_EVENTS,
  { kind: "jump", name: "fiwix" },
  { kind: "kernel", name: "fiwix" },
  { kind: "import", files: 1, bytes: 1000 },
  { kind: "import", files: 2, bytes: 1000 },
  { kind: "import", files: 3, bytes: 1500 },
  { kind: "import-done", files: 3, bytes: 1500 },
  step("beta-2.0", 1),
  ok("/usr/bin/beta"),
  step("bash-5", 1),
  { kind: "kernel", name: "linux" },
  ...bashEvents("beta-2.0", 2),
  ...bashEvents("omega-1", 1),
  { kind: "power-off" },
];

test("the console of a machine says where it is, from the BIOS to its end", () => {
  expect(eventsOf([bytesOf(MACHINE)])).toEqual([...MACHINE_EVENTS]);
});

test("the console of a chroot begins with stage0-posix and says nothing of a kernel", () => {
  expect(eventsOf([bytesOf(CHROOT)])).toEqual([
    ...STAGE0_EVENTS,
    ...KAEM_EVENTS,
    ok("/usr/bin/beta"),
    step("bash-5", 1),
    ...bashEvents("beta-2.0", 1),
  ]);
});

test("where a console is cut says nothing", () =>
  fc.assert(
    fc.property(fc.array(fc.nat({ max: MACHINE.length })), (cuts) => {
      expect(eventsOf(cut(bytesOf(MACHINE), cuts))).toEqual([...MACHINE_EVENTS]);
    }),
  ));

/** Lines that may be a part of any console, and long ones, sequences and bytes that are no text. */
const noise = fc.array(
  fc.oneof(
    fc.constantFrom(..."\n\r\x1b[]m;\x07\x00:. +>"),
    fc.constantFrom(
      "src\n",
      "a: OK\n",
      "x: FAILED\n",
      " +> pkg=a\n",
      " +> kaem --file pass1.kaem\n",
    ),
    fc.constantFrom("\x1b[2J", "\x1b]0;title", "\x1bP", "y".repeat(5000), "\xff\xfe\xc3"),
    fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
  ),
  { maxLength: 60 },
).map((parts) => parts.join(""));

test("nor does it of a console of any bytes, with sequences and lines of any length", () =>
  fc.assert(
    fc.property(noise, fc.array(fc.nat()), (text, cuts) => {
      const bytes = bytesOf(text);
      expect(eventsOf(cut(bytes, cuts))).toEqual(eventsOf([bytes]));
    }),
    { numRuns: 1000 },
  ));

test("sequences of a terminal in a line, and CR at its end, change no event", () => {
  const coloured = MACHINE_PARTS.linuxSteps.replaceAll("\r\n", "\x1b[0m\r\r\n")
    .replaceAll("omega-1: ", "\x1b[1mome\x1b[Kga-1: ");
  expect(eventsOf([bytesOf(coloured)]).slice(1)).toEqual(
    [...bashEvents("beta-2.0", 2), ...bashEvents("omega-1", 1)],
  );
});

test("no word that is not at its place says anything", () => {
  const lines = [
    "src",
    "no path",
    "./a",
    "echo foo: beginning build using script pass1.sh",
    "foo: beginning build using script pass1.sh again",
    "foo: beginning build using script build.sh",
    "foo: compiling source",
    "CC foo: compiling source.",
    "a b: OK",
    "it is OK",
    " +> echo pkg=a-1.0",
    " +> kaem --file pass1.kaem",
    " +> kaem --file /steps/improve/0.sh",
    " +> ./bootstrap-seeds/README",
    "see: Linux version 4",
    "the Fiwix v1 kernel",
    "payload-import: 1/2 a, x bytes, restored",
    "payload-import: usage",
    "see SeaBIOS (version 1)",
    "please reboot: Power down",
    "Subprocess errors",
    "the ABORTING HARD",
  ];
  expect(eventsOf([bytesOf(`${lines.join("\n")}\n`)])).toEqual([]);
});

test("what Linux prints after a line that a program has left open is seen", () => {
  const text = "some text[    0.000000] Linux version 4.0\r\nmore[  123.4] reboot: Power down\r\n";
  expect(eventsOf([bytesOf(text)])).toEqual([
    { kind: "kernel", name: "linux" },
    { kind: "power-off" },
  ]);
});

test("a machine that begins again loads from the first entry", () => {
  const twice = eventsOf([bytesOf(MACHINE_PARTS.bios + MACHINE_PARTS.load + MACHINE)]);
  const first = MACHINE_EVENTS.findIndex((event) =>
    event.kind === "phase" && event.phase === "stage0"
  );
  expect(twice).toEqual([...MACHINE_EVENTS.slice(0, first), ...MACHINE_EVENTS]);
});

test("what builder-hex0 prints says nothing once the steps have begun", () => {
  expect(eventsOf([bytesOf(`${bashStep("a", 1)}src\r\n./a\r\n`)]).at(-1)).toEqual(
    { kind: "step-done", name: "a" },
  );
});

test("without their sizes, entries that are loaded have none", () => {
  const loaded = eventsOf([bytesOf(MACHINE_PARTS.load)], []);
  expect(loaded.at(-1)).toEqual({ kind: "load", files: 6, bytes: 0 });
});

test("a step of which a package is installed begins without a word", () => {
  expect(eventsOf([bytesOf("a-1: installing prebuilt package.\n")])).toEqual([
    { kind: "phase", phase: "steps" },
    { kind: "step-done", name: "a-1" },
  ]);
});
