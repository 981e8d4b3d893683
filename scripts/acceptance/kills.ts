// SPDX-License-Identifier: MIT
/**
 * Kills every command that writes, at moments that cover an undisturbed run of it, and checks what
 * that leaves:
 *
 *   - right after, each output is absent, or whole: the one of before, or that of an undisturbed run
 *   - no process and no mount is left
 *   - the same command again succeeds, or refuses because its output is there and whole; then every
 *     file is as after an undisturbed run: in the target, the store, beside the output, in TMPDIR,
 *     XDG_CACHE_HOME and XDG_RUNTIME_DIR
 *
 * SIGTERM and SIGINT leave nothing but whole outputs and what a download goes on from.
 *
 * usage: bun scripts/acceptance/kills.ts SEEDSTRAP DIR [--kills N] [--signals N]
 *          [--only COMMAND]... [--calls]
 *
 * SEEDSTRAP is the binary, DIR a directory to work in. N moments for each command, default 10, and
 * for each of the two signals, default 3; where only the beginning of a longer run is looked at, a
 * fifth of them. --only takes commands with a part of their name in the table. --calls kills at
 * calls that change the file system instead, with strace: slow, but it finds moments that are short.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  cpSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isZero } from "../../src/bytes.ts";
import { lstatIfThere } from "../../src/runtime/stat.ts";
import { readExtents } from "../../src/source/extents.ts";
import { serveSlowly } from "./slow.ts";
import { kernelLike } from "../../tests/support/kernel.ts";

const { values: asked, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: "string", default: "10" },
    signals: { type: "string", default: "3" },
    only: { type: "string", multiple: true },
    calls: { type: "boolean", default: false },
  },
});
const [binary, work] = positionals.map((path) => resolve(path));
if (binary === undefined || work === undefined) {
  process.stderr.write(
    "usage: kills.ts SEEDSTRAP DIR [--kills N] [--signals N] [--only COMMAND]... [--calls]\n",
  );
  process.exit(2);
}

/** Inputs, which no command changes. */
const inputs = join(work, "inputs");
const tree = join(inputs, "tree");
const mirror = join(inputs, "mirror");
/** What one run may write to. It has the same path each time, as records may name it. */
const place = join(work, "place");
const out = join(place, "out");
/** Directories of the environment. */
const ENVIRONMENT = {
  HOME: join(place, "home"),
  TMPDIR: join(place, "tmp"),
  XDG_CACHE_HOME: join(place, "cache"),
  XDG_RUNTIME_DIR: join(place, "run"),
};

/** A command that is killed. */
interface Command {
  readonly name: string;
  readonly args: readonly string[];
  /** What it writes, below the directory it runs in: files, or directories as one. */
  readonly outputs: readonly string[];
  /** Outputs of a target: a record there describes all of them. */
  readonly record?: string;
  /** Brings about what is there before, in the empty directory of outputs. */
  readonly before?: () => void;
  /** The exit code of an undisturbed run, if not 0. */
  readonly code?: number;
  /** Paths of files whose content is another one each time. */
  readonly isUnlike?: RegExp;
  /** What is another one each time in such a path. */
  readonly varies?: RegExp;
  /** Checks what is left under the final names in another way. */
  readonly isWhole?: (before: Snapshot, whole: Snapshot) => boolean;
  readonly needsRoot?: boolean;
  /** What an undisturbed run prints. */
  readonly says?: string;
  /** The part of a run that is looked at, where it is longer. */
  readonly mostMs?: number;
}

const LOCAL = ["--tree", tree, "-m", `file://${mirror}`];
const BUILD = ["build", ...LOCAL, "--external-sources"];
const server = await serveSlowly(mirror);
const REMOTE = ["--tree", tree, "-m", server.url];
await makeInputs();
const IMAGES = ["init.img", "payload.img", "external.img", "disk.img", "sbom.cdx.json"];
const target = (...names: string[]) => ({
  outputs: [...names, "seedstrap.json"].map((name) => `target/${name}`),
  record: "target/seedstrap.json",
});
const RUNS = /(?<=^out\/target\/\.seedstrap\/runs\/)\d+(?=\.(json|log)$)/;

