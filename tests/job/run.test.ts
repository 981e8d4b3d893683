// SPDX-License-Identifier: MIT
import { afterAll, expect } from "bun:test";
import { Buffer } from "node:buffer";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { shellQuote } from "../../src/launch/process.ts";
import { expectedOf } from "../../src/record/expected.ts";
import { readEvents } from "../../src/record/events.ts";
import { readRecord } from "../../src/record/read.ts";
import { eventually } from "../launch/guest.ts";
import { bootSector, type ENDS } from "./boot_sector.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, run, run as runProgram, seedstrap, start, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const test = testWith("qemu-system-x86_64");

/** Builds a target whose boot sector is all that runs. */
async function built(
  text: string,
  end: keyof typeof ENDS,
  carried: readonly string[] = ["--external-sources"],
) {
  const dir = realpathSync(temp.make());
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": bootSector(text, end) };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const target = join(dir, "target");
  const options = [...carried, "-qs", "64M", "-m", `file://${mirror}`];
  const rest = ["--distfiles", join(dir, "store"), "--tree", tree, "-t", target];
  const build = ["build", "--qemu", ...options, ...rest];
  const ran = await seedstrap(build);
  expect(ran).toMatchObject({ code: 0 });
  return {
    dir,
    target,
    mirror,
    build,
    summary: ran.stdout,
    run: ["run", target, "--accel", "tcg"],
  };
}

// The BIOS leaves its own last line open.
const lastStep = "\r\n +> pkg=alpha-1.0\r\n +> kaem --file pass2.kaem\r\n";
const DONE = `${lastStep}alpha-1.0: build successful\r\n[    1.0] reboot: Power down\r\n`;

test("run ends with 0 where the guest has built its last step and switched itself off", async () => {
  const { target, run } = await built(DONE, "reset");
  const ran = await seedstrap(run);
  expect(ran.code).toBe(0);
  expect(ran.stdout).toContain("alpha-1.0: build successful");
  const log = join(target, ".seedstrap/runs/1.log");
  expect(ran.stderr).toContain(`done: every step was built; the log is ${log}`);
  expect(readFileSync(log, "latin1")).toContain("reboot: Power down");
});

test("the events of a run, and the growth of its log, are kept with their times", async () => {
  const { target, run } = await built(DONE, "reset");
  expect((await seedstrap(run)).code).toBe(0);
  const runs = join(target, ".seedstrap/runs");
  const { header, events } = readEvents(join(runs, "1.events"))!;
  expect(header).toMatchObject({ by: "tcg", machine: { cores: 2, memoryMib: 4096 }, steps: 8 });
  expect(events.map(({ ms: _, ...event }) => event)).toEqual([
    { kind: "phase", phase: "boot" },
    { kind: "phase", phase: "steps" },
    { kind: "step", name: "alpha-1.0", pass: 2 },
    { kind: "step-done", name: "alpha-1.0" },
    { kind: "power-off" },
    { kind: "end", verdict: "done", why: "every step was built" },
  ]);
  const { plan } = expectedOf(target, readRecord(target));
  const { files } = readRecord(target).images[0]!;
  const bytes = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size, 0);
  expect(bytes(plan.loadSizes)).toBe(bytes(files.map(({ size }) => size)));
  expect(plan.loadSizes.length).toBeGreaterThan(files.length);
  const times = readFileSync(join(runs, "1.times"), "latin1").trimEnd().split("\n");
  const sizes = times.map((line) => line.split(" ").map(Number));
  expect(sizes).toEqual(sizes.toSorted((a, b) => a[0]! - b[0]! || a[1]! - b[1]!));
  expect(sizes.at(-1)![1]).toBe(statSync(join(runs, "1.log")).size);
});

