// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  closeSync,
  openSync,
  readFileSync,
  realpathSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { FAILURES } from "../../src/console/failure.ts";
import { watchConsole, type WatchEvents } from "../../src/job/watch.ts";
import { shellQuote } from "../../src/launch/process.ts";
import { beginRun } from "../../src/record/run.ts";
import type { Outcome } from "../../src/console/outcome.ts";
import { bashStep, bytesOf, MACHINE_PARTS } from "../console/consoles.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { MAIN, run, seedstrap, start, testWith } from "../support/run.ts";
import { testAtTerminal } from "../support/terminal.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { bootSector } from "./boot_sector.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

/** A target for bare metal, of which the last step is alpha-1.0 pass 2. */
let target = "";
beforeAll(async () => {
  const dir = realpathSync(temp.make());
  const text = "\r\nalpha-1.0: beginning build using script pass2.sh\r\n" +
    "alpha-1.0: build successful\r\n[ 1.0] reboot: Power down\r\n";
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": bootSector(text, "hang") };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  target = join(dir, "target");
  const rest = ["--distfiles", join(dir, "store"), "--tree", tree, "-t", target];
  const built = await seedstrap([
    ...["build", "--bare-metal", "--external-sources", "-m", `file://${mirror}`],
    ...rest,
  ]);
  expect(built).toMatchObject({ code: 0 });
}, 60_000);

const { bios, load, stage0, kaem } = MACHINE_PARTS;
const LAST = bashStep("alpha-1.0", 2);
const POWER_DOWN = "[  1.0] reboot: Power down\r\n";
const BOOT = bios + load + stage0;

/** Watches a log that is there, until its console shows the end. */
async function watched(
  text: string,
  { target: of, events = {} }: { readonly target?: string; readonly events?: WatchEvents } = {},
) {
  const source = join(temp.make(), "serial.log");
  writeFileSync(source, bytesOf(text));
  return await outcomeOf(source, of, events);
}

async function outcomeOf(source: string, of: string | undefined, events: WatchEvents = {}) {
  let outcome: Outcome | undefined;
  const told = { ...events, onOutcome: (given: Outcome) => outcome = given };
  const request = { source, target: of, baud: 115200, quietMs: 100 };
  const error = await watchConsole(request, told, new AbortController().signal)
    .then(() => undefined, (error) => error);
  return { outcome, error };
}

test("a log is done where the machine has built its last step, and switched itself off", async () => {
  const { outcome, error } = await watched(BOOT + LAST + POWER_DOWN, { target });
  expect(error).toBeUndefined();
  expect(outcome).toMatchObject({ verdict: "done", lastStep: "alpha-1.0 pass 2" });
});

const ENDS: readonly (readonly [what: string, text: string, outcome: Partial<Outcome>])[] = [
  [
    "a checksum differs, and nothing more comes",
    `${BOOT}${kaem}/usr/bin/x: FAILED\r\n`,
    {
      verdict: "failed",
      failure: "checksum",
      why: "wrong checksum of /usr/bin/x",
      lastStep: "kexec-1.0 pass 1",
    },
  ],
  [
    "the kernel panics, and nothing more comes",
    `${BOOT}Kernel panic - not syncing: x\r\n`,
    { verdict: "failed", failure: "panic", why: "Kernel panic - not syncing: x" },
  ],
  [
    "the machine begins again from its start",
    `${BOOT}${kaem}${bios}${load}`,
    {
      verdict: "failed",
      failure: "reset",
      why: "the machine has begun again from its start",
      lastStep: "kexec-1.0 pass 1",
    },
  ],
  [
    "the machine switches itself off before its last step",
    BOOT + bashStep("alpha-1.0", 1) + POWER_DOWN,
    {
      verdict: "failed",
      failure: "ended-early",
      why: "it ended before alpha-1.0 pass 2, the last step, was built",
    },
  ],
];

describe("a machine that is watched has failed where", () => {
  test.each(ENDS)("%s", async (_, text, wanted) => {
    const { outcome, error } = await watched(text, { target });
    expect(outcome).toMatchObject(wanted);
    const kind = FAILURES[wanted.failure!];
    expect(error).toMatchObject({ kind, message: expect.stringContaining(wanted.why!) });
  });
});

test("a machine that is switched on again while it loads has not failed", async () => {
  const { outcome } = await watched(bios + load + BOOT + LAST + POWER_DOWN, { target });
  expect(outcome).toMatchObject({ verdict: "done" });
});