const COMMANDS: readonly Command[] = [
  { name: "build -q", args: [...BUILD, "-q", "-qs", "64M"], ...target(...IMAGES) },
  {
    name: "build -b over another",
    args: [...BUILD, "-b"],
    ...target(...IMAGES),
    before: () => cpSync(join(inputs, "other"), join(out, "target"), { recursive: true }),
  },
  {
    name: "build -b --force without payload",
    args: [...BUILD, "-b", "--payload", "never", "--force"],
    ...target(...IMAGES),
    before: () => cpSync(join(inputs, "other"), join(out, "target"), { recursive: true }),
  },
  {
    name: "build -b, fetching",
    args: ["build", ...REMOTE, "--external-sources", "-b"],
    ...target(...IMAGES),
  },
  { name: "build -c", args: [...BUILD, "-c"], ...target(...rootNames("chroot")) },
  {
    name: "build -c over another",
    args: [...BUILD, "-c"],
    ...target(...rootNames("chroot")),
    before: () => cpSync(join(inputs, "chroot-other"), join(out, "target"), { recursive: true }),
  },
  { name: "build -bw", args: [...BUILD, "-bw"], ...target(...rootNames("bwrap")) },
  {
    name: "build -bw --internal-ci pass2",
    args: [...BUILD, "-bw", "--internal-ci", "pass2"],
    ...target(),
    before() {
      cpSync(join(inputs, "pass1"), join(out, "target"), { recursive: true });
      rmSync(join(out, "target/external/distfiles"), { recursive: true });
    },
    // The record of the first pass stays until that of the second is there.
    isWhole: (before, whole) => isOneOf("target/seedstrap.json", [before, whole]),
  },
  {
    name: "build -q --kernel",
    args: [...BUILD, "-q", "--kernel", join(inputs, "kernel"), "-qs", "2G"],
    ...target(...IMAGES),
  },
  {
    name: "build -q --repo",
    args: [...BUILD, "-q", "--repo", join(inputs, "repo"), "-qs", "64M"],
    ...target(...IMAGES),
  },
  {
    name: "build -c --early-preseed",
    args: [...BUILD, "-c", "--early-preseed", join(inputs, "root.tar")],
    ...target(...rootNames("preseed")),
  },
  {
    name: "bundle create",
    args: ["bundle", "create", ...LOCAL, "-o", "lb.tar"],
    outputs: ["lb.tar"],
  },
  {
    name: "bundle create --split",
    args: ["bundle", "create", ...LOCAL, "--split", "1M", "-o", "lb.tar"],
    outputs: Array.from({ length: 20 }, (_, at) => `lb.tar.${String(at + 1).padStart(3, "0")}`),
  },
  {
    name: "bundle create, fetching",
    args: ["bundle", "create", ...REMOTE, "-o", "lb.tar"],
    outputs: ["lb.tar"],
  },
  {
    name: "bundle unpack",
    args: ["bundle", "unpack", join(inputs, "lb.tar"), "-o", "lb"],
    outputs: ["lb"],
  },
  {
    name: "image extract",
    args: ["image", "extract", join(inputs, "disk.img"), "-o", "files"],
    outputs: ["files"],
  },
  {
    name: "harvest",
    args: ["harvest", join(inputs, "disk.img"), "-o", "packages"],
    outputs: ["packages"],
  },
  {
    name: "write --file",
    args: ["write", join(inputs, "other/payload.img"), "stick", "--file", "--yes", "stick"],
    outputs: ["stick"],
    before: () => writeFileSync(join(out, "stick"), new Uint8Array(STICK_BYTES).fill(0x5a)),
    isWhole(before, whole) {
      if (isOneOf("stick", [before, whole])) return true;
      // Without its first block nothing boots.
      return isZero(readFileSync(join(out, "stick")).subarray(0, 4096));
    },
  },
  {
    name: "preflight --bare-metal",
    args: ["preflight", "--bare-metal", join(inputs, "other"), "-o", "preflight.img"],
    outputs: ["preflight.img"],
  },
  {
    name: "reproduce --keep",
    args: [
      ...["reproduce", join(inputs, "other/seedstrap.json"), ...LOCAL],
      ...["--keep", "--target", "."],
    ],
    outputs: [],
    varies: /(?<=^out\/seedstrap-reproduce-)\w{6}(?=\/|$)/,
    isWhole: () =>
      readdirSync(out).filter((name) => /^seedstrap-reproduce-\w{6}$/.test(name))
        .every((name) => lstatIfThere(join(out, name, "seedstrap.json")) !== undefined),
  },
  {
    name: "demo --keep",
    args: ["demo", "--keep", "demo"],
    outputs: ["demo"],
    isUnlike: /^out\/demo\/(target|distfiles)\//,
    mostMs: 800,
  },
  {
    name: "preflight --qemu",
    args: ["preflight", "--qemu", "-qr", "64", "--no-memory-test"],
    outputs: [],
    code: 10,
    mostMs: 1000,
  },
  {
    name: "run -q",
    args: ["run", "--accel", "tcg"],
    outputs: [],
    before: () => cpSync(join(inputs, "qemu"), join(out, "target"), { recursive: true }),
    code: 9,
    says: "preflight: verdict",
    varies: RUNS,
    isWhole: areRunsTold,
    mostMs: 1000,
  },
  ...(["chroot", "bwrap"] as const).map((mode): Command => ({
    name: `run, ${mode}`,
    args: ["run", `--${mode}`],
    outputs: [],
    before: () => cpSync(join(inputs, mode), join(out, "target"), { recursive: true }),
    code: 9,
    says: "at work",
    varies: RUNS,
    isWhole: areRunsTold,
    needsRoot: mode === "chroot",
  })),
];

