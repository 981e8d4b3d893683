// SPDX-License-Identifier: MIT
import { afterEach, expect } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { readRecord } from "../../src/record/read.ts";
import { RECORD_NAME, type RecordedImage } from "../../src/record/types.ts";
import { statementText } from "../../src/record/statement.ts";
import { GIB, MIB } from "../../src/format/segment.ts";
import { sha256 } from "../fetch/servers.ts";
import { describeDir, TempDirs, writeFiles } from "../support/files.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { MAIN, run, type RunOptions, seedstrap, start, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { kernelLike } from "../support/kernel.ts";

const temp = new TempDirs();
afterEach(() => temp.release());
const test = testWith("mke2fs");

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

function scene() {
  const dir = temp.make();
  const mini = miniTree({
    files: { [`seed/stage0-posix/${SEED}`]: "the seed" },
    movesToDisk: true,
  });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const kernel = join(dir, "vmlinuz");
  writeFileSync(kernel, kernelLike());
  writeFiles(join(dir, "repo"), { "a_0.tar.bz2": "one", 'sub/b c "d"': "two", "empty": "" });
  chmodSync(join(dir, "repo/a_0.tar.bz2"), 0o755);
  return { dir, tree, mirror, kernel, repo: join(dir, "repo"), distfiles: mini.distfiles };
}

async function build(
  { tree, mirror }: Pick<ReturnType<typeof scene>, "tree" | "mirror">,
  target: string,
  args: readonly string[],
  options: RunOptions = {},
) {
  const sources = ["-m", `file://${mirror}`, "--tree", tree, "-t", target];
  return await seedstrap(["build", "--external-sources", ...args, ...sources], options);
}

/** Runs debugfs commands on the file system of a disk. */
async function debugfs(image: string, offset: number, command: string): Promise<string> {
  const { stdout } = await run(["/usr/sbin/debugfs", "-R", command, `${image}?offset=${offset}`]);
  return stdout;
}

async function check(image: string, offset: number): Promise<void> {
  expect(await run(["/usr/sbin/e2fsck", "-fn", `${image}?offset=${offset}`])).toMatchObject({
    code: 0,
  });
  if (existsSync("/usr/sbin/sfdisk")) {
    const { code, stdout, stderr } = await run(["/usr/sbin/sfdisk", "--verify", image]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("No errors detected");
  } else console.log("skipped: sfdisk --verify: it is not installed here");
}

test("--kernel makes one disk with the whole root, sound for e2fsck and sfdisk", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const before = [describeDir(at.tree), describeDir(at.mirror), describeDir(at.repo)];
  const built = await build(at, target, ["--bare-metal", "--kernel", at.kernel, "-r", at.repo]);
  expect(built).toMatchObject({ code: 0, stderr: "" });
  expect(built.stdout).toMatch(
    /SHA-256 [0-9a-f]{64} of its blocks .*\n(?:.*\n)*.*Write disk.img \(17179869184 bytes\) to a drive: seedstrap write \S+\/disk.img DEVICE\n/,
  );
  expect(built.stdout).toContain(`with your kernel ${at.kernel} and the command line "`);
  const image = join(target, "disk.img");
  await check(image, GIB);
  // The files that rdump extracts are exactly those of the record.
  const out = join(at.dir, "out");
  mkdirSync(out);
  await debugfs(image, GIB, `rdump / ${out}`);
  const [disk] = readRecord(target).images;
  for (const { path, size, sha256: digest } of disk!.files) {
    const bytes = readFileSync(join(out, path));
    expect({ path, size: bytes.length, digest: sha256(bytes) }).toEqual({ path, size, digest });
  }
  const files = readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile());
  expect(files).toHaveLength(disk!.files.length);
  expect(readFileSync(join(out, "init"), "utf8")).toBe("the seed");
  expect(readFileSync(join(out, 'external/repo-preseeded/sub/b c "d"'), "utf8")).toBe("two");
  expect(readdirSync(join(out, "external/distfiles")).sort()).toEqual(
    Object.keys(at.distfiles).sort(),
  );
  const config = readFileSync(join(out, "steps/bootstrap.cfg"), "utf8");
  expect(config).toContain("BARE_METAL=True\nDISK=sda1\nKERNEL_BOOTSTRAP=False\n");
  expect([describeDir(at.tree), describeDir(at.mirror), describeDir(at.repo)]).toEqual(before);
  const verified = await seedstrap(["image", "verify", image]);
  expect(verified).toMatchObject({ code: 0, stderr: "" });
  expect(verified.stdout).toContain(`are as built: SHA-256 ${disk!.blocksSha256} of its blocks`);
  // A byte in an unused block.
  const file = openSync(image, "r+");
  writeSync(file, Uint8Array.of(1), 0, 1, 9 * GIB);
  closeSync(file);
  const changed = await seedstrap(["image", "verify", image]);
  expect(changed.stderr).toContain(`it was built with ${disk!.blocksSha256}`);
  expect(changed.code).toBe(5);
  expect(readdirSync(join(target, ".seedstrap"))).toEqual(["made"]);
});

