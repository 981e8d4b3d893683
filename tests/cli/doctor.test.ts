// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { HostCheck } from "../../src/doctor/check.ts";
import { shellQuote } from "../../src/launch/process.ts";
import { script } from "../launch/guest.ts";
import { TempDirs } from "../support/files.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { MAIN, type Ran, run, seedstrap, testWith } from "../support/run.ts";
import { SCREEN, seenAtTerminal, testAtTerminal } from "../support/terminal.ts";
import { setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

/** What a doctor says with `--json`. */
interface Said {
  readonly modes: readonly { readonly mode: string; readonly isReady: boolean }[];
  readonly checks: readonly HostCheck[];
  readonly error?: { readonly code: number; readonly message: string };
}

function said({ stdout }: Ran): Said {
  return JSON.parse(stdout);
}

function find({ checks }: Said, name: string): HostCheck | undefined {
  return checks.find((check) => check.name === name);
}

/** A directory of programs, in which only those are found that are named. */
function pathWith(...programs: readonly string[]): string {
  const dir = temp.make();
  for (const name of programs) symlinkSync(Bun.which(name)!, join(dir, name));
  return dir;
}

const QEMU = "qemu-system-x86_64";
const testQemu = testWith(QEMU);
/** Without a trial of KVM, which takes seconds. */
const TCG = ["--accel", "tcg"];

/** Why nothing can be mounted here, where a test has mounts of its own; or undefined. */
const mountFault = (() => {
  const { status, stderr, error } = spawnSync("unshare", ["--mount", "true"]);
  return status === 0 ? undefined : error?.message ?? `${stderr}`.trim();
})();
if (mountFault !== undefined) console.log(`skipped: doctor with mounts: unshare: ${mountFault}`);
const testMounts = test.skipIf(mountFault !== undefined);

/** Runs doctor after commands of a shell, with mounts of its own. */
function afterShell(commands: string, args: readonly string[]): Promise<Ran> {
  const doctor = shellQuote([process.execPath, MAIN, "doctor", "--json", ...args]);
  return run(["unshare", "--mount", "sh", "-ec", `${commands}\nexec ${doctor}`]);
}

testQemu("a machine with QEMU is ready for it, and nothing is left behind", async () => {
  const dir = temp.make();
  const tmp = temp.make();
  const args = ["doctor", "--mode", "qemu", ...TCG, "-t", join(dir, "target")];
  const ran = await seedstrap(args, { env: { TMPDIR: tmp } });
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(ran.stdout).toContain("\nok  TCG              it runs 7 of 7 parts");
  expect(ran.stdout).toContain("\nqemu: ready\n");
  expect(ran.stdout).not.toContain("not needed");
  expect([readdirSync(dir), readdirSync(tmp)]).toEqual([[], []]);
}, 60_000);

testQemu("--all says what each check is for, and lists what is not needed", async () => {
  const { stdout } = await seedstrap(["doctor", "-q", ...TCG, "--all"], { cwd: temp.make() });
  expect(stdout).toContain("needs: what the guest gets (-qr)\n");
  expect(stdout).toMatch(/^not needed +KVM +--accel tcg is asked for$/m);
  expect(stdout).toMatch(/^not needed +servers +only with --online$/m);
}, 60_000);

testAtTerminal()("a report fits 80 columns", async () => {
  const doctor = shellQuote([process.execPath, MAIN, "doctor", "-q", ...TCG, "--all"]);
  // Without the progress, which is drawn over itself.
  const lines = await seenAtTerminal(["sh", "-c", `${doctor} 2>/dev/null`], temp.make());
  expect(lines.join("\n")).toContain("mke2fs");
  expect(lines.filter(({ length }) => length > SCREEN.columns)).toEqual([]);
}, 60_000);

test("--mode takes the names of the modes, and not together with -q", async () => {
  const wrong = await seedstrap(["doctor", "--mode", "magic"]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("Allowed choices are qemu, bare-metal, chroot, bwrap");
  const two = await seedstrap(["doctor", "--mode", "bwrap", "-q"]);
  expect(two.code).toBe(2);
  expect(two.stderr).toContain("Cannot use --qemu and --bwrap together");
});

test("what is not in PATH is missing, with what to install; exit code 9", async () => {
  const env = { PATH: pathWith("sh", "mkfifo", "true") };
  const qemu = await seedstrap(["doctor", "-q", "--json"], { env, cwd: temp.make() });
  expect(qemu.code).toBe(9);
  expect(find(said(qemu), "QEMU")).toMatchObject({
    result: "missing",
    seen: `Cannot run "${QEMU}": not found in PATH`,
    remedy: "On Debian: apt-get install qemu-system-x86",
  });
  expect(said(qemu).error).toMatchObject({
    code: 9,
    message: "This machine is not ready for qemu: QEMU",
  });
  const bwrap = await seedstrap(["doctor", "-bw"], { env, cwd: temp.make() });
  expect(bwrap.code).toBe(9);
  expect(bwrap.stdout).toContain("remedy: On Debian: apt-get install bubblewrap\n");
  expect(bwrap.stdout).toContain("bwrap: not ready, bwrap\n");
}, 60_000);

testWith("mke2fs")(
  "an mke2fs that makes something else is missing where it is needed",
  async () => {
    const dir = temp.make();
    const real = Bun.which("mke2fs", { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` });
    for (
      const [body, seen] of [
        ["exit 0", /no disk with ext2, ext3 or ext4|not/],
        [`exec ${real} -O ^has_journal "$@"`, /it made no ext3/],
        ["echo mke2fs: Bus error >&2; exit 135", /mke2fs says mke2fs: Bus error/],
      ] as const
    ) {
      script(join(dir, "mke2fs"), `${body}\n`);
      const env = { PATH: `${dir}:${process.env["PATH"]}` };
      const words = ["doctor", "-b", "--json", "-t", join(dir, "t")];
      const needed = await seedstrap([...words, "--repo", temp.make()], { env });
      expect(needed.code).toBe(9);
      expect(find(said(needed), "mke2fs")).toMatchObject({ result: "missing" });
      expect(find(said(needed), "mke2fs")!.seen).toMatch(seen);
      const unneeded = await seedstrap(words, { env });
      expect(find(said(unneeded), "mke2fs")).toMatchObject({ result: "not needed" });
      expect(unneeded.code).toBe(0);
    }
  },
  60_000,
);

describe("limits of the shell are found", () => {
  test.each([
    ["ulimit -n 128", "open files", "128 at once", "ulimit -n 1024"],
    ["ulimit -f 40000", "file size", "an image has 16.0 GiB", "ulimit -f unlimited"],
  ])("%s", async (limit, name, seen, remedy) => {
    const doctor = [process.execPath, MAIN, "doctor", "-q", ...TCG, "--json"];
    const ran = await run(["sh", "-c", `${limit}; exec ${shellQuote(doctor)}`], {
      cwd: temp.make(),
    });
    expect(ran.code).toBe(9);
    const found = find(said(ran), name);
    expect(found).toMatchObject({ result: "missing", remedy });
    expect(found!.seen).toContain(seen);
  }, 60_000);
});

describe("a checkout", () => {
  const dir = temp.make();
  const args = setUp(dir);

  test("is planned for, with the space that it needs", async () => {
    const words = ["doctor", "--json", "-b", "--external-sources", "-t", join(dir, "t"), ...args];
    const ran = await seedstrap(words);
    expect(ran.code).toBe(0);
    expect(find(said(ran), "plan")).toMatchObject({ result: "ok" });
    expect(find(said(ran), "space")!.seen).toMatch(/free; the build writes \d/);
  }, 30_000);

  test("whose plan breaks a limit is found", async () => {
    const ran = await seedstrap(["doctor", "--json", "-q", ...TCG, "-qr100", ...args], {
      cwd: dir,
    });
    expect(ran.code).toBe(9);
    expect(find(said(ran), "plan")).toMatchObject({ result: "missing" });
    expect(find(said(ran), "plan")!.seen).toContain("memory");
  }, 60_000);

  testWith("git")("whose commit is later than the clock of this machine is found", async () => {
    const own = temp.make();
    const [, tree, ...others] = setUp(own);
    const when = "2099-01-01T00:00:00Z";
    const env = { ...process.env, GIT_COMMITTER_DATE: when, GIT_AUTHOR_DATE: when };
    for (const words of [["init", "-q"], ["add", "."], ["commit", "-q", "-m", "later"]]) {
      const who = ["-c", "user.name=a", "-c", "user.email=a@b", ...words];
      expect(spawnSync("git", ["-C", tree!, ...who], { env }).status).toBe(0);
    }
    const words = ["doctor", "--json", "-b", "--tree", tree!, ...others, "-t", join(own, "t")];
    const ran = await seedstrap(words);
    expect(ran.code).toBe(9);
    expect(find(said(ran), "clock")).toMatchObject({ result: "missing" });
    expect(find(said(ran), "clock")!.seen).toContain("the checkout has a commit of 2099-01-01");
  }, 30_000);

  test("whose mirror does not answer is found with --online, and only then", async () => {
    const words = ["doctor", "--json", "-b", "--tree", join(dir, "tree"), "-t", join(dir, "t")];
    const mirror = ["-m", "http://127.0.0.1:9/d"];
    const online = await seedstrap([...words, ...mirror, "--online"]);
    expect(online.code).toBe(9);
    expect(find(said(online), "servers")).toMatchObject({ result: "missing" });
    expect(find(said(online), "servers")!.seen).toContain("http://127.0.0.1:9/d");
    const offline = await seedstrap([...words, ...mirror]);
    expect(find(said(offline), "servers")).toMatchObject({ result: "not needed" });
  }, 30_000);

  testMounts("a target that is too small for it is found", async () => {
    const target = join(dir, "small");
    mkdirSync(target);
    const ran = await afterShell(
      `mount -t tmpfs -o size=64k none ${target}`,
      ["-c", "-t", target, ...args],
    );
    expect(ran.code).toBe(9);
    expect(find(said(ran), "target")).toMatchObject({
      result: "missing",
      remedy: "Free some space there, or name another --target",
    });
    expect(find(said(ran), "space")).toMatchObject({ result: "warning" });
  }, 30_000);
});

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: doctor for chroot: this is not root");

describe.skipIf(!isRoot || mountFault !== undefined)("chroot", () => {
  const words = (dir: string) => ["-c", "-t", join(dir, "t")];

  test("starts a program with all that a bootstrap needs", async () => {
    const dir = temp.make();
    const ran = await afterShell("", words(dir));
    expect(find(said(ran), "chroot")).toMatchObject({
      result: "ok",
      seen: "a program starts, with 32-bit programs, making a file, /dev/null, proc, processes",
    });
    expect(ran.code).toBe(0);
    expect(readdirSync(dir)).toEqual([]);
  }, 30_000);

  test.each([
    ["noexec", "programs do not run there: it is mounted noexec"],
    ["nodev", "no /dev/null in it"],
  ])("a target with %s is found", async (option, seen) => {
    const dir = temp.make();
    const ran = await afterShell(`mount -t tmpfs -o ${option} none ${dir}`, words(dir));
    expect(ran.code).toBe(9);
    expect(find(said(ran), "chroot")).toMatchObject({ result: "missing", seen });
  }, 30_000);

  test("a container that forbids mounts is found", async () => {
    const dir = temp.make();
    const doctor = [process.execPath, MAIN, "doctor", "--json", ...words(dir)];
    const ran = await run(["setpriv", "--bounding-set", "-sys_admin", ...doctor]);
    expect(ran.code).toBe(9);
    expect(find(said(ran), "chroot")).toMatchObject({ result: "missing", seen: "no proc in it" });
  }, 30_000);

  test("what a run has left mounted is found, with the command that unmounts it", async () => {
    const dir = temp.make();
    mkdirSync(join(dir, "t/proc"), { recursive: true });
    const ran = await afterShell(`mount -t proc proc ${dir}/t/proc`, words(dir));
    expect(ran.code).toBe(9);
    expect(find(said(ran), "mounts")).toMatchObject({
      result: "missing",
      seen: `1 mount: ${dir}/t/proc`,
      remedy: `umount -R ${dir}/t/proc`,
    });
    const through = await afterShell(
      `mount -t tmpfs none ${dir}/t; ln -s t ${dir}/link`,
      ["-c", "-t", join(dir, "link")],
    );
    expect(find(said(through), "mounts")).toMatchObject({ result: "ok", seen: "none" });
  }, 30_000);
});

describe("bwrap", () => {
  const tried = spawnSync("bwrap", ["--unshare-user", "--bind", "/", "/", "true"]);
  const fault = tried.error?.message ?? (tried.status === 0 ? undefined : `${tried.stderr}`);
  if (fault !== undefined) console.log(`skipped: doctor for bwrap: ${fault}`);

  test.skipIf(fault !== undefined)("starts a program in a sandbox", async () => {
    const ran = await seedstrap(["doctor", "-bw", "--json"], { cwd: temp.make() });
    expect(find(said(ran), "bwrap")).toMatchObject({ result: "ok" });
    expect(ran.code).toBe(0);
  }, 30_000);

  const limited = "unshare --user --map-root-user sh -ec";
  const setting = "echo 0 >/proc/sys/user/max_user_namespaces";
  const works = spawnSync("sh", ["-c", `${limited} '${setting}'`]).status === 0;
  if (!works) console.log("skipped: doctor without user namespaces: they cannot be limited here");

  test.skipIf(fault !== undefined || !works)(
    "user namespaces that are forbidden are found, with the setting that allows them",
    async () => {
      const doctor = shellQuote([process.execPath, MAIN, "doctor", "-bw", "--json"]);
      const ran = await run(["sh", "-c", `${limited} '${setting}; exec ${doctor}'`], {
        cwd: temp.make(),
      });
      expect(ran.code).toBe(9);
      expect(find(said(ran), "bwrap")).toMatchObject({
        result: "missing",
        remedy: "As root: sysctl -w user.max_user_namespaces=10000",
      });
    },
    30_000,
  );
});

const nobody = isRoot ? nobodyObstacle() : "this is not root";
if (nobody !== undefined) console.log(`skipped: doctor without rights: ${nobody}`);

test.skipIf(nobody !== undefined)("a user without rights is told what lacks", async () => {
  const dir = temp.make();
  const command = asNobody(dir);
  const work = join(dir, "work");
  mkdirSync(work);
  chmodSync(work, 0o777);
  const words = ["doctor", "-q", "--json", "-t", "/root/t"];
  const ran = await seedstrap(words, { command, cwd: work, env: { TMPDIR: work } });
  expect(ran.code).toBe(9);
  expect(find(said(ran), "target")).toMatchObject({ result: "missing" });
  expect(find(said(ran), "target")!.seen).toContain("EACCES");
  const kvm = find(said(ran), "KVM")!;
  if (existsSync("/dev/kvm")) {
    expect(kvm).toMatchObject({
      result: "warning",
      seen: "/dev/kvm is not readable and writable for this user",
      remedy: 'Join its group and log in again: sudo adduser "$USER" kvm',
    });
  } else expect(kvm.seen).toBe("/dev/kvm does not exist");
  expect(readdirSync(work)).toEqual([]);
  const chroot = await seedstrap(["doctor", "-c", "--json", "-t", "t"], { command, cwd: work });
  expect(chroot.code).toBe(9);
  expect(find(said(chroot), "chroot")).toMatchObject({ result: "missing" });
}, 120_000);