const STICK_BYTES = 12 * 1024 * 1024;
const BLOCK_BYTES = 64 * 1024;
/** So many moments fewer for a command of which only the beginning is looked at. */
const SLOW_SHARE = 5;

/** A kind of end. */
type End = "SIGKILL" | "SIGTERM" | "SIGINT";

/** Whether the record of each run that has begun says how it ended, or that nothing is known. */
function areRunsTold(): boolean {
  const runs = join(out, "target/.seedstrap/runs");
  if (lstatIfThere(runs) === undefined) return true;
  return readdirSync(runs).filter((name) => name.endsWith(".json")).every((name) =>
    /"verdict": "(failed|interrupted|unknown|running)"/.test(
      readFileSync(join(runs, name), "utf8"),
    )
  );
}

/** Every file below the place, by path: type, mode, and digest of the content. */
type Snapshot = ReadonlyMap<string, string>;

/** Counts for a line of the table. */
interface Count {
  moments: number;
  inside: number;
  torn: number;
  stuck: number;
  left: number;
}

/** Kills one command at all moments, prints its line of the table, and returns the faults. */
async function disturb(command: Command): Promise<number> {
  prepare(command);
  const before = snapshot(command);
  await start(command).ended;
  prepare(command);
  const began = performance.now();
  const first = await start(command).ended;
  const wholeMs = performance.now() - began;
  const expected = command.code ?? 0;
  if (first.code !== expected || !first.said.includes(command.says ?? "")) {
    console.log(`${command.name}: cannot be run: exit code ${first.code}\n${first.said}`);
    return 1;
  }
  const whole = snapshot(command);
  const count: Count = { moments: 0, inside: 0, torn: 0, stuck: 0, left: 0 };
  for (const path of temporary(whole, false)) tell(command, count, "left", `undisturbed: ${path}`);
  const spanMs = Math.min(wholeMs, command.mostMs ?? Infinity);
  const states = { command, before, whole, count };
  if (asked.calls) await atEachCall(states);
  else {
    for (const end of ["SIGKILL", "SIGTERM", "SIGINT"] as const) {
      const some = Number(end === "SIGKILL" ? asked.kills : asked.signals);
      const moments = Math.ceil(command.mostMs === undefined ? some : some / SLOW_SHARE);
      for (let at = 0; at < moments; at++) {
        const afterMs = (at + Math.random()) / moments * spanMs;
        const isGroup = at % 3 === 2;
        prepare(command);
        const run = start(command);
        await sleep(afterMs);
        if (!run.isOver()) run.kill(end, isGroup);
        const said = `${end}${isGroup ? " to the group" : ""} after ${afterMs.toFixed(1)} ms`;
        await judge(states, end, await run.ended, said);
      }
    }
  }
  console.log(
    [
      command.name,
      Math.round(spanMs),
      count.moments,
      count.inside,
      count.torn,
      count.stuck,
      count.left,
    ].join(" | "),
  );
  return count.torn + count.stuck + count.left;
}

