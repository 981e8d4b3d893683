// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { asRoot } from "../../src/launch/mount.ts";
import { shellQuote } from "../../src/launch/process.ts";
import { mountsBelow } from "../../src/runtime/mounts.ts";
import { TempDirs } from "../support/files.ts";
import { asNobody, NOBODY, nobodyObstacle } from "../support/nobody.ts";
import { MAIN, type Ran, type RunOptions, seedstrap, start } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { eventually, pidsWith } from "./guest.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";
/** The user who starts a sandbox here: anybody but root, who could do without one. */
const SOMEBODY = process.getuid?.() === 0
  ? { uid: 65534, prefix: NOBODY }
  : { uid: process.getuid?.() ?? 0, prefix: [] };

const seed = compileSeed();
const chroot = seed.obstacle ?? chrootObstacle();
const bwrap = seed.obstacle ?? sandboxObstacle();
if (chroot !== undefined) console.log(`skipped: a bootstrap in chroot: ${chroot}`);
if (bwrap !== undefined) console.log(`skipped: a bootstrap in bwrap: ${bwrap}`);

/** Compiles the seed, which has to be static: there is no C library where it runs. */
function compileSeed(): { readonly path: string; readonly obstacle: string | undefined } {
  const path = join(temp.make(), "seed");
  const source = new URL("seed.c", import.meta.url).pathname;
  const trivial = ["-x", "c", "-static", "-o", path, "-"];
  const works = spawnSync("gcc", trivial, { input: "int main(void) { return 0; }\n" });
  if (works.status !== 0) return { path, obstacle: "gcc makes no static programs here" };
  const { status, stderr } = spawnSync("gcc", ["-static", "-Wall", "-Werror", "-o", path, source]);
  if (status !== 0) throw new Error(`cannot compile ${source}: ${stderr}`);
  return { path, obstacle: undefined };
}

/** Why a command does not work here, or undefined. */
function obstacle([program, ...args]: readonly string[]): string | undefined {
  // Nobody is there to be asked for a password.
  const { status, stderr, error } = spawnSync(
    program!,
    program === "sudo" ? ["-n", ...args] : args,
  );
  return status === 0 ? undefined : `${program}: ${error?.message ?? stderr.toString().trim()}`;
}

/** Tried where nothing of it can be left behind: in a mount namespace of its own. */
function chrootObstacle(): string | undefined {
  const mount = ["mount", "-t", "proc", "proc", "/proc"];
  return obstacle(asRoot(["unshare", "--mount", "chroot", "/", ...mount]));
}

function sandboxObstacle(): string | undefined {
  const trial = ["bwrap", "--unshare-user", "--unshare-net", "--bind", "/", "/", "--proc", "/proc"];
  return (SOMEBODY.prefix.length > 0 ? nobodyObstacle() : undefined) ??
    obstacle([...SOMEBODY.prefix, ...trial, "true"]);
}

/** A checkout whose seed is ours, and the command line that starts it, in a target beside it. */
function scene(...options: string[]) {
  const dir = realpathSync(temp.make());
  const { tree, mirror } = writeMiniTree(
    dir,
    miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "", "seed/exit-code": "0\n" } }),
  );
  copyFileSync(seed.path, join(tree, "seed/stage0-posix", SEED));
  chmodSync(dir, 0o755);
  const target = join(dir, "target");
  const args = [
    ...options,
    ...["-m", `file://${mirror}`, "--distfiles", join(dir, "store"), "--tree", tree, "-t", target],
  ];
  return { dir, target, args };
}

/** Runs seedstrap as {@link SOMEBODY}, who owns the directory. */
async function asSomebody(dir: string, args: readonly string[], options: RunOptions = {}) {
  if (SOMEBODY.prefix.length === 0) return await seedstrap(args, { cwd: dir, ...options });
  const command = (binary ??= asNobody(temp.make()));
  chownSync(dir, SOMEBODY.uid, SOMEBODY.uid);
  return await seedstrap(args, { cwd: dir, command, ...options });
}
let binary: string[] | undefined;

/** What the seed told of a word, in order. */
function told({ stdout }: Ran, word: string): string[] {
  return stdout.split("\n").filter((line) => line.startsWith(`${word} `))
    .map((line) => line.slice(word.length + 1));
}

