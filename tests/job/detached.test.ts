// SPDX-License-Identifier: MIT
/** Runs without a terminal, shown, listed and ended from elsewhere. */
import { afterAll, afterEach, describe, expect, test as plainTest } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { listCheckpoints } from "../../src/record/checkpoints.ts";
import { recordedRun } from "../../src/record/run.ts";
import { eventually, isAlive, pidsWith } from "../launch/guest.ts";
import { builtBinary, loaderOf } from "../support/binary.ts";
import { TempDirs } from "../support/files.ts";
import { DENO, MAIN, type Ran, run as runProgram, start, testWith } from "../support/run.ts";
import { Terminal, testInTmux } from "../support/tmux.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { counter, type Counting, countsIn } from "./counter.ts";

const test = testWith("qemu-system-x86_64");
const temp = new TempDirs();
const SEEDSTRAP = [process.execPath, MAIN];
const DONE = "\n +> pkg=alpha-1.0\n +> kaem --file pass2.kaem\nalpha-1.0: build successful\n" +
  "reboot: Power down\n";

/** A target with a guest that counts, and a home directory of its own. */
class Place {
  readonly dir = realpathSync(temp.make());
  readonly target = join(this.dir, "target");
  readonly env = { HOME: join(this.dir, "home") };
  build: readonly string[] = [];