test("where its output is no terminal, run prints the console, and a line for each event", async () => {
  const { run } = await built(DONE, "reset");
  const ran = await seedstrap(run);
  expect(ran.stdout).toContain("+> kaem --file pass2.kaem");
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)$/;
  const lines = ran.stderr.trimEnd().split("\n").map((line) => time.exec(line)?.[1] ?? line);
  expect(lines.slice(1, -1)).toEqual([
    "the machine boots",
    "the steps of the manifest begin",
    "step 8 of 8: alpha-1.0 pass 2",
    "alpha-1.0: built",
    "the machine switches itself off",
  ]);
  const quiet = await seedstrap([...run, "--quiet"]);
  expect(quiet).toMatchObject({ code: 0, stdout: "" });
  expect(quiet.stderr).toMatch(/Z step 8 of 8: alpha-1\.0 pass 2; \d+ s( to \d+ s)? left$/m);
  const both = await runProgram(["sh", "-c", '"$@" 2>&1', "sh", process.execPath, MAIN, ...run]);
  expect(both.stdout).toMatch(/^\d{4}-\S+Z alpha-1\.0: built$/m);
});

test(
  "a reader that stands still neither holds the guest up, nor fills the memory, nor misses anything",
  async () => {
    const { dir, target } = await built(DONE, "hang");
    const line = "0123456789".repeat(100);
    const count = 150_000;
    const flood = join(dir, "flood");
    writeFileSync(
      flood,
      `#!/bin/sh\nyes ${line} | head -n ${count}\necho over\nexec sleep 600\n`,
      { mode: 0o755 },
    );
    const [go, out] = [join(dir, "go"), join(dir, "out")];
    expect((await runProgram(["mkfifo", go])).code).toBe(0);
    const words = ["run", target, "--accel", "tcg", "--qemu-cmd", flood];
    const shell = `"$@" 2>${out}.err | { read _ <${go}; cat >${out}; }`;
    const pipeline = start(["sh", "-c", shell, "sh", process.execPath, MAIN, ...words]);
    const log = join(target, ".seedstrap/runs/1.log");
    const sizeBytes = count * (line.length + 1) + "over\n".length;
    expect(await eventually(() => existsSync(log) && statSync(log).size === sizeBytes, 90_000))
      .toBe(true);
    const pid = parseInt(readdirSync(join(target, ".seedstrap/lock"))[0]!);
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const peakKib = Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)![1]);
    expect(peakKib * 1024).toBeLessThan(sizeBytes * 1.5);
    process.kill(pid, "SIGTERM");
    writeFileSync(go, "\n");
    await pipeline.exited;
    const printed = Buffer.from(`${line}\n`.repeat(count) + "over\n");
    // What has ended it may follow: that is in the log, too.
    expect(readFileSync(out).subarray(0, sizeBytes).equals(printed)).toBe(true);
  },
  120_000,
);

test("run --json prints a line for each event, the guest to standard error or nowhere", async () => {
  const { target, run } = await built(DONE, "reset");
  for (const quiet of [[], ["--quiet"]]) {
    const ran = await seedstrap([...run, "--json", ...quiet]);
    const lines = ran.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    expect(lines.map(({ kind }) => kind).join(" ")).toBe(
      "start phase phase step step-done power-off outcome",
    );
    expect(lines[0]).toMatchObject({ ms: 0, by: "tcg", log: expect.stringContaining(target) });
    expect(lines[3]).toMatchObject({ name: "alpha-1.0", pass: 2, number: 8, of: 8 });
    expect(lines[3].ms).toBeGreaterThan(0);
    expect(lines[6]).toMatchObject({ schema: 1, verdict: "done" });
    expect(ran.stderr.includes("pass2.kaem")).toBe(quiet.length === 0);
    expect(ran.stderr).not.toContain("the machine boots");
  }
});

test("the default command has the same lines of JSON, and one for what it has built", async () => {
  const { target, build } = await built(DONE, "reset");
  const ran = await seedstrap([
    ...build.slice(1),
    "--accel",
    "tcg",
    "--json",
    "--quiet",
    "--force",
  ]);
  expect(ran.code).toBe(0);
  const lines = ran.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines.map(({ kind }) => kind).join(" ")).toBe(
    "built start phase phase step step-done power-off outcome",
  );
  expect(lines[0]).toMatchObject({
    target,
    images: [{ name: "init.img" }, { name: "payload.img" }],
  });
});