/** What a file holds; nothing where there is none. */
function readContent(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

function expectRootAt(ran: Ran, target: string): void {
  const { dev, ino } = statSync(target, { bigint: true });
  expect(told(ran, "root")).toEqual([`${dev}:${ino}`]);
  expect(told(ran, "above-root")).toEqual([`${dev}:${ino}`]);
  expect(readFileSync(join(target, "written-inside"), "utf8")).toBe("from inside\n");
}

test.skipIf(chroot !== undefined)(
  "chroot starts the seed as root in the target, and what it mounts there is unmounted",
  async () => {
    const { dir, target, args } = scene("--chroot", "--external-sources");
    const ran = await seedstrap(args, { cwd: dir, env: { NOT_FOR_THE_SEED: "1" } });
    expect(ran.code).toBe(0);
    expect(ran.stderr).toMatch(
      /^starting by chroot; .*\n(?:\d{4}-.*\n)*done: every step was built; the log is /,
    );
    expectRootAt(ran, target);
    expect(told(ran, "argument")).toEqual([`/${SEED}`]);
    expect(told(ran, "environment")).toEqual(["PATH=/bin"]);
    expect(told(ran, "user")).toEqual(["0 0"]);
    expect(told(ran, "group")).toEqual(["0 0"]);
    expect(told(ran, "working-directory")).toEqual(["/"]);
    expect(statSync(join(target, "written-inside"))).toMatchObject({ uid: 0, gid: 0 });
    expect(existsSync(join(target, "proc"))).toBe(true);
    expect(mountsBelow(target)).toEqual([]);
  },
);

const cannotAsk = SOMEBODY.prefix.length === 0
  ? "this user may have sudo"
  : nobodyObstacle() ?? (Bun.which("sudo") === null ? "sudo is not installed" : undefined);
if (cannotAsk !== undefined) console.log(`skipped: chroot without sudo: ${cannotAsk}`);

test.skipIf(cannotAsk !== undefined)(
  "chroot says once that it needs root, where sudo does not give it, or is missing",
  async () => {
    const { dir, target, args } = scene("--chroot", "--external-sources");
    expect((await asSomebody(dir, ["build", ...args])).code).toBe(0);
    const refused = await asSomebody(dir, ["run", target, "--chroot"]);
    const hint = "hint: Run it as root, or as a user who may use sudo; --bwrap needs neither\n";
    expect(refused.stderr).toContain(
      "seedstrap: The bootstrap failed: chroot needs root, and sudo does not run it\n",
    );
    expect(refused.stderr).toEndWith(hint);
    expect(refused.stderr).not.toContain("PID namespace");
    const [, bySudo = ""] = /; Ctrl-C ends it\n([^]*)seedstrap: /.exec(refused.stderr) ?? [];
    const lines = bySudo.trimEnd().split("\n");
    expect(lines[0]).toStartWith("sudo: ");
    expect(lines).toEqual([...new Set(lines)]);
    expect(refused.code).toBe(9);

    const bin = join(dir, "bin");
    mkdirSync(bin);
    for (const name of ["env", "chroot"]) symlinkSync(Bun.which(name)!, join(bin, name));
    // setpriv has to be found before.
    const command = [Bun.which("setpriv")!, ...binary!.slice(1)];
    const env = { PATH: bin };
    const missing = await asSomebody(dir, ["run", target, "--chroot"], { command, env });
    expect(missing.stderr).toContain('Cannot run "sudo": not found in PATH');
    expect(missing.stderr).toEndWith(hint);
    expect(missing.code).toBe(9);
  },
);

test.skipIf(chroot !== undefined)("chroot passes the seed's exit code on", async () => {
  const { dir, target, args } = scene("--chroot");
  await seedstrap(["build", ...args], { cwd: dir });
  await Bun.write(join(target, "exit-code"), "37\n");
  const ran = await seedstrap(["run", target, "-c", "--serve", join(dir, "mirror")], { cwd: dir });
  expectRootAt(ran, target);
  expect(ran.stderr).toContain("The bootstrap failed: exit code 37: ");
  expect(ran.code).toBe(9);
  expect(mountsBelow(target)).toEqual([]);
});

test.skipIf(chroot !== undefined)(
  "chroot removes what a killed run left of its pipe, and leaves nothing of its own",
  async () => {
    const { dir, args } = scene("--chroot");
    const tmp = join(dir, "tmp");
    mkdirSync(join(tmp, "seedstrap-fifo-99999999-5-abcdef"), { recursive: true });
    const ran = await seedstrap(args, { cwd: dir, env: { TMPDIR: tmp } });
    expect(ran.code).toBe(0);
    expect(readdirSync(tmp)).toEqual([]);
  },
);

test.skipIf(bwrap !== undefined)(
  "bwrap starts the seed in a sandbox with the target as its root, as a root who is none outside",
  async () => {
    const { dir, target, args } = scene("--bwrap", "--external-sources");
    const ran = await asSomebody(dir, args, { env: { NOT_FOR_THE_SEED: "1" } });
    expect(ran.code).toBe(0);
    expect(ran.stderr).toMatch(
      /^starting by bwrap; .*\n(?:\d{4}-.*\n)*done: every step was built; the log is /,
    );
    expectRootAt(ran, target);
    expect(told(ran, "argument")).toEqual([`/${SEED}`]);
    // The second one is bwrap's own.
    expect(told(ran, "environment").sort()).toEqual(["PATH=/usr/bin", "PWD=/"]);
    expect(told(ran, "user")).toEqual(["0 0"]);
    expect(told(ran, "group")).toEqual(["0 0"]);
    expect(told(ran, "working-directory")).toEqual(["/"]);
    expect(statSync(join(target, "written-inside")).uid).toBe(SOMEBODY.uid);
    // Every distfile is on board, and the network is out of reach.
    expect(told(ran, "network")[0]).toMatch(/^net:/);
    expect(told(ran, "network")).not.toEqual([readlinkSync("/proc/self/ns/net")]);
    for (const path of ["dev/null", "dev/shm/file", "tmp/file"]) {
      expect([path, readContent(join(target, path))]).toEqual([path, ""]);
    }
  },
);

test.skipIf(bwrap !== undefined)(
  "bwrap leaves the network to a seed that downloads, and passes its exit code on",
  async () => {
    const { dir, target, args } = scene("--bwrap");
    await asSomebody(dir, ["build", ...args]);
    await Bun.write(join(target, "exit-code"), "37\n");
    const ran = await asSomebody(dir, ["run", target, "-bw", "--serve", join(dir, "mirror")]);
    expectRootAt(ran, target);
    expect(told(ran, "network")).toEqual([readlinkSync("/proc/self/ns/net")]);
    expect(ran.stderr).toContain("The bootstrap failed: exit code 37: ");
    expect(ran.code).toBe(9);
  },
);

/** Sends a signal to a process of whatever user. */
function killAsRoot(signal: string, pid: number): void {
  const [program, ...args] = asRoot(["kill", `-${signal}`, String(pid)]);
  spawnSync(program!, args);
}

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL"] as const;
let lingering = 0;

/**
 * Starts a bootstrap that stays, in a target that is built, and sends seedstrap a signal.
 *
 * @returns How seedstrap ended, and whether everything that it had started did.
 */
async function endedBy(
  signal: typeof SIGNALS[number],
  target: string,
  mode: "--chroot" | "--bwrap",
  command: readonly string[],
): Promise<{ readonly code: number; readonly stderr: string; readonly isAllGone: boolean }> {
  const word = `lingering-${process.pid}-${++lingering}`;
  await Bun.write(join(target, "linger"), `${word}\n`);
  const child = start([...command, "run", target, mode]);
  const stderr = new Response(child.stderr).text();
  let said = "";
  for await (const chunk of child.stdout) {
    said += new TextDecoder().decode(chunk);
    if (said.includes("lingers now\n")) break;
  }
  // The seed, its child, and its daemon
  expect(pidsWith(word)).toHaveLength(3);
  child.kill(signal);
  const code = await child.exited;
  const isAllGone = await eventually(() => pidsWith(word).length === 0, 10_000);
  for (const pid of pidsWith(word)) killAsRoot("KILL", pid);
  return { code, stderr: await stderr, isAllGone };
}

function expectEnded(
  signal: typeof SIGNALS[number],
  { code, stderr, isAllGone }: Awaited<ReturnType<typeof endedBy>>,
): void {
  expect(isAllGone).toBe(true);
  if (signal === "SIGKILL") return;
  const [starting, ended] = stderr.split("\n");
  expect(starting).toMatch(/^starting by (chroot|bwrap); the log is .*; Ctrl-C ends it$/);
  expect(ended).toBe("seedstrap: Interrupted, the bootstrap was ended");
  expect(code).toBe(130);
}

test.skipIf(chroot !== undefined).each(SIGNALS)(
  "with %s everything that runs in chroot ends, and what is mounted there is unmounted",
  async (signal) => {
    const { dir, target, args } = scene("--chroot", "--external-sources");
    await seedstrap(["build", ...args], { cwd: dir });
    expectEnded(signal, await endedBy(signal, target, "--chroot", [process.execPath, MAIN]));
    expect(mountsBelow(target)).toEqual([]);
  },
);

test.skipIf(chroot !== undefined)("what a bootstrap in chroot leaves ends with it", async () => {
  const { dir, target, args } = scene("--chroot", "--external-sources");
  await seedstrap(["build", ...args], { cwd: dir });
  const word = `lingering-${process.pid}-${++lingering}`;
  await Bun.write(join(target, "linger"), `${word}\n`);
  const child = start([process.execPath, MAIN, "run", target, "--chroot"]);
  const stderr = new Response(child.stderr).text();
  expect(await eventually(() => pidsWith(word).length === 3)).toBe(true);
  // The seed is the one that was there first.
  killAsRoot("SEGV", Math.min(...pidsWith(word)));
  expect(await child.exited).toBe(17);
  expect(await stderr).toContain("The bootstrap failed: killed by SIGSEGV: ");
  expect(await eventually(() => pidsWith(word).length === 0, 10_000)).toBe(true);
});

test.skipIf(bwrap !== undefined).each(SIGNALS)(
  "with %s everything that runs in bwrap ends",
  async (signal) => {
    const { dir, target, args } = scene("--bwrap", "--external-sources");
    await asSomebody(dir, ["build", ...args]);
    const command = binary ?? [process.execPath, MAIN];
    expectEnded(signal, await endedBy(signal, target, "--bwrap", command));
  },
);

/** Builds a target of which the seed stays, and returns what starts it, with our programs in PATH. */
async function heldScene(mode: "--chroot" | "--bwrap") {
  const { dir, target, args } = scene(mode, "--external-sources");
  const build = ["build", ...args];
  await (mode === "--bwrap" ? asSomebody(dir, build) : seedstrap(build, { cwd: dir }));
  const word = `lingering-${process.pid}-${++lingering}`;
  await Bun.write(join(target, "linger"), `${word}\n`);
  const bin = join(dir, "bin");
  mkdirSync(bin);
  const command = (mode === "--bwrap" ? binary : undefined) ?? [process.execPath, MAIN];
  return {
    dir,
    /** Writes a program that does something before it starts the bootstrap, and nothing else. */
    hold(program: string, before: string, ...more: string[]) {
      const real = shellQuote([Bun.which(program)!]);
      const text = `#!/bin/sh\ncase "$*" in *${target}*) ;; *) exec ${real} "$@" ;; esac\n` +
        `${before}\nexec ${[real, ...more].join(" ")} "$@"\n`;
      writeFileSync(join(bin, program), text, { mode: 0o755 });
    },
    run: () =>
      start([...command, "run", target, mode], { env: { PATH: `${bin}:${process.env["PATH"]}` } }),
    /** The seed and its descendants, and what has the target in its command line. */
    running: () => [...pidsWith(word), ...pidsWith(target)],
  };
}

/** Whether all of some processes end; those that do not are killed. */
async function allEnd(pids: () => number[]): Promise<boolean> {
  const isAllGone = await eventually(() => pids().length === 0, 10_000);
  for (const pid of pids()) killAsRoot("KILL", pid);
  return isAllGone;
}

test.skipIf(bwrap !== undefined)(
  "kill -9 ends a bwrap whose first process has not asked yet to die with its parent",
  async () => {
    const { dir, hold, run, running } = await heldScene("--bwrap");
    // It waits for a byte, which never comes.
    hold("bwrap", `mkfifo ${dir}/gate\nexec 9<>${dir}/gate`, "--block-fd", "9");
    const child = run();
    expect(await eventually(() => pidsWith("--block-fd").length === 2)).toBe(true);
    child.kill("SIGKILL");
    await child.exited;
    expect(await allEnd(() => [...running(), ...pidsWith("--block-fd")])).toBe(true);
  },
);

test.each([["--chroot", chroot], ["--bwrap", bwrap]] as const)(
  "a bootstrap with %s ends that starts when seedstrap is gone already",
  async (mode, missing) => {
    if (missing !== undefined) return;
    const { dir, hold, run, running } = await heldScene(mode);
    // As under sudo, which forgets that it is to die with its parent.
    const forget = '[ -n "$HELD" ] || HELD=1 exec setpriv --pdeathsig clear -- "$0" "$@"';
    const wait = `touch ${dir}/held\nwhile ! [ -e ${dir}/gone ]; do sleep 0.02; done`;
    hold("unshare", `${forget}\n${wait}`);
    const child = run();
    expect(await eventually(() => existsSync(join(dir, "held")))).toBe(true);
    child.kill("SIGKILL");
    await child.exited;
    expect(running().length).toBeGreaterThan(0);
    writeFileSync(join(dir, "gone"), "");
    expect(await allEnd(running)).toBe(true);
  },
);

test.skipIf(bwrap !== undefined)(
  "a signal ends seedstrap also while something holds the output of a trial of bwrap",
  async () => {
    const { dir, run } = await heldScene("--bwrap");
    const stays = `#!/bin/sh\nsleep 600 &\necho $! >${dir}/pid\n`;
    writeFileSync(join(dir, "bin/bwrap"), stays, { mode: 0o755 });
    writeFileSync(join(dir, "bin/unshare"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const child = run();
    expect(await eventually(() => /\d\n/.test(readContent(join(dir, "pid"))))).toBe(true);
    child.kill("SIGTERM");
    try {
      expect(await child.exited).toBe(130);
    } finally {
      killAsRoot("KILL", parseInt(readContent(join(dir, "pid"))));
    }
  },
);