  static async make(counting: Counting = {}, more: readonly string[] = []): Promise<Place> {
    const place = new Place();
    mkdirSync(place.env.HOME);
    const hex = [...counter(counting)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": `${hex}\n` };
    const { tree, mirror } = writeMiniTree(place.dir, miniTree({ files }));
    place.build = [
      ...["--qemu", "--external-sources", "-qs", "64M", "-qr", "256", "-m", `file://${mirror}`],
      ...["--distfiles", join(place.dir, "store"), "--tree", tree, "-t", place.target],
      ...["--force", ...more],
    ];
    expect(await place.call("build", ...place.build)).toMatchObject({ code: 0 });
    places.push(place);
    return place;
  }

  async call(...args: string[]): Promise<Ran> {
    return await this.callBy(SEEDSTRAP, ...args);
  }

  async callBy(command: readonly string[], ...args: string[]): Promise<Ran> {
    return await runProgram([...command, ...args], { env: this.env, cwd: this.dir });
  }

  /** Starts a run, and returns its process. */
  async detach(...more: string[]): Promise<number> {
    const ran = await this.call(
      "run",
      this.target,
      "--accel",
      "tcg",
      "--detach",
      "--json",
      ...more,
    );
    expect(ran).toMatchObject({ code: 0 });
    return JSON.parse(ran.stdout).pid;
  }

  async ps(): Promise<{ pid: number; state: string; [field: string]: unknown }[]> {
    return JSON.parse((await this.call("ps", "--json")).stdout).runs;
  }

  log(run = 1): string {
    return readFileSync(join(this.target, `.seedstrap/runs/${run}.log`), "latin1");
  }

  /** Waits until its guest has counted so far. */
  async counted(count: number, run = 1): Promise<void> {
    if (await eventually(() => (countsIn(this.log(run)).at(-1) ?? 0) >= count, 60_000)) return;
    throw new Error(`it has not counted to ${count}: ${this.log(run)}`);
  }

  /** The processes of its guest. */
  guests(): number[] {
    return pidsWith(`file=${this.target}`).concat(pidsWith(`${this.target}/.seedstrap/checkpoints`))
      .filter((pid) => cmdline(pid).includes("qemu"));
  }

  /** What is left where nothing runs, and should not be. */
  left(): string[] {
    const work = join(this.target, ".seedstrap");
    const runs = existsSync(join(work, "runs")) ? readdirSync(join(work, "runs")) : [];
    const registered = join(this.env.HOME, ".local/state/seedstrap/runs");
    return [
      ...pidsWith(this.target).map((pid) => `process ${pid}`),
      ...readdirSync(work).filter((name) => !["made", "runs", "checkpoints"].includes(name)),
      ...runs.filter((name) => !/^\d+\.(log|json|out|events|times)$/.test(name)),
      ...existsSync(registered) ? readdirSync(registered) : [],
    ];
  }
}

const places: Place[] = [];
afterEach(async () => {
  for (const place of places.splice(0)) {
    for (const pid of pidsWith(place.target)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
    await eventually(() => pidsWith(place.target).length === 0);
  }
});
afterAll(() => temp.release());

function cmdline(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

/** Reports whether a process is there; one that nobody has asked how it ended does not count. */
function isRunning(pid: number): boolean {
  return isAlive(pid) && statOf(pid)[0] !== "Z";
}

/** Fields of /proc/PID/stat after the name: state, parent, group, session, terminal. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

const { path: binary, obstacle } = builtBinary();
const loader = loaderOf(process.execPath);
if (obstacle !== undefined) console.log(`skipped: a detached run of the binary: ${obstacle}`);
const PROGRAMS: readonly (readonly [string, readonly string[]])[] = [
  ["Bun", SEEDSTRAP],
  ...existsSync(DENO) ? [["Deno", [DENO, "run", "--quiet", "-A", MAIN]] as const] : [],
  ...obstacle === undefined ? [["the binary", [binary]] as const] : [],
  ...obstacle === undefined && loader !== undefined
    ? [["the binary by its loader", [loader, binary]] as const]
    : [],
];
if (!existsSync(DENO)) console.log("skipped: a detached run under Deno: it is not installed");

describe("a detached run has nothing of who started it, and leaves nothing, under", () => {
  for (const [name, command] of PROGRAMS) {
    test(name, async () => {
      const place = await Place.make();
      const { target, dir } = place;
      // As a shell gives a lock to what it starts.
      const shell = 'exec 9>held; flock 9; exec "$@"';
      const run = ["run", "target", "--accel", "tcg", "--detach", "--json"];
      const ran = await place.callBy(["sh", "-c", shell, "sh", ...command], ...run);
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      const { schema, pid, by, log, output } = JSON.parse(ran.stdout);
      expect({ schema, by, log, output }).toEqual({
        schema: 1,
        by: "tcg",
        log: join(target, ".seedstrap/runs/1.log"),
        output: join(target, ".seedstrap/runs/1.out"),
      });
      const guests = place.guests();
      expect(guests.length).toBe(1);
      expect(spawnSync("flock", ["-n", join(dir, "held"), "true"]).status).toBe(0);
      const [, , , session, terminal] = statOf(pid);
      expect({ session, terminal }).toEqual({ session: String(pid), terminal: "0" });
      expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
      expect(readlinkSync(`/proc/${pid}/fd/0`)).toBe("/dev/null");
      expect(readlinkSync(`/proc/${pid}/fd/1`)).toBe(output);
      expect(readFileSync(`/proc/${guests[0]}/environ`, "latin1")).not.toContain("SEEDSTRAP");

      await place.counted(10);
      const [listed] = await place.ps();
      expect(listed).toMatchObject({
        target,
        pid,
        run: 1,
        state: "running",
        isDetached: true,
        log,
      });
      const second = await place.callBy(command, ...run);
      expect(JSON.parse(second.stdout).error).toMatchObject({
        kind: "target",
        message: `Cannot run ${target}: process ${pid} uses it`,
      });
      expect(second.code).toBe(7);

      const stopped = await place.callBy(command, "stop", "target", "--json");
      expect(stopped.code).toBe(0);
      expect(JSON.parse(stopped.stdout)).toMatchObject({ pid, run: 1, verdict: "interrupted" });
      expect(isRunning(pid)).toBe(false);
      expect(place.left()).toEqual([]);
      expect(readFileSync(output, "utf8")).toContain("starting in QEMU under TCG");
      const none = await place.callBy(command, "stop", "target");
      expect(none).toMatchObject({ code: 7, stdout: "" });
      expect(none.stderr).toContain(`Cannot stop a run of ${target}: none goes on`);
    }, 120_000);
  }
});

test("the default command builds, and starts without a terminal", async () => {
  const place = await Place.make();
  const options = ["--accel", "tcg", "--checkpoint", "auto", "--detach", "--json"];
  const ran = await place.call(...place.build, ...options);
  expect(ran.code).toBe(0);
  const lines = ran.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines.map(({ kind }) => kind)).toEqual(["built", undefined]);
  const [listed] = await place.ps();
  expect(listed).toMatchObject({ pid: lines[1].pid, isDetached: true });
  expect(await place.call("stop", place.target)).toMatchObject({ code: 0 });
  expect(listCheckpoints(place.target).length).toBe(1);
  expect(place.left()).toEqual([]);
  for (const [option, what] of [["--tmpfs", "--tmpfs"], ["--interactive", "the terminal"]]) {
    const refused = await place.call(...place.build, option!, "--detach");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(what!);
  }
}, 60_000);

test("what keeps a guest from starting is told by the command that was to start it", async () => {
  const place = await Place.make();
  const { target } = place;
  const wrong = await place.call("run", target, "--accel", "tcg", "--detach", "--", "-bogus");
  expect(wrong).toMatchObject({ code: 9, stdout: "" });
  expect(wrong.stderr).toContain("-bogus: invalid option");
  const missing = await place.call("run", target, "--detach", "--qemu-cmd", "./none");
  expect(missing.code).toBe(9);
  expect(missing.stderr).toContain('none": no such executable file');
  expect(await place.call("resume", target, "--detach")).toMatchObject({ code: 7 });
  expect(await place.call("run", target, "--detach", "--stall", "1")).toMatchObject({ code: 2 });
  expect(place.left()).toEqual([]);
  expect(await place.ps()).toEqual([]);
  const other = join(place.dir, "no-target");
  mkdirSync(other);
  expect(await place.call("run", other, "--detach")).toMatchObject({ code: 7 });
  expect(readdirSync(other)).toEqual([]);

  const interactive = await Place.make({}, ["--interactive"]);
  const refused = await interactive.call("run", interactive.target, "--detach");
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("Cannot use --detach with a guest that has the terminal");
}, 60_000);

test("Ctrl-C while a guest is to be started without a terminal leaves nothing", async () => {
  const place = await Place.make();
  const { target, dir, env } = place;
  // It says nothing, so that nobody knows whether the guest runs.
  const silent = join(dir, "silent");
  writeFileSync(silent, "#!/bin/sh\nexec sleep 600\n", { mode: 0o755 });
  const run = ["run", target, "--accel", "tcg", "--detach", "--qemu-cmd", silent];
  const waiting = start([...SEEDSTRAP, ...run], { env, cwd: dir });
  expect(await eventually(() => existsSync(join(target, ".seedstrap/runs/1.out")))).toBe(true);
  waiting.kill("SIGINT");
  expect(await waiting.exited).toBe(130);
  expect(place.left()).toEqual([]);
  expect(recordedRun(target, 1)?.verdict).toBe("interrupted");
}, 30_000);

test(
  "a detached run whose budget is spent is told as such, also to who attaches later",
  async () => {
    const place = await Place.make();
    const { target } = place;
    const pid = await place.detach("--budget", "10s");
    for (const _ of ["while it goes on", "later"]) {
      const attached = await place.call("attach", target);
      expect(attached.code).toBe(19);
      expect(attached.stderr).toContain("the budget of 10s is spent");
      expect(attached.stderr).toContain(`Go on with: seedstrap resume ${target}`);
    }
    expect(await eventually(() => !isRunning(pid))).toBe(true);
    expect(place.left()).toEqual([]);
  },
  60_000,
);

test("stop --now does not wait for the checkpoint that stop saves", async () => {
  const place = await Place.make();
  const { target } = place;
  await place.detach("--checkpoint", "auto");
  await place.counted(5);
  // Saving needs QEMU, which stands still.
  const [guest] = place.guests();
  process.kill(guest!, "SIGSTOP");
  const first = start([...SEEDSTRAP, "stop", target], { env: place.env, cwd: place.dir });
  const saves = () => readFileSync(join(target, ".seedstrap/runs/1.out"), "utf8");
  expect(await eventually(() => saves().includes("saving a checkpoint before"))).toBe(true);
  expect(await place.call("stop", target, "--now")).toMatchObject({ code: 0 });
  expect(await first.exited).toBe(0);
  expect(listCheckpoints(target)).toEqual([]);
  expect(place.left()).toEqual([]);
}, 60_000);

test("kill -9 of a detached run ends its guest; ps says so once, and resume goes on", async () => {
  const place = await Place.make({ text: " +> pkg=alpha-1.0\n +> kaem --file pass2.kaem\n" });
  const { target } = place;
  const pid = await place.detach("--checkpoint", "auto");
  await place.counted(40);
  // Events are written now and then.
  while ((await place.ps())[0]?.["step"] === null) await Bun.sleep(100);
  expect(await place.ps()).toMatchObject([{ step: "alpha-1.0 pass 2" }]);
  expect(await place.call("stop", target)).toMatchObject({ code: 0 });
  const counts = countsIn(place.log()).length;
  const resume = ["resume", target, "--detach", "--json"];
  const second = JSON.parse((await place.call(...resume)).stdout).pid;
  expect(second).not.toBe(pid);
  await place.counted(counts + 5, 2);
  const guests = place.guests();
  expect(guests.length).toBe(1);
  process.kill(second, "SIGKILL");
  expect(await eventually(() => guests.every((guest) => !isRunning(guest)))).toBe(true);

  const attached = await place.call("attach", target);
  expect(attached.code).toBe(9);
  expect(attached.stderr).toContain("seedstrap was killed before it could record");
  expect(attached.stderr).toContain(`Go on with: seedstrap resume ${target}`);
  expect(await place.call("stop", target)).toMatchObject({ code: 7 });
  expect(await place.ps()).toMatchObject([{ pid: second, state: "killed" }]);
  expect(await place.ps()).toEqual([]);

  expect(await place.call(...resume)).toMatchObject({ code: 0 });
  await place.counted(counts + 10, 3);
  expect(await place.call("stop", target, "--now")).toMatchObject({ code: 0 });
  expect(listCheckpoints(target).length).toBe(1);
  const log = place.log(3);
  const all = countsIn(log.replace(/\n--- seedstrap: .* ---\n/g, ""));
  expect(all).toEqual(all.map((_, index) => index + 1));
  expect(log).not.toContain("WRONG");
  expect(place.left()).toEqual([]);
}, 120_000);

testInTmux()(
  "a detached run outlives its terminal and SIGHUP, and is shown on two terminals at once",
  async () => {
    const place = await Place.make({ last: DONE, limit: 0x280 });
    const { target, dir, env } = place;
    const screen = { columns: 100, rows: 30, cwd: dir, env };
    const run = [...SEEDSTRAP, "run", target, "--accel", "tcg", "--detach"];
    {
      using terminal = new Terminal(run, screen);
      expect(await terminal.ended()).toBe(0);
      expect(terminal.all()).toContain(`end it with:  seedstrap stop ${target}`);
    }
    const { pid } = (await place.ps())[0]!;
    process.kill(pid, "SIGHUP");
    await place.counted(20);

    {
      const attach = [...SEEDSTRAP, "attach", target];
      using first = new Terminal(attach, screen);
      using second = new Terminal(attach, screen);
      using quit = new Terminal(attach, screen);
      for (const terminal of [first, second, quit]) {
        await terminal.shows((rows) => rows.some((row) => row.includes(`attached to ${target}`)));
        await terminal.shows(() => terminal.all().includes("\n0020\n"));
      }
      quit.press("q");
      expect(await quit.ended()).toBe(130);
      expect(quit.all()).toContain("which goes on");
      expect(quit.all()).toContain(`seedstrap stop ${target}`);
      expect(isRunning(pid)).toBe(true);
      const piped = start([...SEEDSTRAP, "attach", target, "--json", "--quiet"], { env, cwd: dir });

      // The run ends by itself: whoever is attached has its exit code.
      for (const terminal of [first, second]) {
        await eventually(() => terminal.exitCode() !== undefined, 120_000);
        expect(await terminal.ended()).toBe(0);
        expect(terminal.all()).toContain("done: every step was built");
        expect(terminal.all()).toContain("alpha-1.0: build successful");
      }
      expect(await piped.exited).toBe(0);
      const lines = (await new Response(piped.stdout).text()).trimEnd().split("\n");
      const events = lines.map((line) => JSON.parse(line));
      expect(events[0]).toMatchObject({ kind: "start", target });
      expect(events.at(-1)).toMatchObject({ schema: 1, kind: "outcome", verdict: "done" });
    }
    const over = await place.call("attach", target);
    expect(over).toMatchObject({ code: 0, stdout: "" });
    expect(over.stderr).toContain("done: every step was built");
    // The servers of the terminals go when they like.
    await eventually(() => pidsWith(target).length === 0);
    expect(place.left()).toEqual([]);
  },
  180_000,
);

test("a run at a terminal is listed too, and stopped from elsewhere", async () => {
  const place = await Place.make();
  const { target, env, dir } = place;
  const going = start([...SEEDSTRAP, "run", target, "--accel", "tcg"], { env, cwd: dir });
  const out = new Response(going.stdout).text();
  const runs = () => existsSync(join(target, ".seedstrap/runs/1.log"));
  expect(await eventually(runs)).toBe(true);
  await place.counted(3);
  expect(await place.ps()).toMatchObject([{ pid: going.pid, isDetached: false, state: "running" }]);
  const attached = start([...SEEDSTRAP, "attach", target], { env, cwd: dir });
  expect(await place.call("stop", target)).toMatchObject({ code: 0 });
  expect(await going.exited).toBe(130);
  expect(await attached.exited).toBe(130);
  await out;
  expect(place.left()).toEqual([]);
}, 60_000);

test("attach opens no link and no device in place of the log of a target", async () => {
  const place = await Place.make();
  const { target } = place;
  const pid = await place.detach();
  const log = join(target, ".seedstrap/runs/1.log");
  renameSync(log, join(place.dir, "elsewhere"));
  symlinkSync(join(place.dir, "elsewhere"), log);
  const refused = await place.call("attach", target);
  expect(refused).toMatchObject({ code: 7, stdout: "" });
  expect(refused.stderr).toContain(`Cannot attach to ${target}: its log is not there`);
  expect(isRunning(pid)).toBe(true);
}, 30_000);

describe("stop sends no signal to a process that is not proven to be the run of the target", () => {
  /** A process of this user that has nothing to do with a run. */
  function bystander(): { readonly pid: number; readonly name: string } & Disposable {
    const child = Bun.spawn(["sleep", "600"]);
    return {
      pid: child.pid,
      name: `${child.pid}-${statOf(child.pid)[19]}`,
      [Symbol.dispose]: () => child.kill("SIGKILL"),
    };
  }

  test("which a target names that came from a stranger", async () => {
    const place = await Place.make();
    using other = bystander();
    const lock = join(place.target, ".seedstrap/lock");
    mkdirSync(lock, { recursive: true });
    writeFileSync(join(lock, other.name), "");
    const refused = await place.call("stop", place.target);
    expect(refused.code).toBe(7);
    expect(refused.stderr).toContain(
      `process ${other.pid} uses it, and is no run that you have started`,
    );
    expect(isRunning(other.pid)).toBe(true);
  }, 30_000);

  test("which has got the pid of a run that was killed", async () => {
    const place = await Place.make();
    const pid = await place.detach();
    using other = bystander();
    const dir = join(place.env.HOME, ".local/state/seedstrap/runs");
    const [name] = readdirSync(dir);
    // The start time is that of the run.
    writeFileSync(
      join(dir, name!.replace(/^\d+/, String(other.pid))),
      readFileSync(join(dir, name!)),
    );
    process.kill(pid, "SIGKILL");
    expect(await eventually(() => pidsWith(place.target).length === 0)).toBe(true);
    expect(await place.call("stop", place.target)).toMatchObject({ code: 7 });
    expect(isRunning(other.pid)).toBe(true);
    expect((await place.ps()).map(({ state }) => state)).toEqual(["killed", "killed"]);
    expect(recordedRun(place.target, 1)?.verdict).toBe("running");
  }, 30_000);
});

plainTest("the systemd unit of README.md is one that systemd understands", () => {
  const readme = readFileSync(join(import.meta.dirname!, "../../README.md"), "utf8");
  const [unit] = /^ {4}\[Unit\]\n(?:(?: {4}.*)?\n)+?(?=\S)/m.exec(readme)!;
  const text = unit.replaceAll(/^ {4}/gm, "").trimEnd() + "\n";
  expect(text).toContain("WantedBy=default.target");
  if (Bun.which("systemd-analyze") === null) {
    console.log("skipped: the check of a systemd unit: systemd-analyze is not installed here");
    return;
  }
  const dir = temp.make();
  const path = join(dir, "seedstrap@.service");
  const check = (text: string) => {
    writeFileSync(path, text.replace("/usr/local/bin/seedstrap", process.execPath));
    const { status, stderr } = spawnSync(
      "systemd-analyze",
      ["--user", "verify", join(dir, "seedstrap@lb.service")],
      { env: { ...process.env, XDG_RUNTIME_DIR: dir }, encoding: "utf8" },
    );
    return { status, stderr };
  };
  expect(check(text)).toEqual({ status: 0, stderr: "" });
  expect(check(text.replace("KillMode=mixed", "KillMode=mixt")).stderr).toContain("mixt");
});