for (
  const [what, text, end, why, failure, code] of [
    [
      "a step fails",
      `${lastStep}Subprocess error 1\r\nABORTING HARD\r\nBuild finished.\r\n`,
      "reset",
      "The bootstrap failed in alpha-1.0 pass 2: Subprocess error 1",
      "step",
      12,
    ],
    [
      "a checksum differs",
      `${lastStep}/usr/bin/alpha: FAILED\r\nSubprocess error 1\r\nABORTING HARD\r\n`,
      "reset",
      "The bootstrap failed in alpha-1.0 pass 2: wrong checksum of /usr/bin/alpha",
      "checksum",
      13,
    ],
    [
      "the guest only resets",
      "",
      "reset",
      "The bootstrap failed: the guest reset itself before alpha-1.0 pass 2, the last step, was built",
      "reset",
      14,
    ],
    [
      "the guest dies of a triple fault",
      lastStep,
      "fault",
      "The bootstrap failed in alpha-1.0 pass 2: the guest reset itself before alpha-1.0 pass 2",
      "reset",
      14,
    ],
    [
      "the machine refuses the disk to install to",
      `${lastStep}guard_disk: REFUSED: the system is not installed to /dev/sda: it is the payload disk\r\n`,
      "reset",
      "REFUSED: the system is not installed to /dev/sda: it is the payload disk",
      "step",
      12,
    ],
    [
      "the kernel panics, and waits",
      `${lastStep}Kernel panic - not syncing: x\r\n---[ end Kernel panic - not syncing: x\r\n`,
      "hang",
      "The bootstrap failed in alpha-1.0 pass 2: Kernel panic - not syncing: x",
      "panic",
      14,
    ],
  ] as const
) {
  test(`run ends with ${code}, and names the step, where ${what}`, async () => {
    const { target, run } = await built(text, end);
    const ran = await seedstrap(run);
    expect(ran.stderr).toContain(why);
    expect(ran.code).toBe(code);
    const recorded = JSON.parse(readFileSync(join(target, ".seedstrap/runs/1.json"), "utf8"));
    expect(recorded).toMatchObject({ format: "seedstrap-run/1", verdict: "failed", failure });
  });
}

test("a run whose output cannot be written records how it ended, and leaves no lock", async () => {
  const { target, run } = await built(lastStep, "hang");
  const lost: [string, number, string][] = [
    ['"$@" >/dev/full; echo $? >&3', 7, "ENOSPC"],
    ['{ "$@"; echo $? >&3; } | true', 141, "EPIPE"],
  ];
  for (const [index, [script, code, why]] of lost.entries()) {
    const shell = ["bash", "-c", `exec 3>&1; ${script}`, "bash"];
    const child = start([...shell, process.execPath, MAIN, ...run]);
    const killer = globalThis.setTimeout(() => child.kill(), 50_000);
    const text = await new Response(child.stdout).text();
    await child.exited;
    clearTimeout(killer);
    expect(text).toBe(`${code}\n`);
    const runs = join(target, ".seedstrap/runs");
    expect(JSON.parse(readFileSync(join(runs, `${index + 1}.json`), "utf8"))).toMatchObject({
      verdict: "interrupted",
      why: `Cannot write the output: ${why}, the guest was ended`,
    });
    expect(readFileSync(join(runs, `${index + 1}.log`), "latin1"))
      .toContain(`--- seedstrap: Cannot write the output: ${why} ---`);
    expect(readdirSync(join(target, ".seedstrap")).sort()).toEqual(["made", "runs"]);
  }
}, 120_000);

test("build ends with the command that starts it, with the QEMU and the mirror to name", async () => {
  const dir = realpathSync(temp.make());
  const qemu = join(dir, "my qemu");
  symlinkSync(Bun.which("qemu-system-x86_64")!, qemu);
  const { target, mirror, build, summary } = await built(DONE, "reset", ["-qc", qemu]);
  const command = `seedstrap run ${target} --qemu-cmd '${qemu}' --serve ${mirror}`;
  expect(summary).toEndWith(`\nstart it with: ${command}\n`);
  const own = shellQuote([process.execPath, MAIN]);
  writeFileSync(join(dir, "seedstrap"), `#!/bin/sh\nexec ${own} "$@"\n`, { mode: 0o755 });
  const env = { PATH: `${dir}:${process.env["PATH"]}` };
  const ran = await run(["sh", "-c", command], { env });
  expect(ran.stderr).toMatch(/^starting in QEMU (with KVM|under TCG, without KVM); the log is /m);
  expect(ran.code).toBe(0);
  const bare = await seedstrap(["build", "--bare-metal", ...build.slice(2)]);
  expect(bare).toMatchObject({ code: 0, stdout: expect.not.stringContaining("start it with") });
});