test("without its target, nobody knows whether a machine has built its last step", async () => {
  const { outcome, error } = await watched(BOOT + LAST + POWER_DOWN);
  expect(outcome).toMatchObject({ verdict: "unknown", lastStep: "alpha-1.0 pass 2" });
  expect(error.message).toContain("Cannot tell whether the bootstrap has succeeded");
  expect(error.message).toContain("name its --target");
});

test("a log is followed as it grows, and from its beginning where that is written again", async () => {
  const source = join(temp.make(), "serial.log");
  writeFileSync(source, bytesOf(BOOT + kaem));
  const steps: string[] = [];
  const onEvent: WatchEvents["onEvent"] = (event, { step }) => {
    if (event.kind === "step") steps.push(`${step?.number} ${event.name} ${event.pass}`);
  };
  const ended = outcomeOf(source, target, { onEvent });
  const until = async (count: number) => {
    while (steps.length < count) await setTimeout(5);
  };
  await until(2);
  appendFileSync(source, bashStep("alpha-1.0", 1).slice(0, 40));
  await setTimeout(50);
  appendFileSync(source, bashStep("alpha-1.0", 1).slice(40));
  await until(3);
  truncateSync(source);
  await setTimeout(100);
  appendFileSync(source, LAST + POWER_DOWN);
  expect((await ended).outcome).toMatchObject({ verdict: "done" });
  expect(steps).toEqual([
    "undefined alpha-1.0 1",
    "undefined kexec-1.0 1",
    "undefined alpha-1.0 1",
    "8 alpha-1.0 2",
  ].map((step) => step.replace(/undefined (alpha-1.0 1)/, "1 $1")));
});

test("the log of a run ends as its record says, and names its target", async () => {
  const dir = temp.make();
  writeFiles(dir, {});
  const { logPath, finish } = beginRun(target);
  writeFileSync(logPath, bytesOf(BOOT + kaem));
  const told: (string | undefined)[] = [];
  const ended = outcomeOf(logPath, undefined, { onStart: (of) => told.push(of) });
  await setTimeout(1200);
  finish({ verdict: "failed", why: "QEMU was killed", lastStep: "a", lines: ["x"] });
  const { outcome, error } = await ended;
  expect(outcome).toEqual({
    verdict: "failed",
    why: "QEMU was killed",
    lastStep: "a",
    lines: ["x"],
  });
  expect(error.message).toBe("The bootstrap failed in a: QEMU was killed\n  | x");
  expect(told).toEqual([target]);
});

test("in the log of a run, a guest that began again under TCG has not failed", async () => {
  const { logPath, finish } = beginRun(target);
  const again = '--- seedstrap: KVM cannot run this guest ("x"), starting again under TCG ---\n';
  writeFileSync(logPath, bytesOf(`${BOOT}${kaem}${again}${BOOT}${LAST}${POWER_DOWN}`));
  expect((await outcomeOf(logPath, undefined)).outcome).toMatchObject({ verdict: "done" });
  finish({ verdict: "done", why: "x", lines: [] });
});

test("a socket and a fifo are read to their end, which proves no failure", async () => {
  const dir = temp.make();
  const socket = join(dir, "serial.sock");
  const server = createServer((client) => client.end(bytesOf(BOOT + bashStep("beta-2.0", 1))));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const wanted = {
    verdict: "unknown",
    why: "its console has ended; it ended before alpha-1.0 pass 2, the last step, was built",
  } as const;
  expect((await outcomeOf(socket, target)).outcome).toMatchObject(wanted);
  server.close();
  expect((await outcomeOf(socket, target)).error).toMatchObject({ kind: "target" });
  const fifo = join(dir, "fifo");
  expect((await run(["mkfifo", fifo])).code).toBe(0);
  const ended = outcomeOf(fifo, target);
  await setTimeout(100);
  const file = openSync(fifo, "w");
  writeSync(file, bytesOf(BOOT + bashStep("beta-2.0", 1)));
  closeSync(file);
  expect((await ended).outcome).toMatchObject(wanted);
});

test("standard input is read to its end, with lines of JSON for scripts", async () => {
  const log = join(temp.make(), "serial.log");
  writeFileSync(log, bytesOf(LAST + POWER_DOWN));
  const watch = `"$0" "$1" watch - --target "$2" --json < "$3"`;
  const ran = await run(["sh", "-c", watch, process.execPath, MAIN, target, log]);
  expect(ran.code).toBe(0);
  const lines = ran.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines[0]).toMatchObject({ kind: "start", source: "-", target });
  expect(lines[2]).toMatchObject({ kind: "step", name: "alpha-1.0", number: 8, of: 8 });
  expect(lines.at(-1)).toMatchObject({ schema: 1, kind: "outcome", verdict: "done", source: "-" });
});

