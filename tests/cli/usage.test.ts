// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pkg from "../../package.json" with { type: "json" };
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { writeMiniTree } from "../support/tree.ts";
import { setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const args = setUp(dir);

test.each([
  [["--frobnicate"], "unknown option '--frobnicate'"],
  [["plan", "--qemu", "--bare-metal"], "Cannot use --qemu and --bare-metal together"],
  [["plan"], "Cannot go on without a mode"],
  [["build"], "Cannot go on without a mode"],
  [[], "Cannot go on without a mode"],
  [["plan", "--qemu", "extra"], "too many arguments"],
  [["plan", "-q", "../mirror"], "hint: A mirror is named with -m, a checkout with --tree"],
  [["-q", "../mirror"], "too many arguments. Expected 0 arguments but got 1: ../mirror."],
  [["build", "--tmpfs"], "hint: It is an option of the default command (seedstrap -q …)"],
  [["sources", "--jobs", "4"], "the default command (seedstrap -q …), seedstrap build, "],
  [["version"], "hint: Did you mean seedstrap --version?"],
  [["plan", "--qemu", "--qemu-ram", "12x"], 'Cannot use "12x" for --qemu-ram'],
  [["plan", "-q", "-qr0"], 'Cannot use "0" for --qemu-ram'],
  [["plan", "-q", "-qs=-1"], 'Cannot use "-1" for --target-size'],
  [["plan", "-q", "-s", "x"], 'Cannot use "x" for --swap'],
  [["plan", "-q", "--cores", "0"], 'Cannot use "0" for --cores'],
  [["plan", "-q", "--arch", "x86;reboot"], 'Cannot use "x86;reboot" for --arch'],
  [["plan", "-q", "--internal-ci", "a b"], 'Cannot use "a b" for --internal-ci'],
  [["plan", "-q", "-m", "nowhere"], 'Cannot use mirror "nowhere"'],
  [["plan", "-q", "--payload", "maybe"], "Allowed choices are auto, always, never"],
  [["plan", "-q", "--payload-layout", "16"], "Allowed choices are auto, 64, 32"],
  [["run", "--accel", "magic"], "Allowed choices are auto, kvm, hvf, tcg"],
  [["image", "frob"], "unknown command 'frob'"],
  [["image", "ls"], "missing required argument 'image'"],
])("%j is refused with exit code 2", async (argv, message) => {
  const ran = await seedstrap(argv, { cwd: dir });
  expect(ran.stderr).toContain(message);
  expect(ran).toMatchObject({ code: 2, stdout: "" });
});

test.each([
  ["-c --kernel k", "Cannot use --kernel with --chroot", "The running kernel is used"],
  ["-bw -qk=k", "Cannot use --kernel with --bwrap", "The running kernel is used"],
  ["-bw --tmpfs", "Cannot use --tmpfs with --bwrap", "use --chroot"],
  ["-b --tmpfs", "Cannot use --tmpfs with --bare-metal", "The images would be lost"],
  ["-c --tmpfs --tmpfs-size 8X", 'Cannot use "8X" for --tmpfs-size', "8G, 512m or 50%"],
  ["-q -c", "Cannot use --qemu and --chroot together", "Choose one"],
  ["-c --disk sdb", "Cannot use --disk with --chroot", "boot builder-hex0"],
  ["-q -qk k --overwrite-disk", "Cannot use --overwrite-disk with --kernel", "boot builder-hex0"],
  ["-b --disk nvme0n1", 'Cannot use "nvme0n1" for --disk', "nvme0n1p2"],
  ["-b --disk ../sda", 'Cannot use "../sda" for --disk', "a whole disk such as sda"],
  ["-q --cores 0", 'Cannot use "0" for --cores', "a whole number from 1"],
  ["-q --internal-ci pass4", 'Cannot use "pass4" for --internal-ci', "pass1, pass2, pass3"],
  ["-q --kernel /nowhere/k", "Cannot use /nowhere/k for --kernel", "bzImage"],
  ["-q --repo /nowhere", "Cannot use /nowhere for --repo: there is no such", "as harvest leaves"],
  ["-q --qemu-r 0", 'Cannot use "0" for --qemu-ram', "512, 512M, 4G or 1T"],
  ["build -b --yes sda", "Cannot use --yes: no device is given", "Name a --boot-device"],
  ["build -b --no-verify", "Cannot use --no-verify: no device is given", "Name a --boot-device"],
  ["-b -t tree/steps/x", "as target: steps/ is a source of the build", "Name another --target"],
  ["-b -t tree/seed", "as target: seed/ is a source of the build", "Name another --target"],
  ["plan -b -t tree/seed", "seed/ is a source of the build", "Name another --target"],
  ["-b -t tree", "as target: it is the checkout", "Name another --target"],
  ["-b -t tree/lib", "as target: lib/ is a directory of the checkout", "Name another --target"],
  ["-b -t tree/distfiles/x", "distfiles/ holds distfiles", "Name another --target"],
  ["-b -t /etc", "as target: /etc is a directory of the system", "Name another --target"],
  ["-b -t /usr/lib/x", "/usr/lib/x is a directory of the system", "Name another --target"],
  ["-b -t /", "as target: / is a directory of the system", "Name another --target"],
  ["-q --kernel /bin/sh", 'it is no bzImage: "HdrS" is not at offset 514', "arch/x86/boot/bzImage"],
  ["-q -a i686", "--arch i686 with --qemu: builder-hex0 boots x86 only", "Use --chroot"],
  ["-b -m file:///nowhere/m", "mirror file:///nowhere/m: there is no such directory", "Name a dir"],
  ["-b -m file:///dev/null", "mirror file:///dev/null: it is not a directory", "Name a directory"],
  ["-q --tar x", "Cannot use --tar: it is ambiguous", "It could be --target or --target-size"],
])("%s is refused before anything happens, with what to do instead", async (args, why, remedy) => {
  const cwd = temp.make();
  const { tree } = writeMiniTree(cwd);
  const ran = await seedstrap([...args.split(" "), "--tree", tree], { cwd });
  expect(ran.stderr).toContain(why);
  expect(ran.stderr).toContain(remedy);
  expect([2, 3]).toContain(ran.code);
  expect(readdirSync(cwd).sort()).toEqual(["mirror", "tree"]);
  expect(readdirSync(join(tree, "steps"))).not.toContain("x");
});

test.each([
  ["-q", 'Cannot run "qemu-system-x86_64": not found in PATH'],
  ["-q -qc ./q", 'Cannot run "./q": no such executable file'],
  ["-bw", "Cannot find bwrap"],
  ["-c --tmpfs", 'Cannot run "env": not found in PATH'],
])("with %s a missing program is reported before anything is built", async (mode, why) => {
  const cwd = temp.make();
  const { tree } = writeMiniTree(cwd);
  const env = { PATH: join(cwd, "nowhere") };
  const ran = await seedstrap([...mode.split(" "), "--tree", tree], { cwd, env });
  expect(ran).toMatchObject({ code: 9, stdout: "" });
  expect(ran.stderr).toContain(nobody(mode) ? 'Cannot run "sudo"' : why);
  expect(readdirSync(cwd).sort()).toEqual(["mirror", "tree"]);
});

/** Reports whether a mode needs root to start, and we are not root. */
function nobody(mode: string): boolean {
  return mode.startsWith("-c") && process.getuid?.() !== 0;
}

test("--version and --help end with 0 on standard output", async () => {
  expect(await seedstrap(["--version"])).toEqual({
    code: 0,
    stdout: `${pkg.version}\n`,
    stderr: "",
  });
  const help = await seedstrap(["--help"]);
  expect(help.stdout).toContain("Usage: seedstrap COMMAND");
  expect(help).toMatchObject({ code: 0, stderr: "" });
  const lines = help.stdout.trimEnd().split("\n");
  expect(lines.length).toBeLessThanOrEqual(24);
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
  // The help is written by hand: it names every command that there is.
  const text = readFileSync("src/cli/main.ts", "utf8");
  const commands = [...text.matchAll(/addCommand\((\w+?)(?:Subcommand|Command)\(\)\)/g)];
  expect(commands.length).toBeGreaterThanOrEqual(20);
  for (const [, name] of commands) expect(help.stdout).toMatch(new RegExp(`\\b${name}\\b`));
  expect((await seedstrap(["build", "--help"])).stdout).toContain("--external-sources");
});

test("--help after an option of the default command is its help, else that of the program", async () => {
  for (const words of [["-q", "--help"], ["--tmpfs", "-h"], ["bootstrap", "--help"]]) {
    const { code, stdout } = await seedstrap(words);
    expect(stdout).toStartWith("Usage: seedstrap [options] [-- arguments of QEMU...]\n");
    for (const option of ["--tmpfs ", "--tmpfs-size ", "--accel ", "--tree "]) {
      expect(stdout).toContain(`  ${option}`);
    }
    expect(code).toBe(0);
  }
  for (const words of [["--help"], ["-h"], ["--help", "-q"]]) {
    const { stdout } = await seedstrap(words);
    expect(stdout).toStartWith("Usage: seedstrap COMMAND");
    expect(stdout).toContain("seedstrap -q --help");
  }
  expect((await seedstrap(["plan", "-q", "--help"])).stdout).toStartWith("Usage: seedstrap plan ");
});

test("-qr and -qs reach the plan in every spelling", async () => {
  for (const size of [["-qr4097"], ["-qr", "4097"], ["-qr=4097"], ["--qemu-ram=4097"]]) {
    const ran = await seedstrap(["plan", "-q", "-qs64M", ...size, ...args, "--json"]);
    expect(JSON.parse(ran.stdout).options).toMatchObject({ qemuRamMib: 4097, targetSizeMib: 64 });
  }
});

test("an empty value asks for no kernel, packages, archive or pass, and a value may follow =", async () => {
  const none = ["--kernel", "", "-r", "", "--early-preseed=", "--internal-ci", ""];
  const ran = await seedstrap([
    "plan",
    "-q",
    "-qs=64M",
    "-s=2g",
    "-r",
    "x",
    ...none,
    "--json",
    ...args,
  ]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  const { images, options } = JSON.parse(ran.stdout);
  expect(images).toEqual(["init.img"]);
  expect(options).toMatchObject({ hasRepo: false, hasPreseed: false, swapMib: 2048 });
});

test("every kind of failure has its exit code", async () => {
  const other = temp.make();
  const tree = await seedstrap(["plan", "-q", "--tree", other]);
  expect(tree.code).toBe(3);
  expect(tree.stderr).toContain("Cannot find a live-bootstrap checkout");
  expect(tree.stderr).toContain(
    "git clone --recursive https://github.com/fosslinux/live-bootstrap",
  );
  expect(tree.stderr).toContain(`  at ${join(other, "steps/manifest")}`);

  mkdirSync(join(other, "mirror"));
  const fetch = await seedstrap([
    ...["build", "-b", "-t", join(other, "new/t"), "--tree", join(dir, "tree")],
    ...["-m", `file://${other}/mirror`, "--distfiles", join(other, "store")],
  ]);
  expect(fetch.code).toBe(4);
  // Nothing was written, so there is no empty target either.
  expect(readdirSync(other)).not.toContain("new");

  writeFileSync(join(other, "x.img"), "nothing");
  expect((await seedstrap(["image", "ls", join(other, "x.img")])).code).toBe(6);
  expect((await seedstrap(["image", "ls", join(other, "none")])).code).toBe(7);
  expect((await seedstrap(["run", other])).code).toBe(7);

  const limit = await seedstrap(["plan", "-q", "-qs64", "-qr100", ...args]);
  expect(limit.code).toBe(8);
  expect(limit.stderr).toContain(
    "memory that builder-hex0 needs: 100 MiB, the minimum is 4,096 MiB",
  );
  expect(limit.stdout).toContain("BROKEN");
  const forced = await seedstrap(["plan", "-q", "-qs64", "-qr100", "--force", ...args]);
  expect(forced.code).toBe(0);
});

test("the checkout is found in the current directory", async () => {
  const ran = await seedstrap(["plan", "-q", "-qs64"], { cwd: join(dir, "tree") });
  expect(ran.code).toBe(0);
  expect(ran.stdout).toContain("5 in the boot image");
});

test("sources prints the lines of source_manifest.py, each once", async () => {
  const ran = await seedstrap(["sources", "--tree", join(dir, "tree")]);
  const lines = ran.stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(6);
  expect(lines[0]).toMatch(
    /^[0-9a-f]{64} distfiles http:\/\/127\.0\.0\.1:9\/alpha-1\.0\.tar\.gz alpha-1\.0\.tar\.gz$/,
  );
  const some = await seedstrap(["sources", "--pre-network", "--tree", join(dir, "tree")]);
  expect(some.stdout.trimEnd().split("\n")).toEqual(lines.slice(0, 5));
  const both = await seedstrap(["sources", "--all", "--pre-network", "--tree", join(dir, "tree")]);
  expect(both).toMatchObject({ code: 2, stdout: "" });
});

test("sources --json has steps, passes and phases", async () => {
  const ran = await seedstrap(["sources", "--json", "--tree", join(dir, "tree")]);
  const { sources } = JSON.parse(ran.stdout);
  expect(sources[0]).toMatchObject({
    name: "alpha-1.0.tar.gz",
    alternatives: ["http://127.0.0.1:9/alpha-1.0.tar.gz"],
    git: [],
    phase: "boot",
    steps: [{ step: "alpha-1.0", pass: 1, manifestLine: 4 }, { step: "alpha-1.0", pass: 2 }],
  });
  expect(sources.map(({ phase }: { phase: string }) => phase)).toEqual([
    "boot",
    "boot",
    "fiwix",
    "fiwix",
    "fiwix",
    "network",
  ]);
});

test("plan --json has what the text has, and writes nothing", async () => {
  const target = join(dir, "never");
  const ran = await seedstrap([
    ...["plan", "-q", "-qs64", "--external-sources", "-t", target, "--json"],
    ...args,
  ]);
  const plan = JSON.parse(ran.stdout);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(Object.keys(plan)).toEqual(expect.arrayContaining(["distfiles", "entries", "limits"]));
  expect(plan.images).toEqual(["init.img", "payload.img"]);
  expect(plan.command.slice(0, 3)).toEqual(["qemu-system-x86_64", "-m", "4096M"]);
  expect(plan.command.join(" ")).toContain(`file=${target}/init.img,format=raw`);
  expect(await Bun.file(target).exists()).toBe(false);
  const bare = await seedstrap(["plan", "-b", "--json", ...args]);
  expect(JSON.parse(bare.stdout).command).toBeNull();
});

test("nothing is coloured without a terminal, nor with NO_COLOR", async () => {
  for (const env of [{}, { NO_COLOR: "1" }]) {
    const ran = await seedstrap(["plan", "-q", "-qs64", "-qr100", ...args], { env });
    expect(ran.stdout + ran.stderr).not.toContain("\x1b");
  }
});

/** C0 but for LF, DEL, C1, and what changes the order of text. */
const UNFIT = /[^\P{Cc}\n]|[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

test("names in a checkout cannot drive a terminal", async () => {
  const step = "a\u202e\u2066\u200b";
  const manifest = `build: ${step}\n`;
  const sources = `f http://127.0.0.1:9/x ${"0".repeat(64)}\n`;
  const bad = temp.make();
  setUp(bad, {
    files: {
      "steps/manifest": manifest,
      [`steps/${step}/sources`]: sources,
      [`steps/${step}/pass1.kaem`]: "exec x\n",
      "seed/\x1b[31m\x9b1m": "",
    },
  });
  const tree = ["--tree", join(bad, "tree")];
  for (const json of [[], ["--json"]]) {
    const ran = await seedstrap(["plan", "-b", ...tree, ...json]);
    expect(ran.code).toBe(0);
    expect(ran.stdout + ran.stderr).not.toMatch(UNFIT);
  }
  writeFileSync(join(bad, `tree/steps/${step}/sources`), "x\n");
  const ran = await seedstrap(["plan", "-b", ...tree]);
  expect(ran.code).toBe(3);
  expect(ran.stderr).not.toMatch(UNFIT);
  writeFileSync(join(bad, "tree/steps/manifest"), "build: alpha-1.0\nbuild: a\x1b[31m\n");
  const refused = await seedstrap(["plan", "-b", ...tree]);
  expect(refused.code).toBe(3);
  expect(refused.stderr).toContain("the control character U+001B is part of");
  expect(refused.stderr).toContain("steps/manifest:2");
});

test("plan warns of a mirror that has nothing, in a line and in --json", async () => {
  const cwd = temp.make();
  const { tree } = writeMiniTree(cwd);
  const args = ["plan", "-q", "--tree", tree, "--distfiles", join(cwd, "store")];
  // Nothing listens on port 9.
  const dead = "http://127.0.0.1:9";
  const warning = `mirror ${dead}: connection refused`;
  const text = await seedstrap([...args, "-m", dead], { cwd });
  expect(text.stdout.split("\n").filter((line) => line.includes("refused"))).toEqual([
    `warning: ${warning}`,
  ]);
  const json = await seedstrap([...args, "-m", dead, "--json"], { cwd });
  expect(JSON.parse(json.stdout).warnings[0]).toBe(warning);
  const offline = await seedstrap([...args, "-m", dead, "--json", "--offline"], { cwd });
  expect(offline.stdout).not.toContain("refused");
});