/** What is known of a command. */
interface States {
  readonly command: Command;
  readonly before: Snapshot;
  readonly whole: Snapshot;
  readonly count: Count;
}

/** Calls that change the file system. */
const CALLS = [
  ...["rename", "mkdir", "unlink", "unlinkat", "rmdir", "link", "symlink", "chmod", "fchmod"],
  ...["openat", "write", "pwrite64", "ftruncate", "fsync", "copy_file_range", "clone3", "vfork"],
];

/** Kills a command at the first, the second, … call of each kind, until it is over before that. */
async function atEachCall(states: States): Promise<void> {
  const { command } = states;
  for (const call of CALLS) {
    let misses = 0;
    // The counts of strace are those of one thread: a kind that only helpers use has gaps.
    for (let nth = 1; misses < 2; nth += 1 + Math.floor(nth / 16)) {
      prepare(command);
      const inject = `inject=${call}:signal=KILL:when=${nth}`;
      const quiet = ["-qqq", "-o", "/dev/null"];
      const run = start(command, ["strace", "-f", "--seccomp-bpf", ...quiet, "-e", inject]);
      const end = await run.ended;
      if (end.signal === null && end.code === (command.code ?? 0)) misses++;
      await judge(states, "SIGKILL", end, `SIGKILL at ${call} ${nth}`);
    }
  }
}

/** Checks what an end has left, and runs the command again. */
async function judge(
  { command, before, whole, count }: States,
  end: End,
  { code, signal, said: output }: Ended,
  said: string,
): Promise<void> {
  count.moments++;
  const isOver = signal === null && code === (command.code ?? 0);
  if (!isOver) count.inside++;
  // Before its handlers are there, a signal ends it by itself. strace may kill a child of it only.
  const isRight = isOver || signal === end || (end !== "SIGKILL" && code === 130) || asked.calls;
  if (!isRight) tell(command, count, "stuck", `${said}: exit code ${code}\n${output}`);
  for (const stray of await strays()) tell(command, count, "left", `${said}: ${stray}`);
  const now = snapshot(command);
  for (const path of tornIn(command, now, before, whole)) {
    tell(command, count, "torn", `${said}: ${path}`);
  }
  if (end !== "SIGKILL") {
    for (const path of temporary(now, true)) tell(command, count, "left", `${said}: ${path}`);
  }
  const again = await start(command).ended;
  const isThere = again.code === 7 && command.outputs.length > 0 &&
    command.outputs.every((path) => isOneOf(path, [whole], command));
  if (again.code !== (command.code ?? 0) && !isThere) {
    tell(command, count, "stuck", `${said}: again: exit code ${again.code}\n${again.said}`);
    return;
  }
  for (const stray of await strays()) tell(command, count, "left", `${said}: again: ${stray}`);
  const after = snapshot(command);
  for (const line of differences(after, whole)) {
    tell(command, count, "left", `${said}: again: ${line}`);
  }
}