test("a log is read no faster than what is printed of it", async () => {
  const dir = temp.make();
  const [log, peak] = [join(dir, "long.log"), join(dir, "peak")];
  const line = "tcc -m32 -march=i386 -std=c89 -I../include -c a.c\n";
  writeFileSync(log, line.repeat(128 * 1024 * 1024 / line.length) + POWER_DOWN);
  const support = join(import.meta.dirname!, "../support/peak.ts");
  const script = '"$@" | { sleep 2; wc -c; }';
  const argv = [process.execPath, "--preload", support, MAIN, "watch", log];
  const ran = await run(["sh", "-c", script, "sh", ...argv], { env: { PEAK_FILE: peak } });
  expect(Number(ran.stdout)).toBe(statSync(log).size);
  expect(Number(readFileSync(peak, "utf8"))).toBeLessThan(160 * 1024 * 1024);
}, 60_000);

testAtTerminal()("no own terminal is watched, or its settings changed", async () => {
  for (const source of ["/dev/tty", '"$(tty)"']) {
    const words = `stty -g; ${shellQuote([process.execPath, MAIN])} watch ${source}; stty -g`;
    const { stdout } = await run(["script", "-qec", words, "/dev/null"]);
    const [before, ...rest] = stdout.trimEnd().split("\r\n");
    expect(rest.join("\n")).toContain(": it is this terminal\n");
    expect(rest.at(-1)).toBe(before!);
  }
});

test("what cannot be watched is named", async () => {
  const dir = temp.make();
  for (
    const [source, code, why] of [
      [join(dir, "none"), 7, "it is not there"],
      [dir, 2, "no console can be read from it"],
    ] as const
  ) {
    const ran = await seedstrap(["watch", source]);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(`Cannot watch ${source}: ${why}`);
  }
  const log = join(dir, "log");
  writeFileSync(log, "");
  expect(await seedstrap(["watch", log, "--baud", "1"])).toMatchObject({ code: 2 });
  expect(await seedstrap(["watch", log, "--target", dir])).toMatchObject({ code: 7 });
});

test("Ctrl-C ends the watching with 130", async () => {
  const log = join(temp.make(), "serial.log");
  writeFileSync(log, bytesOf(BOOT + kaem));
  const watching = start([process.execPath, MAIN, "watch", log, "--target", target, "--json"]);
  let [text, isSent] = ["", false];
  const decoder = new TextDecoder();
  for await (const chunk of watching.stdout) {
    text += decoder.decode(chunk);
    if (isSent || !text.includes('"kexec-1.0"')) continue;
    isSent = true;
    watching.kill("SIGINT");
  }
  expect(await watching.exited).toBe(130);
  expect(JSON.parse(text.trimEnd().split("\n").at(-1)!)).toMatchObject({
    kind: "outcome",
    verdict: "interrupted",
    error: { kind: "interrupt", code: 130 },
  });
});

testWith("qemu-system-x86_64")("the serial line of a QEMU is watched as a pty", async () => {
  const qemu = start([
    ...["qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-display", "none", "-S"],
    ...["-drive", `file=${join(target, "init.img")},format=raw,snapshot=on`],
    ...["-serial", "pty", "-monitor", `unix:${join(target, "monitor")},server,nowait`],
  ]);
  try {
    const decoder = new TextDecoder();
    let said = "";
    for await (const chunk of qemu.stdout) {
      said += decoder.decode(chunk);
      if (/\/dev\/pts\/\d+/.test(said)) break;
    }
    const [pty] = /\/dev\/pts\/\d+/.exec(said)!;
    const watching = start([process.execPath, MAIN, "watch", pty, "--target", target, "--quiet"]);
    const told = new Response(watching.stderr).text();
    await setTimeout(500);
    await Bun.connect({
      unix: join(target, "monitor"),
      socket: { open: (socket) => void socket.write("cont\n"), data: () => {} },
    });
    expect(await watching.exited).toBe(0);
    const lines = (await told).replaceAll(/^2\d{3}-\S+Z /gm, "");
    expect(lines).toContain("step 8 of 8: alpha-1.0 pass 2\nalpha-1.0: built\n");
    expect(lines).toContain("done: every step was built\n");
  } finally {
    qemu.kill();
    await qemu.exited;
  }
}, 60_000);
