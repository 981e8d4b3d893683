// SPDX-License-Identifier: MIT
/** What an old run, or a log, is told to have been; and runs that end in a way of their own. */
import { afterAll, describe, expect } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { MAIN, run, seedstrap, start, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { bootSector, writingSector } from "./boot_sector.ts";

const PEAK = fileURLToPath(new URL("../support/peak.ts", import.meta.url).href);
const temp = new TempDirs();
afterAll(() => temp.release());
const test = testWith("qemu-system-x86_64");
const STEP = "\r\n +> pkg=alpha-1.0\r\n +> kaem --file pass2.kaem\r\n";

/** Builds a target below a directory whose boot sector is all that runs. */
async function built(dir: string, sector: string): Promise<string> {
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": sector };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const target = join(dir, "target");
  const options = ["--external-sources", "-qs", "64M", "-m", `file://${mirror}`];
  const rest = ["--distfiles", join(dir, "store"), "--tree", tree, "-t", target];
  expect(await seedstrap(["build", "--qemu", ...options, ...rest])).toMatchObject({ code: 0 });
  return target;
}

/** What `explain --json` says. */
async function explained(...args: string[]): Promise<Record<string, unknown>> {
  const ran = await seedstrap(["explain", ...args, "--json"]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  return JSON.parse(ran.stdout);
}

test("a guest that is silent for longer than --stall is ended, and explained", async () => {
  const target = await built(realpathSync(temp.make()), bootSector(STEP, "hang"));
  const ran = await seedstrap(["run", target, "--accel", "tcg", "--stall", "3s"]);
  expect(ran.code).toBe(15);
  expect(ran.stderr).toContain(
    "The bootstrap failed in alpha-1.0 pass 2: the console has been silent for 3 s (--stall); QEMU used ",
  );
  expect(ran.stderr).toContain(": the guest waited, and did not compute\n");
  const told = { verdict: "failed", failure: "stall", lastStep: "alpha-1.0 pass 2", cause: null };
  expect(await explained(target)).toMatchObject({ ...told, run: 1 });
  expect(await explained(join(target, ".seedstrap/runs/1.log"))).toMatchObject({
    ...told,
    run: null,
  });
});

test("--stall leaves a guest alone that ends before, and takes a duration", async () => {
  const dir = realpathSync(temp.make());
  const target = await built(dir, bootSector(`${STEP}Subprocess error 1\r\n`, "reset"));
  const ran = await seedstrap(["run", target, "--accel", "tcg", "--stall", "1h"]);
  expect(ran.code).toBe(12);
  for (const text of ["0s", "30", "1.5h", "501h", "-1m", "1d"]) {
    expect(await seedstrap(["run", target, `--stall=${text}`])).toMatchObject({ code: 2 });
  }
});

test("a QEMU that is killed is a failure of its own, and explained", async () => {
  const target = await built(realpathSync(temp.make()), bootSector(STEP, "hang"));
  const guest = start([process.execPath, MAIN, "run", target, "--accel", "tcg"]);
  const log = join(target, ".seedstrap/runs/1.log");
  while (!existsSync(log) || !readFileSync(log, "latin1").includes("pass2")) await setTimeout(50);
  const qemu = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).find((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      return words[0]!.includes("qemu") &&
        words.some((word) => word.includes(`${target}/init.img`));
    } catch {
      return false; // gone meanwhile
    }
  });
  process.kill(Number(qemu), "SIGKILL");
  const said = await new Response(guest.stderr).text();
  expect(await guest.exited).toBe(17);
  expect(said).toContain("The bootstrap failed in alpha-1.0 pass 2: QEMU was killed by SIGKILL");
  expect(said).toContain("\nLikely cause: It was killed by SIGKILL: ");
  expect(said).toContain("\nTry:\n  - sudo dmesg | grep");
  for (const what of [target, log]) {
    const told = await explained(what);
    expect(told).toMatchObject({ verdict: "failed", failure: "died", cause: { name: "killed" } });
  }
});

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: a full disk of the host: only root may mount a tmpfs");