function tell(command: Command, count: Count, what: "torn" | "stuck" | "left", text: string): void {
  count[what]++;
  console.log(`  ${command.name}: ${what}: ${text.trimEnd().replaceAll("\n", "\n    ")}`);
}

/** Empties the place, and brings about what is there before a command. */
function prepare({ before }: Command): void {
  rmSync(place, { recursive: true, force: true });
  for (const dir of [out, ...Object.values(ENVIRONMENT)]) mkdirSync(dir, { recursive: true });
  before?.();
}

/** How a run ended, and what it printed. */
interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly said: string;
}

interface Run {
  readonly ended: Promise<Ended>;
  isOver(): boolean;
  kill(end: End, isGroup: boolean): void;
}

/** Starts a command in a process group of its own, without a shell between. */
function start({ args }: Pick<Command, "args">, prefix: readonly string[] = []): Run {
  return launch([...prefix, binary!, ...args], { PATH: process.env["PATH"], ...ENVIRONMENT });
}

function launch([program, ...rest]: readonly string[], env: NodeJS.ProcessEnv): Run {
  const child: ChildProcess = spawn(program!, rest, {
    cwd: out,
    env: { ...env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Uint8Array) => said += new TextDecoder().decode(chunk));
  }
  const ended = new Promise<Ended>((settle, reject) => {
    child.on("error", reject);
    // Not "close": what holds its pipes is looked for.
    child.on("exit", (code, signal) => settle({ code, signal, said }));
  });
  return {
    ended,
    isOver: () => child.exitCode !== null || child.signalCode !== null,
    kill(end, isGroup) {
      try {
        process.kill(isGroup ? -child.pid! : child.pid!, end);
      } catch {
        // It has just ended.
      }
    },
  };
}

/** Processes and mounts that are still there; a process that is about to end gets some time. */
async function strays(): Promise<string[]> {
  const mounts = () =>
    readFileSync("/proc/self/mountinfo", "utf8").split("\n")
      .filter((line) => line.includes(`${place}/`)).map((line) => `mount ${line}`);
  for (let round = 0;; round++) {
    const found = [...processes(), ...mounts()];
    if (found.length === 0 || round === 100) return found;
    await sleep(20);
  }
}

/** Processes that were started from the place, or are in it. */
function processes(): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    const read = (name: string, link: boolean) => {
      try {
        const path = `/proc/${pid}/${name}`;
        return link ? readlinkSync(path) : readFileSync(path, "utf8");
      } catch {
        return "";
      }
    };
    const command = read("cmdline", false);
    if (command === "" || Number(pid) === process.pid) return [];
    const places = [read("environ", false), command, read("cwd", true), read("root", true)];
    if (!places.some((text) => text.includes(`${place}/`))) return [];
    return [`process ${pid} ${command.replaceAll("\0", " ")}`];
  });
}

/** Takes every file of the place. */
function snapshot({ varies, isUnlike }: Pick<Command, "varies" | "isUnlike">): Snapshot {
  const found = new Map<string, string>();
  const visit = (path: string) => {
    const full = join(place, path);
    const stat = lstatSync(full);
    const name = varies === undefined ? path : path.replace(varies, "*");
    const isAny = name !== path || isUnlike?.test(path) === true;
    const mode = (stat.mode & 0o7777).toString(8);
    if (stat.isDirectory()) {
      found.set(name, `directory ${mode}`);
      for (const inner of readdirSync(full).sort()) visit(join(path, inner));
    } else if (stat.isSymbolicLink()) found.set(name, `link ${readlinkSync(full)}`);
    else if (!stat.isFile()) found.set(name, "special");
    else found.set(name, `file ${mode} ${isAny ? "" : digestOf(full, stat.size)}`);
  };
  for (const name of readdirSync(place).sort()) visit(name);
  return found;
}

