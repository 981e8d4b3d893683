// SPDX-License-Identifier: MIT
/**
 * What is different on macOS, as far as Linux can show it: the program is told that it runs there,
 * and has no /proc, no /sys, and no programs of GNU or util-linux but those that macOS has, too.
 */
import { afterAll, afterEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { kernelLike } from "../support/kernel.ts";
import { DENO, type Ran, seedstrap } from "../support/run.ts";
import { setUp } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const shared = new TempDirs();
afterAll(() => shared.release());

const MAIN = fileURLToPath(new URL("../support/mac.ts", import.meta.url).href);
const MKE2FS = Bun.which("mke2fs", { PATH: "/usr/sbin:/sbin:/usr/bin" });
/** What of the programs that seedstrap may start is part of macOS. */
const OWN = ["cat", "git", "mkfifo", "mknod", "mv", "sh", "stty", "true"];

const bin = join(shared.make(), "bin");
mkdirSync(bin);
for (const name of OWN) {
  const place = Bun.which(name);
  if (place !== null) symlinkSync(place, join(bin, name));
}

/** @param mounts Words of bwrap, after those that take away what macOS has not. */
function asMac(mounts: readonly string[] = []): readonly string[] {
  return [
    "bwrap",
    ...["--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--die-with-parent"],
    // Deno asks for this one itself.
    ...["--tmpfs", "/proc", "--dir", "/proc/self", "--symlink", DENO, "/proc/self/exe"],
    ...["/sys", "/usr/sbin", "/usr/local", "/opt"].flatMap((place) => ["--tmpfs", place]),
    ...mounts,
    ...["--setenv", "PATH", bin],
    ...[DENO, "run", "--quiet", "-A", MAIN],
  ];
}

function obstacle(): string | undefined {
  if (!existsSync(DENO)) return "Deno is not installed";
  if (MKE2FS === null) return "mke2fs is not installed";
  const { status, stderr, error } = spawnSync(asMac()[0]!, [...asMac().slice(1), "--version"]);
  return status === 0 ? undefined : error?.message ?? stderr.toString().trim();
}

const why = obstacle();
if (why !== undefined) console.log(`skipped: what is different on macOS: ${why}`);
const here = why === undefined ? test : test.skip;

function mac(args: readonly string[], mounts: readonly string[] = []): Promise<Ran> {
  return seedstrap(args, { command: asMac(mounts) });
}

function recorded(target: string): unknown {
  const { subject } = JSON.parse(readFileSync(join(target, "seedstrap.json"), "utf8"));
  return subject;
}

here("a build on macOS gives the same images, which are read and verified there", async () => {
  const dir = temp.make();
  const args = ["build", "--bare-metal", "--external-sources", ...setUp(dir)];
  const [target, other] = [join(dir, "target"), join(dir, "other")];
  expect(await mac([...args, "-t", target])).toMatchObject({ code: 0 });
  expect(await seedstrap([...args, "-t", other])).toMatchObject({ code: 0 });
  expect(recorded(target)).toEqual(recorded(other));
  for (const name of ["init.img", "payload.img"]) {
    expect(await mac(["image", "verify", join(target, name)])).toMatchObject({ code: 0 });
    expect(readFileSync(join(target, name))).toEqual(readFileSync(join(other, name)));
  }
});

const SEED = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";
const TREE = { files: { [SEED]: "the seed" }, movesToDisk: true };
const PLACES = ["/opt/homebrew/opt/e2fsprogs/sbin", "/usr/local/opt/e2fsprogs/sbin"];

here("mke2fs of Homebrew is found, which is in no directory of PATH", async () => {
  const dir = temp.make();
  const kernel = join(dir, "vmlinuz");
  writeFileSync(kernel, kernelLike());
  const args = ["build", "--bare-metal", "--kernel", kernel, "-qs", "256M", ...setUp(dir, TREE)];
  const missing = await mac([...args, "-t", join(dir, "missing")]);
  expect(missing.stderr).toContain("hint: It makes file systems. With Homebrew: brew install");
  expect(missing.code).toBe(9);
  const plain = join(dir, "plain");
  expect(await seedstrap([...args, "-t", plain])).toMatchObject({ code: 0 });
  for (const [at, place] of PLACES.entries()) {
    const target = join(dir, `target${at}`);
    const mounts = ["--ro-bind", MKE2FS!, join(place, "mke2fs")];
    expect(await mac([...args, "-t", target], mounts)).toMatchObject({ code: 0 });
    expect(recorded(target)).toEqual(recorded(plain));
  }
}, 60_000);

here("drives are not looked at on macOS: its own programs are named", async () => {
  const dir = temp.make();
  const args = ["build", "--bare-metal", ...setUp(dir), "-t", join(dir, "target")];
  expect(await seedstrap(args)).toMatchObject({ code: 0 });
  const refused = [
    ["devices"],
    ["write", join(dir, "target/init.img"), "/dev/rdisk2"],
    [...args, "--boot-device", "/dev/disk2"],
  ];
  for (const command of refused) {
    const { code, stderr } = await mac(command);
    expect(stderr).toContain("seedstrap: Cannot look at drives here: that needs the /sys of Linux");
    expect(stderr).toContain("of=/dev/rdiskN");
    expect(code).toBe(7);
  }
});

here("no directory is started on macOS, and nothing is built for it first", async () => {
  const dir = temp.make();
  for (const mode of ["--chroot", "--bwrap"]) {
    const target = join(dir, "target");
    const ran = await mac([mode, ...setUp(join(dir, mode)), "-t", target]);
    expect(ran.stderr).toContain("seedstrap: Cannot start a directory here: its programs are for");
    expect(ran.code).toBe(9);
    expect(existsSync(target)).toBe(false);
    const doctor = await mac(["doctor", mode, "-t", target]);
    expect(doctor.stdout).toContain("Cannot start a directory here");
    expect(doctor.stdout).toContain("remedy: Use --qemu, or a machine with Linux");
    expect(doctor.code).toBe(9);
  }
});

here("doctor on macOS asks neither for KVM nor for setpriv, and names Homebrew", async () => {
  const { code, stdout } = await mac(["doctor", "--qemu", "--all"]);
  expect(stdout).toContain("remedy: With Homebrew: brew install qemu");
  expect(stdout).toMatch(/^not needed +setpriv +only on Linux/m);
  expect(stdout).toMatch(/^not needed +mke2fs +only for --kernel and --repo/m);
  expect(stdout).not.toContain("KVM");
  expect(code).toBe(9);
});

here("--accel hvf is refused on Apple silicon, which has no x86 processor", async () => {
  const dir = temp.make();
  const target = join(dir, "target");
  const build = ["build", "--bare-metal", ...setUp(dir), "-t", target];
  expect(await seedstrap(build)).toMatchObject({ code: 0 });
  // A run would need a port for the mirror.
  const preflight = ["preflight", "--qemu", target, "--accel", "hvf", "--qemu-cmd", "/bin/true"];
  const refused = await mac(preflight, ["--setenv", "MAC_ARCH", "arm64"]);
  expect(refused.stderr).toContain("Cannot use --accel hvf: this Mac has no x86 processor");
  expect(refused.stderr).toContain("hint: Use --accel tcg");
  expect(refused.code).toBe(9);
  const given = await mac(preflight, ["--setenv", "MAC_ARCH", "x64"]);
  expect(given.stderr).not.toContain("Cannot use --accel hvf");
  expect(given.code).not.toBe(0);
});

here("demo on macOS says how to get the QEMU that it lacks", async () => {
  const { code, stdout } = await mac(["demo"]);
  expect(stdout).toContain("qemu-system-x86_64 is not installed. With Homebrew: brew install qemu");
  expect(code).toBe(0);
});