test("what a run says at its start, and after an interrupt of the disk, is so", async () => {
  const { target, run: args } = await built(lastStep, "hang");
  const disk = join(target, "init.img");
  const interrupted = async (number: number, before: () => void) => {
    const guest = start([process.execPath, MAIN, ...args]);
    const log = join(target, `.seedstrap/runs/${number}.log`);
    while (!existsSync(log) || !readFileSync(log, "latin1").includes("pass2")) await setTimeout(50);
    before();
    guest.kill("SIGTERM");
    const said = await new Response(guest.stderr).text();
    expect(await guest.exited).toBe(130);
    expect(said).toStartWith(
      `starting in QEMU under TCG, without KVM; the log is ${log}; Ctrl-C ends it\n`,
    );
    return said;
  };
  const asBuilt = `hint: ${disk} is as it was built: run it again\n`;
  expect(await interrupted(1, () => {})).toContain(asBuilt);
  // Newer than its record, and the same.
  const now = new Date();
  expect(await interrupted(2, () => utimesSync(disk, now, now))).toContain(asBuilt);
  const write = () => {
    const file = openSync(disk, "r+");
    writeSync(file, "written", 40_000_000);
    closeSync(file);
  };
  expect(await interrupted(3, write)).toContain(
    `hint: ${disk} is as the guest left it, and does not go on from there: build the target again`,
  );
});

test("what follows -- goes to QEMU, from the command line only", async () => {
  const { target, build, run } = await built(DONE, "reset");
  const bios = join(target, "bios.txt");
  const extra = [
    ...["--", "-chardev", `file,id=bios,path=${bios}`],
    ...["-device", "isa-debugcon,iobase=0x402,chardev=bios"],
  ];
  expect((await seedstrap([...run, ...extra])).code).toBe(0);
  expect(readFileSync(bios, "latin1")).toContain("SeaBIOS");
  expect(readFileSync(join(target, "seedstrap.json"), "utf8")).not.toContain("debugcon");
  rmSync(bios);
  expect((await seedstrap(run)).code).toBe(0);
  expect(existsSync(bios)).toBe(false);
  const both = [...build.slice(1), "--accel", "tcg", ...extra];
  expect((await seedstrap(both)).code).toBe(0);
  expect(readFileSync(bios, "latin1")).toContain("SeaBIOS");
  const other = await seedstrap(["-b", ...build.slice(2), "--", "-vnc", ":1"]);
  expect(other.stderr).toContain('Cannot use arguments after "--" with --bare-metal');
  expect(other.code).toBe(2);
});

test("--accel hvf is given to QEMU, which has it on macOS only", async () => {
  const { target } = await built(DONE, "reset");
  const ran = await seedstrap(["run", target, "--accel", "hvf"]);
  expect(ran.stderr).toContain("qemu-system-x86_64 -accel hvf -m 4096M");
  expect(ran.code).toBe(9);
});