/** SHA-256 of the size of a file and of its blocks that are not zeros, with their places. */
function digestOf(path: string, sizeBytes: number): string {
  const hash = createHash("sha256").update(`${sizeBytes}\n`);
  const file = openSync(path, "r");
  const block = new Uint8Array(BLOCK_BYTES);
  let next = 0;
  for (const extent of readExtents(path, sizeBytes)) {
    const end = extent.offsetBytes + extent.sizeBytes;
    const first = extent.offsetBytes - extent.offsetBytes % BLOCK_BYTES;
    for (let at = Math.max(first, next); at < end; at += BLOCK_BYTES) {
      const bytes = block.subarray(0, readSync(file, block, 0, BLOCK_BYTES, at));
      if (!isZero(bytes)) hash.update(`${at}\n`).update(bytes);
      next = at + BLOCK_BYTES;
    }
  }
  closeSync(file);
  return hash.digest("hex");
}

/** The entries of a snapshot at and below a path, as one text. */
function stateOf(path: string, states: Snapshot): string {
  return [...states].filter(([name]) => name === path || name.startsWith(`${path}/`))
    .map((entry) => entry.join(" ")).join("\n");
}

/** Whether an output is, on disk, as in one of some states; absent in a state counts as well. */
function isOneOf(
  output: string,
  states: readonly Snapshot[],
  options: Parameters<typeof snapshot>[0] = {},
): boolean {
  const now = stateOf(`out/${output}`, snapshot(options));
  return states.some((state) => stateOf(`out/${output}`, state) === now);
}

/** Outputs that are neither absent nor whole, and records that do not describe what is there. */
function tornIn(
  { outputs, record, isWhole }: Command,
  now: Snapshot,
  before: Snapshot,
  whole: Snapshot,
): string[] {
  if (isWhole !== undefined) return isWhole(before, whole) ? [] : ["its output"];
  const isAs = (path: string, state: Snapshot) =>
    stateOf(`out/${path}`, now) === stateOf(`out/${path}`, state);
  const torn = outputs.filter((path) =>
    stateOf(`out/${path}`, now) !== "" && !isAs(path, before) && !isAs(path, whole)
  );
  if (record !== undefined && now.has(`out/${record}`)) {
    const state = isAs(record, whole) ? whole : before;
    torn.push(
      ...outputs.filter((path) => !isAs(path, state)).map((path) => `${path}, beside a record`),
    );
  }
  return torn;
}

/**
 * What is there for a time only.
 *
 * @param hasParts Whether downloads may be there that the next run goes on with.
 */