test.skipIf(!isRoot)(
  "a guest that fills the disk of the host is ended, and told as such",
  async () => {
    const dir = realpathSync(temp.make());
    const mount = await run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", dir]);
    if (mount.code !== 0) return console.log(`skipped: a full disk of the host: ${mount.stderr}`);
    try {
      const target = await built(dir, writingSector());
      const ran = await seedstrap(["run", target, "--accel", "tcg", "--json"]);
      expect(ran.code).toBe(16);
      expect(JSON.parse(ran.stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({
        verdict: "failed",
        failure: "host-disk-full",
        cause: {
          name: "host-full",
          tries: expect.arrayContaining([expect.stringContaining(`df -h ${target}`)]),
        },
        error: {
          kind: "host-disk-full",
          code: 16,
          hint: null,
        },
      });
      // There is no space left, but for how it ended.
      expect(() => writeFileSync(join(dir, "more"), new Uint8Array(65536))).toThrow("ENOSPC");
      expect(await explained(target)).toMatchObject({
        verdict: "failed",
        failure: "host-disk-full",
        cause: { name: "host-full" },
      });
    } finally {
      await run(["umount", dir]);
    }
  },
);

test("what a target knows of its machine explains a crash", async () => {
  const dir = realpathSync(temp.make());
  const target = await built(dir, bootSector("\r\n +> ./a b\r\n", "fault"));
  const small = ["build", "--qemu", "--external-sources", "-qs", "64M", "-qr", "512", "--force"];
  const sources = ["-m", `file://${join(dir, "mirror")}`, "--distfiles", join(dir, "store")];
  const again = [...small, ...sources, "--tree", join(dir, "tree"), "-t", target];
  expect(await seedstrap(again)).toMatchObject({ code: 0 });
  expect((await seedstrap(["run", target, "--accel", "tcg"])).code).toBe(14);
  const told = await explained(target);
  expect(told).toMatchObject({ failure: "reset", cause: { name: "little-memory" } });
  // A log alone does not know.
  const log = join(target, ".seedstrap/runs/1.log");
  expect(await explained(log)).toMatchObject({ failure: "reset", cause: null });
});

/** Writes the files of runs of a target that was never built. */
function recordedTarget(files: Readonly<Record<string, string>>): string {
  const dir = temp.make();
  mkdirSync(join(dir, ".seedstrap/runs"), { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(dir, ".seedstrap/runs", name), text);
  }
  return dir;
}

const began = "2026-01-02T03:04:05.000Z";
const failedRun = { format: "seedstrap-run/1", verdict: "failed", lines: ["a line"], began };

describe("explain", () => {
  test("takes a run that was recorded before there were failures, and judges it by its log", async () => {
    const dir = recordedTarget({
      "1.json": JSON.stringify({ ...failedRun, why: "Subprocess error 1", ended: began }),
      "1.log": `${STEP}bad header\r\nSubprocess error 1\r\nABORTING HARD\r\n`,
      "2.json": JSON.stringify({ ...failedRun, verdict: "running", why: "it is not over" }),
      "2.log": `${STEP}compiling\r\n`,
    });
    expect(await explained(dir, "--run", "1")).toMatchObject({
      verdict: "failed",
      failure: "step",
      why: "Subprocess error 1",
      lines: ["a line"],
      cause: { name: "damaged-archive" },
      began,
    });
    expect(await explained(dir)).toMatchObject({
      verdict: "running",
      lastStep: "alpha-1.0 pass 2",
      cause: null,
      run: 2,
    });
    const none = await seedstrap(["explain", dir, "--run", "7"]);
    expect(none.code).toBe(7);
    expect(none.stderr).toContain("it has no run 7\n");
    expect(none.stderr).toContain("hint: It has 1, 2\n");
  });

  test("judges by its log a run whose outcome is damaged, and by its outcome one without a log", async () => {
    const dir = recordedTarget({
      "1.json": "{",
      "1.log": `${STEP}/usr/bin/alpha: FAILED\r\n`,
      "2.json": JSON.stringify({ ...failedRun, failure: "panic", why: "it panicked" }),
    });
    expect(await explained(dir, "--run=1")).toMatchObject({ failure: "checksum", run: 1 });
    expect(await explained(dir)).toMatchObject({
      failure: "panic",
      why: "it panicked",
      cause: null,
    });
  });

  test("takes only the second start of a guest that KVM could not run", async () => {
    const dir = temp.make();
    const log = join(dir, "log");
    const first = `KVM internal error. Suberror: 1\nSubprocess error 9\n`;
    const again = `--- seedstrap: KVM cannot run this guest ("x"), starting again under TCG ---\n`;
    writeFileSync(log, first);
    expect(await explained(log)).toMatchObject({ failure: "kvm", cause: { name: "kvm-cannot" } });
    writeFileSync(log, `${first}${again} +> a\n--- seedstrap: Interrupted by SIGTERM ---\n`);
    expect(await explained(log)).toMatchObject({
      verdict: "interrupted",
      failure: null,
      why: "Interrupted by SIGTERM",
    });
    writeFileSync(log, `${first}${again}[ 1.0] reboot: Power down\n`);
    expect(await explained(log)).toMatchObject({ verdict: "unknown", failure: null, cause: null });
  });

  test("shows nothing raw of a hostile log", async () => {
    const dir = temp.make();
    const log = join(dir, "a\x1b[31mlog");
    writeFileSync(
      log,
      "\x1b[2J\x1b]0;title\x07 +> a\r\n\x9b31mThe file: \x1b[5mx\x90y\u202e is not a valid input file name\r\n" +
        "\x1b]52;c;aGk=\x07Subprocess error \x00\x08\x7f1\r\n",
    );
    for (const json of [[], ["--json"]]) {
      const ran = await seedstrap(["explain", log, ...json]);
      expect(ran.code).toBe(0);
      // deno-lint-ignore no-control-regex -- it is what must not be there
      expect(ran.stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
      expect(ran.stdout).toContain("Subprocess error");
    }
  });

  test("reads regular files only, and no run number of one", async () => {
    const dir = temp.make();
    await run(["mkfifo", join(dir, "fifo")]);
    writeFileSync(join(dir, "log"), "");
    symlinkSync("/dev/zero", join(dir, "zero"));
    for (
      const [args, code] of [
        [["fifo"], 7],
        [["zero"], 7],
        [["none"], 7],
        [[], 7],
        [["."], 7],
        [["log", "--run", "1"], 2],
        [["--run", "0"], 2],
        [["log"], 0],
      ] as const
    ) {
      expect([args, (await seedstrap(["explain", ...args], { cwd: dir })).code]).toEqual([
        args,
        code,
      ]);
    }
  });

  test("takes no more memory for a log of 300 MB, with or without lines", async () => {
    const dir = temp.make();
    const log = join(dir, "log");
    const file = openSync(log, "w");
    const block = `${"x".repeat(99)}\n`.repeat(10_000);
    for (let index = 0; index < 150; index++) writeSync(file, block);
    const line = "y".repeat(1_000_000);
    for (let index = 0; index < 150; index++) writeSync(file, line);
    writeSync(file, "\nSubprocess error 5\n");
    closeSync(file);
    const peakOf = async (path: string) => {
      const PEAK_FILE = join(dir, "peak");
      const command = [process.execPath, "--preload", PEAK, MAIN];
      const ran = await seedstrap(["explain", path, "--json"], { command, env: { PEAK_FILE } });
      expect(JSON.parse(ran.stdout)).toMatchObject({ why: "Subprocess error 5" });
      return Number(readFileSync(PEAK_FILE, "utf8"));
    };
    const small = join(dir, "small");
    writeFileSync(small, "Subprocess error 5\n");
    expect(await peakOf(log)).toBeLessThan(await peakOf(small) + 100_000_000);
  }, 120_000);
});