test("owner, modes and times on a disk do not come from the host", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const shell = ["sh", "-c", 'umask 077; exec "$@"', "sh", process.execPath, MAIN];
  await build(at, target, ["-b", "-qk", at.kernel, "-r", at.repo], { command: shell });
  const image = join(target, "disk.img");
  const stat = async (path: string) => await debugfs(image, GIB, `stat ${path}`);
  for (
    const [path, mode] of [
      ["/steps", "0755"],
      ["/steps/manifest", "0644"],
      ["/external/repo-preseeded/a_0.tar.bz2", "0755"],
    ] as const
  ) {
    const said = await stat(path);
    expect(said).toContain(`Mode:  ${mode}`);
    expect(said).toContain("User:     0   Group:     0");
    expect(said.match(/time: 0x386d4380:00000000/g)).toHaveLength(4);
  }
});

test("a disk is the same from another directory, user, order, umask, zone and locale", async () => {
  const one = scene();
  const other = scene();
  // As another user, if the test runs as root: the files then have another owner.
  const obstacle = nobodyObstacle();
  if (obstacle !== undefined) console.log(`skipped: a disk by another user: ${obstacle}`);
  const program = obstacle === undefined ? asNobody(other.dir) : [process.execPath, MAIN];
  const target = join(other.dir, "target");
  mkdirSync(target);
  chmodSync(target, 0o777);
  const shell = ["sh", "-c", 'umask 077; exec "$@"', "sh", ...program];
  const args = (at: typeof one) => ["-q", "-qs", "1100", "--kernel", at.kernel, "-r", at.repo];
  const env = { TZ: "Pacific/Kiritimati", LC_ALL: "tr_TR.UTF-8", HOME: other.dir };
  const cwd = other.dir;
  expect(await build(one, join(one.dir, "target"), args(one))).toMatchObject({ code: 0 });
  const command = { command: shell, env, cwd };
  expect(await build(other, target, args(other), command)).toMatchObject({ code: 0 });
  const images = [join(one.dir, "target/disk.img"), join(target, "disk.img")];
  expect(await run(["cmp", ...images])).toEqual({ code: 0, stdout: "", stderr: "" });
  const digests = [join(one.dir, "target"), target].map((dir) =>
    readRecord(dir).images[0]!.blocksSha256
  );
  expect(digests[0]).toBe(digests[1]!);
}, 30_000);

test("--repo makes a second disk beside builder-hex0's, and DISK is on it", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const words = ["--qemu", "-qs", "2G", "-r", at.repo, "--payload", "never"];
  const built = await build(at, target, words);
  expect(built).toMatchObject({ code: 0, stderr: "" });
  expect(readRecord(target).images.map(({ name }) => name)).toEqual(["init.img", "external.img"]);
  const image = join(target, "external.img");
  await check(image, MIB);
  const out = join(at.dir, "out");
  mkdirSync(out);
  await debugfs(image, MIB, `rdump / ${out}`);
  expect(readdirSync(out).sort()).toEqual(["distfiles", "lost+found", "repo-preseeded"]);
  expect(readdirSync(join(out, "distfiles")).sort()).toEqual(Object.keys(at.distfiles).sort());
  const config = await seedstrap([
    "image",
    "cat",
    join(target, "init.img"),
    "./steps/bootstrap.cfg",
  ]);
  expect(config.stdout).toContain("DISK=sdb1\nKERNEL_BOOTSTRAP=True\n");
  const plan = ["plan", "--json", "-q", "-r", at.repo, "--tree", at.tree, "-t", target];
  const { command } = JSON.parse((await seedstrap(plan)).stdout);
  expect(command.filter((word: string) => word.startsWith("file="))).toEqual([
    `file=${target}/init.img,format=raw`,
    `file=${target}/external.img,format=raw`,
  ]);
});

test("write has every byte of a disk as its record has it, or ends with an error", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const small = ["-qs", "1200M"];
  const built = await build(at, target, ["--qemu", "--kernel", at.kernel, ...small]);
  expect(built).toMatchObject({ code: 0, stderr: "" });
  const [{ name, sizeBytes, blocksSha256 }] = readRecord(target).images as [RecordedImage];
  const image = join(target, name);
  const drive = join(at.dir, "drive");
  writeFileSync(drive, "");
  truncateSync(drive, sizeBytes);
  const write = () => seedstrap(["write", image, drive, "--file", "--yes", "drive", "--json"]);
  const whole = await write();
  expect(whole.code).toBe(0);
  expect(JSON.parse(whole.stdout)).toMatchObject({ blocksSha256, isVerified: true });
  for (const offset of [100, sizeBytes / 2 + 1, sizeBytes - 1]) {
    const poke = (byte: string) => {
      const file = openSync(image, "r+");
      writeSync(file, byte, offset);
      closeSync(file);
    };
    poke("x");
    const { code, stderr } = await write();
    expect(code).toBe(5);
    expect(stderr).toContain("Cannot trust the image: it is not as it was built");
    poke("\0");
  }
});