test("run --json prints the outcome last, and each run keeps its own log, up to ten", async () => {
  const { target, run } = await built(`${lastStep}Subprocess error 7\r\n`, "reset");
  for (let number = 1; number <= 12; number++) {
    const ran = await seedstrap([...run, "--json"]);
    expect(ran.code).toBe(12);
    expect(JSON.parse(ran.stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({
      schema: 1,
      kind: "outcome",
      verdict: "failed",
      failure: "step",
      error: { kind: "step", code: 12 },
      why: "Subprocess error 7",
      lastStep: "alpha-1.0 pass 2",
      log: join(target, `.seedstrap/runs/${number}.log`),
    });
  }
  const names = readdirSync(join(target, ".seedstrap/runs")).sort();
  const numbers = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
  const ends = ["events", "json", "log", "times"];
  expect(names).toEqual(numbers.flatMap((n) => ends.map((end) => `${n}.${end}`)).sort());
});

test("no build and no second run begins while a guest runs, and an interrupt is recorded", async () => {
  const { target, build, run } = await built(lastStep, "hang");
  const guest = start([process.execPath, MAIN, ...run]);
  const log = join(target, ".seedstrap/runs/1.log");
  while (!existsSync(log) || !readFileSync(log, "latin1").includes("pass2")) await setTimeout(50);
  for (const args of [build, run]) {
    const refused = await seedstrap(args);
    expect(refused.code).toBe(7);
    expect(refused.stderr).toContain(`process ${guest.pid} uses it`);
  }
  guest.kill("SIGTERM");
  expect(await guest.exited).toBe(130);
  const recorded = JSON.parse(readFileSync(join(target, ".seedstrap/runs/1.json"), "utf8"));
  expect(recorded).toMatchObject({ verdict: "interrupted", lastStep: "alpha-1.0 pass 2" });
  expect(await seedstrap(build)).toMatchObject({ code: 0 });
});

test("a disk that a guest has written to is not replaced without --force", async () => {
  const { target, build, run } = await built(DONE, "reset");
  await seedstrap(run);
  // Opened for writing by QEMU, but not written to: it is as it was built.
  expect(await seedstrap(build)).toMatchObject({ code: 0 });
  const disk = join(target, "init.img");
  const before = readFileSync(disk);
  const changed = Buffer.from(before);
  changed[5_000_000] = 1;
  writeFileSync(disk, changed);
  const refused = await seedstrap(build);
  expect(refused.code).toBe(7);
  expect(refused.stderr).toContain(`Cannot replace ${disk} is not as it was built`);
  expect(refused.stderr).toContain(".seedstrap/runs/1.log");
  expect(readFileSync(disk).equals(changed)).toBe(true);
  // One that was only touched, or copied, is not accused.
  writeFileSync(disk, before);
  expect(await seedstrap(build)).toMatchObject({ code: 0 });
  writeFileSync(disk, changed);
  expect(await seedstrap([...build, "--force"])).toMatchObject({ code: 0 });
  expect(readFileSync(disk).equals(before)).toBe(true);
});

test("links in a target lead a build and a run nowhere", async () => {
  const { target, build, run } = await built(DONE, "reset");
  const victim = temp.make();
  const names = ["made", "made.part", "init.img.part", "1-1", "1.json"];
  for (const name of names) writeFileSync(join(victim, name), name);
  const isUntouched = () =>
    names.every((name) => readFileSync(join(victim, name), "utf8") === name);
  for (const path of [".seedstrap", ".seedstrap/lock", ".seedstrap/runs"]) {
    const place = join(target, path);
    const kept = `${place}.kept`;
    if (existsSync(place)) renameSync(place, kept);
    symlinkSync(victim, place);
    for (const args of [build, run]) {
      const ran = await seedstrap(args);
      // A build has no use for the runs.
      expect([path, args[0], ran.code]).toEqual([
        path,
        args[0],
        path.endsWith("runs") && args === build ? 0 : 7,
      ]);
      expect([path, isUntouched(), readdirSync(victim).sort()]).toEqual([
        path,
        true,
        [...names].sort(),
      ]);
    }
    rmSync(place);
    if (existsSync(kept)) renameSync(kept, place);
  }
});

test("two targets built while the other runs have mirrors of their own, on ports of their own", async () => {
  const started: ReturnType<typeof start>[] = [];
  const ports: number[] = [];
  try {
    for (const _ of [1, 2]) {
      const { target, mirror, run } = await built(lastStep, "hang", []);
      started.push(start([process.execPath, MAIN, ...run, "--serve", mirror]));
      const log = join(target, ".seedstrap/runs/1.log");
      while (!existsSync(log) || !readFileSync(log, "latin1").includes("pass2")) {
        await setTimeout(50);
      }
      const { mirrorPort } = readRecord(target).options;
      expect(readFileSync(join(target, "init.img"), "latin1"))
        .toContain(`MIRRORS="http://10.0.2.2:${mirrorPort}"`);
      const answer = await fetch(`http://127.0.0.1:${mirrorPort}/omega-6.0.tar.gz`);
      expect(answer.status).toBe(200);
      ports.push(mirrorPort);
    }
    expect(new Set(ports).size).toBe(2);
  } finally {
    for (const guest of started) guest.kill("SIGTERM");
    for (const guest of started) expect(await guest.exited).toBe(130);
  }
});
