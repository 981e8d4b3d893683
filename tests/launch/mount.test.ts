// SPDX-License-Identifier: MIT
import { afterEach, expect, test as always } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { mountsBelow, parseMountPoints } from "../../src/runtime/mounts.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, run, seedstrap, start } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const test = mayMount() ? always : always.skip;

function mayMount(): boolean {
  const dir = realpathSync(temp.make());
  const isMounted = spawnSync("mount", ["-t", "tmpfs", "tmpfs", dir]).status === 0;
  if (isMounted) spawnSync("umount", [dir]);
  else console.log("skipped: tests of --tmpfs: no permission to mount here");
  temp.release();
  return isMounted;
}

always("parseMountPoints() reads mountinfo, also paths with spaces", () => {
  const text = "36 35 98:0 / / rw - ext4 /dev/root rw\n" +
    "77 36 0:45 / /a\\040b\\134c rw,noatime shared:1 - tmpfs tmpfs rw\n";
  expect(parseMountPoints(text)).toEqual(["/", "/a b\\c"]);
});

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

/** What a bootstrap prints when its last step is built. */
const SUCCEED = 'echo "alpha-1.0: build successful"';

/** Makes a checkout, and a chroot program that runs our script instead of the bootstrap. */
function scene(script: string) {
  const dir = realpathSync(temp.make());
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const bin = join(dir, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "chroot"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const target = join(dir, "the target");
  const args = ["--chroot", "--tmpfs", "--external-sources", "-m", `file://${mirror}`];
  const env = { PATH: `${bin}:${process.env["PATH"]}` };
  return { dir, target, env, args: [...args, "--tree", tree, "-t", target] };
}

test("--tmpfs is mounted while the bootstrap runs, then unmounted with all below it", async () => {
  const { target, env, args } = scene(
    `mkdir "$1/proc" && mount -t proc proc "$1/proc" && cat /proc/mounts && ${SUCCEED}`,
  );
  const ran = await seedstrap(args, { env });
  expect(ran).toMatchObject({ code: 0 });
  expect(ran.stdout).toMatch(/tmpfs \S*the\\040target tmpfs rw,\S*size=8388608k,mode=755/);
  expect(ran.stdout).toMatch(/proc \S*the\\040target\/proc proc/);
  expect(mountsBelow(target)).toEqual([]);
  expect(readdirSync(target)).toEqual([]);
});

test("--tmpfs is unmounted when the bootstrap fails, and when it cannot start", async () => {
  const { target, env, args } = scene("exit 5");
  expect(await seedstrap(args, { env })).toMatchObject({ code: 9 });
  expect(mountsBelow(target)).toEqual([]);
  const tiny = await seedstrap([...args, "--tmpfs-size", "4k"], { env });
  expect(tiny.stderr).toContain("Cannot write");
  expect(tiny.code).toBe(7);
  expect(mountsBelow(target)).toEqual([]);
  writeFileSync(join(target, "mine"), "");
  const used = await seedstrap(args, { env });
  expect(used.stderr).toContain(`Cannot mount a tmpfs on ${target}: it is in use`);
  expect(used.code).toBe(7);
  expect(readdirSync(target)).toEqual(["mine"]);
});

test.each(["SIGINT", "SIGTERM"] as const)("--tmpfs is unmounted on %s", async (signal) => {
  const { dir, target, env, args } = scene('touch "$1/../begun"; exec sleep 60');
  const child = start([process.execPath, MAIN, ...args], { env });
  for (let i = 0; i < 200 && !existsSync(join(dir, "begun")); i++) await setTimeout(50);
  expect(mountsBelow(target)).toEqual([target]);
  child.kill(signal);
  expect(await child.exited).toBe(130);
  expect(mountsBelow(target)).toEqual([]);
});

/** Makes an unshare that does not work: a bootstrap then has the PIDs and mounts of the host. */
function withoutNamespaces(dir: string): void {
  writeFileSync(join(dir, "bin/unshare"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
}

test("--tmpfs is unmounted on a second Ctrl-C, without waiting for the bootstrap", async () => {
  const { dir, target, env, args } = scene(
    'trap "" INT TERM; touch "$1/../begun"; while :; do sleep 0.1; done',
  );
  withoutNamespaces(dir);
  const child = start([process.execPath, MAIN, ...args], { env });
  for (let i = 0; i < 200 && !existsSync(join(dir, "begun")); i++) await setTimeout(50);
  child.kill("SIGINT");
  await setTimeout(500);
  expect(mountsBelow(target)).toEqual([target]);
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  expect(mountsBelow(target)).toEqual([]);
});

test("a tmpfs left by a killed run is reported with the command to unmount it", async () => {
  const { dir, target, env, args } = scene('touch "$1/../begun"; exec sleep 60');
  const child = start([process.execPath, MAIN, ...args], { env });
  for (let i = 0; i < 200 && !existsSync(join(dir, "begun")); i++) await setTimeout(50);
  child.kill("SIGKILL");
  await child.exited;
  try {
    const again = await seedstrap(args, { env });
    expect(again.code).toBe(7);
    expect(again.stderr).toContain(`may have left ${target}: umount -R '${target}'\n`);
  } finally {
    await run(["umount", "-R", target]);
  }
});

test.each([
  ["are gone with its namespace", (_: string) => {}],
  ["are unmounted where it has none, and no others", withoutNamespaces],
])("mounts that a bootstrap has made in its directory %s", async (_, prepare) => {
  const { dir, target, env, args } = scene(
    `mkdir "$1/dev" "$1/dev/shm"; mount -t tmpfs x "$1/dev/shm"; ${SUCCEED}`,
  );
  prepare(dir);
  const plain = args.filter((arg) => arg !== "--tmpfs");
  const first = await seedstrap(plain, { env });
  expect(first.code).toBe(0);
  const notice = "unshare makes no PID namespace here";
  expect(first.stderr.includes(notice)).toBe(prepare === withoutNamespaces);
  expect(mountsBelow(target)).toEqual([]);
  // A mount that was there before stays, and a target that contains one is not replaced.
  await run(["mount", "-t", "tmpfs", "mine", join(target, "steps")]);
  try {
    expect(await seedstrap(["run", target, "--chroot"], { env })).toMatchObject({ code: 0 });
    expect(mountsBelow(target)).toEqual([join(target, "steps")]);
    const again = await seedstrap(["build", ...plain], { env });
    expect(again.stderr).toContain(`${join(target, "steps")} is mounted there`);
    expect(again.code).toBe(7);
  } finally {
    await run(["umount", join(target, "steps")]);
  }
});

test("a mount that cannot be unmounted is reported with a command for it alone", async () => {
  const { dir, target, env, args } = scene(
    'mkdir "$1/dev" "$1/dev/shm"; mount -t tmpfs x "$1/dev/shm"',
  );
  withoutNamespaces(dir);
  const plain = args.filter((arg) => arg !== "--tmpfs");
  expect(await seedstrap(["build", ...plain], { env })).toMatchObject({ code: 0 });
  const [mine, left] = [join(target, "steps"), join(target, "dev/shm")];
  await run(["mount", "-t", "tmpfs", "mine", mine]);
  writeFileSync(join(dir, "bin/umount"), "#!/bin/sh\nexit 32\n", { mode: 0o755 });
  try {
    const ran = await seedstrap(["run", target, "--chroot"], { env });
    expect(ran.stderr).toContain(`still mounted: ${left}; unmount it: umount '${left}'\n`);
    expect(mountsBelow(target)).toEqual([mine, left]);
  } finally {
    await run(["umount", mine]);
    await run(["umount", left]);
  }
});