test("a disk that is too small is refused before anything is written", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const small = await build(at, target, ["-q", "--kernel", at.kernel, "-qs", "1G"]);
  expect(small.stderr).toContain("Cannot make a disk of 1024 MiB");
  expect(small.code).toBe(2);
  const full = await build(at, target, ["-q", "--kernel", at.kernel, "-qs", "1026"]);
  expect(full.code).toBe(0);
  writeFileSync(join(at.repo, "big"), new Uint8Array(2 * MIB));
  const broken = await build(at, target, ["-q", "-qk", at.kernel, "-qs", "1025", "-r", at.repo]);
  expect(broken.stderr).toContain("bytes of files on disk.img");
  expect(broken.stderr).toContain("./external/repo-preseeded/big");
  expect(broken.code).toBe(8);
  expect(readRecord(target).images[0]!.sizeBytes).toBe(1026 * MIB);
});

test("missing and failing mke2fs are reported, and nothing is left", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const args = ["-b", "--kernel", at.kernel];
  const bin = join(at.dir, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "mke2fs"), "#!/bin/sh\necho the disk is on fire >&2\nexit 1\n", {
    mode: 0o755,
  });
  const failed = await build(at, target, args, { env: { PATH: `${bin}:${process.env["PATH"]}` } });
  expect(failed.stderr).toContain("mke2fs says the disk is on fire");
  expect(failed.code).toBe(9);
  expect(existsSync(target)).toBe(false);
  const absent = await build(at, target, ["-b", "--kernel", join(at.dir, "none")]);
  expect(absent.stderr).toContain("for --kernel: it is not a file");
});

test("reproduce names another mke2fs where the disk differs, if the record says its own", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const args = ["-q", "-qs", "1100", "--kernel", at.kernel];
  const built = await build(at, target, args);
  expect(built.code).toBe(0);
  expect(built.stdout).toContain(`\nstart it with: seedstrap run ${target} --kernel ${at.kernel}`);
  const record = readRecord(target);
  const said = await run(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin mke2fs -V"]);
  expect(said.stderr).toStartWith(`mke2fs ${record.mke2fs}\n`);
  const bin = join(at.dir, "bin");
  mkdirSync(bin);
  writeFileSync(
    join(bin, "mke2fs"),
    `#!/bin/sh\n[ "$1" != -V ] || { echo "mke2fs 9.9 (a day)" >&2; exit; }\n` +
      `PATH=/usr/sbin:/sbin:/usr/bin\nexec mke2fs -m 9 "$@"\n`,
    { mode: 0o755 },
  );
  const path = join(target, RECORD_NAME);
  const again = async () =>
    await seedstrap(
      [
        "reproduce",
        path,
        "--all",
        "--tree",
        at.tree,
        "-m",
        `file://${at.mirror}`,
        "--kernel",
        at.kernel,
      ],
      { env: { PATH: `${bin}:${process.env["PATH"]}` } },
    );
  const other = await again();
  expect(other.code).toBe(11);
  expect(other.stdout).toContain(
    `Built from something else:\n  mke2fs: differs\n    stated ${record.mke2fs}\n    found  9.9 (a day)`,
  );
  const { mke2fs: _, ...untoldRecord } = record;
  writeFileSync(path, statementText(untoldRecord));
  const untold = await again();
  expect(untold.code).toBe(11);
  expect(untold.stdout).not.toContain("mke2fs");
  expect(untold.stderr).toContain("a tool that seedstrap uses (mke2fs");
});

test("after kill -9 no final name exists, and the next build removes all leftovers", async () => {
  const at = scene();
  const target = join(at.dir, "target");
  const bin = join(at.dir, "bin");
  mkdirSync(bin);
  writeFileSync(
    join(bin, "mke2fs"),
    `#!/bin/sh\n/bin/touch ${at.dir}/begun\nexec /bin/sleep 60\n`,
    {
      mode: 0o755,
    },
  );
  const args = ["-q", "-qs", "1100", "--kernel", at.kernel];
  const sources = ["-m", `file://${at.mirror}`, "--tree", at.tree, "-t", target];
  const child = start([process.execPath, MAIN, "build", ...args, ...sources], {
    env: { PATH: `${bin}:${process.env["PATH"]}` },
  });
  for (let i = 0; i < 200 && !existsSync(join(at.dir, "begun")); i++) await Bun.sleep(50);
  child.kill("SIGKILL");
  await child.exited;
  expect(readdirSync(target)).toEqual([".seedstrap"]);
  const left = readdirSync(join(target, ".seedstrap/scratch"));
  expect(left).toContain("disk.img.files");
  expect(left).toContain("disk.img.mke2fs.conf");
  expect(await build(at, target, args)).toMatchObject({ code: 0 });
  expect(readdirSync(join(target, ".seedstrap"))).toEqual(["made"]);
});