function temporary(states: Snapshot, hasParts: boolean): string[] {
  return [...states.keys()].filter((path) => {
    if (/^(tmp|run|home)\//.test(path)) return true;
    if (hasParts && /^cache\/seedstrap\/distfiles\/(\.origins\/)?[^/]+\.part$/.test(path)) {
      return false;
    }
    return /(^|\/)(\.locks|\.seedstrap\/(lock|parts|scratch))(\/|$)/.test(path) ||
      /\.part(-|$)/.test(path) || /seedstrap-\w+-\d+-\d+-/.test(path);
  });
}

function differences(now: Snapshot, whole: Snapshot): string[] {
  return [
    ...[...now].filter(([path, state]) => whole.get(path) !== state)
      .map(([path, state]) => `${path} is ${state}, not ${whole.get(path) ?? "absent"}`),
    ...[...whole.keys()].filter((path) => !now.has(path)).map((path) => `${path} is missing`),
  ];
}

/** The names at the top of a root, which are its outputs. */
function rootNames(name: string): string[] {
  return readdirSync(join(inputs, name))
    .filter((inner) => inner !== ".seedstrap" && inner !== "seedstrap.json");
}

/** Makes what the commands need. */
async function makeInputs(): Promise<void> {
  mkdirSync(inputs, { recursive: true });
  for (const dir of [out, ...Object.values(ENVIRONMENT)]) mkdirSync(dir, { recursive: true });
  await must(binary!, "demo", "--keep", join(inputs, "demo"));
  cpSync(join(inputs, "demo/tree"), tree, { recursive: true });
  cpSync(join(inputs, "demo/mirror"), mirror, { recursive: true });
  for (let at = 1; at <= 6; at++) {
    const name = `large-${at}.0.bin`;
    const bytes = keyStream(name, at * 150_000);
    writeFileSync(join(mirror, name), bytes);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const line = `f https://mirror.example/${name} ${sha256}\n`;
    appendFileSync(join(tree, "steps/words-1.0/sources"), line);
  }
  const seed = join(tree, "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed");
  mkdirSync(dirname(seed), { recursive: true });
  const source = fileURLToPath(new URL("lingers.c", import.meta.url).href);
  await must("cc", "-static", "-O1", "-o", seed, source);
  chmodSync(seed, 0o755);
  writeFileSync(join(inputs, "kernel"), kernelLike());
  writeFileSync(join(tree, "seed/preseeded.kaem"), "go on\n");
  mkdirSync(join(inputs, "root/external/repo/notes"), { recursive: true });
  for (const name of ["one_0.tar.bz2", "two_0.tar.bz2", "notes/three"]) {
    writeFileSync(join(inputs, "root/external/repo", name), keyStream(name, 1_500_000));
  }
  chmodSync(join(inputs, "root/external/repo/notes"), 0o555);
  cpSync(join(inputs, "root/external/repo"), join(inputs, "repo"), { recursive: true });
  await must(
    "mke2fs",
    "-q",
    "-t",
    "ext3",
    "-d",
    join(inputs, "root"),
    join(inputs, "disk.img"),
    "16M",
  );
  mkdirSync(join(inputs, "early/usr/bin"), { recursive: true });
  writeFileSync(join(inputs, "early/usr/bin/tool"), keyStream("tool", 500_000));
  cpSync(join(tree, "seed/stage0-posix/bootstrap-seeds"), join(inputs, "early/bootstrap-seeds"), {
    recursive: true,
  });
  await must("tar", "-cf", join(inputs, "root.tar"), "-C", join(inputs, "early"), ".");
  const make = async (name: string, ...args: string[]) => {
    await must(binary!, ...args, "-t", join(inputs, name), "--distfiles", join(work!, "store"));
    rmSync(join(work!, "store"), { recursive: true, force: true });
  };
  await make("other", ...BUILD, "-b", "--cores", "3");
  // From a server: a run then has no directory to serve, on a port that others may have.
  const remote = ["build", ...REMOTE, "--external-sources"];
  await make("qemu", ...remote, "-q", "-qs", "64M", "-qr", "64", "--force");
  await make("chroot", ...remote, "-c");
  await make("chroot-other", ...BUILD, "-c", "--cores", "3");
  await make("bwrap", ...remote, "-bw");
  await make("pass1", ...BUILD, "-bw", "--internal-ci", "pass1");
  await make("preseed", ...BUILD, "-c", "--early-preseed", join(inputs, "root.tar"));
  await must(binary!, "bundle", "create", ...LOCAL, "-o", join(inputs, "lb.tar"));
}

async function must(program: string, ...args: string[]): Promise<void> {
  // Not spawnSync(): our server has to answer.
  const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;
  const { code, said } = await launch([program, ...args], { ...ENVIRONMENT, PATH }).ended;
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: exit code ${code}\n${said}`);
}

function keyStream(name: string, sizeBytes: number): Uint8Array {
  const key = createHash("sha256").update(name).digest();
  return createCipheriv("aes-256-ctr", key, new Uint8Array(16)).update(new Uint8Array(sizeBytes));
}

console.log("command | span ms | moments | killed inside | torn | stuck | left");
let faults = 0;
for (const command of COMMANDS) {
  if (asked.only?.some((part) => command.name.includes(part)) === false) continue;
  if (command.needsRoot && process.getuid?.() !== 0) {
    console.log(`skipped: ${command.name}: it needs root`);
    continue;
  }
  faults += await disturb(command);
}
server.stop();
process.exit(faults === 0 ? 0 : 1);
