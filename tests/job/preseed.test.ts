// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readRecord } from "../../src/record/read.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { kernelLike } from "../support/kernel.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { run, type RunOptions, seedstrap, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";
/** A miniature root of an earlier bootstrap. */
const ROOT = {
  [SEED]: "the seed of then",
  "init": "the init of then",
  "kaem.x86": "the script of then",
  "usr/bin/tcc": "a compiler",
  "x86/hex0_x86.hex0": "# hex0 of then\n",
  "x86/kaem-minimal.hex0": "# kaem of then\n",
  "steps/stale": "a step of then",
  "external/distfiles/stale": "a distfile of then",
  "external/repo/p_0.tar.bz2": "a package",
};

/** Makes a checkout and archives of {@link ROOT}, with more files and symbolic links if given. */
async function scene(
  without: readonly string[] = [],
  more: Readonly<Record<string, string>> = {},
  links: readonly (readonly [target: string, path: string])[] = [],
) {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(
    dir,
    miniTree({ files: { "seed/preseeded.kaem": "go on\n", "seed/stage0-posix/gone": "left out" } }),
  );
  const root = join(dir, "root");
  writeFiles(root, Object.fromEntries(Object.entries(ROOT).filter(([k]) => !without.includes(k))));
  writeFiles(root, more);
  for (const [target, path] of links) symlinkSync(target, join(root, path));
  const made = await run([
    "sh",
    "-c",
    `cd "$1" && chmod 4755 usr/bin/tcc && ln usr/bin/tcc usr/bin/cc &&
    ln -s tcc usr/bin/acc && ln -s usr/bin bin && mkdir -p dev empty &&
    tar --owner 0 --group 0 --sort name -cf ../base.tar .`,
    "sh",
    root,
  ]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  const kernel = join(dir, "vmlinuz");
  writeFileSync(kernel, kernelLike());
  const target = join(dir, "target");
  const build = (archive: string, args: readonly string[], options: RunOptions = {}) =>
    seedstrap([
      ...["build", "--early-preseed", archive, "--tree", tree, "-m", `file://${mirror}`],
      ...["--external-sources", "-t", target, ...args],
    ], options);
  return { dir, archive: join(dir, "base.tar"), kernel, target, build };
}

test("a directory has the archive, with steps and distfiles of the checkout", async () => {
  const { archive, target, build } = await scene();
  expect(await build(archive, ["--chroot"])).toMatchObject({ code: 0, stderr: "" });
  const read = (path: string) => readFileSync(join(target, path), "utf8");
  expect(read(SEED)).toBe("the seed of then");
  expect(read("init")).toBe("the init of then");
  expect(read("kaem.x86")).toBe("go on\n");
  expect(read("usr/bin/cc")).toBe("a compiler");
  expect(read("steps/helpers.sh")).toBe("true\n");
  expect(readlinkSync(join(target, "bin"))).toBe("usr/bin");
  expect(lstatSync(join(target, "usr/bin/cc")).nlink).toBe(1);
  const mode = lstatSync(join(target, "usr/bin/tcc")).mode & 0o7777;
  expect(mode).toBe(process.getuid?.() === 0 ? 0o4755 : 0o755);
  expect(readdirSync(join(target, "external"))).toEqual(["distfiles"]);
  expect(readdirSync(join(target, "external/distfiles"))).not.toContain("stale");
  for (const gone of ["steps/stale", "gone", "preseeded.kaem", "seed.kaem"]) {
    expect(() => lstatSync(join(target, gone))).toThrow("ENOENT");
  }
  // A new build replaces everything from the archive, including links.
  expect(await build(archive, ["--chroot"])).toMatchObject({ code: 0, stderr: "" });
  expect(readlinkSync(join(target, "bin"))).toBe("usr/bin");
  expect(await build(archive, ["--bare-metal"])).toMatchObject({ code: 0 });
  expect(readdirSync(target).sort()).toEqual([
    ".seedstrap",
    "init.img",
    "payload.img",
    "sbom.cdx.json",
    "seedstrap.json",
  ]);
});

test("a directory refuses an archive with the names of the target's own files", async () => {
  const victim = join(temp.make(), "victim");
  writeFileSync(victim, "mine");
  for (const name of ["seedstrap.json", "sbom.cdx.json", ".seedstrap"]) {
    const { archive, target, build } = await scene([], {}, [[victim, name]]);
    const refused = await build(archive, ["--chroot"]);
    expect(refused.code).toBe(7);
    expect(refused.stderr).toContain(`Cannot put ${name} into the target`);
    expect(existsSync(join(target, "seedstrap.json"))).toBe(false);
  }
  // Names of our work files are names like any other.
  const names = ["made", "lock", "parts", "scratch", "root.part"];
  const links = names.map((name) => [victim, name] as const);
  const { archive, target, build } = await scene([], { "root/.profile": "root's" }, links);
  expect(await build(archive, ["--chroot"])).toMatchObject({ code: 0, stderr: "" });
  for (const name of names) expect(readlinkSync(join(target, name))).toBe(victim);
  expect(readFileSync(join(target, "root/.profile"), "utf8")).toBe("root's");
  expect(readFileSync(victim, "utf8")).toBe("mine");
});

test("a boot image has copies for links, and is the same for every compression", async () => {
  const { dir, archive, target, build } = await scene();
  const digests = new Set<string>();
  const packers = [["gzip", "gz"], ["bzip2", "bz2"], ["xz", "xz"], ["zstd", "zst"]] as const;
  for (const [program, ending] of packers) {
    if (Bun.which(program) === null) {
      console.log(`skipped: an archive of ${program}: it is not installed here`);
      continue;
    }
    await run([program, ...(program === "zstd" ? ["-q"] : []), "-k", archive]);
    expect(await build(`${archive}.${ending}`, ["--bare-metal"])).toMatchObject({ code: 0 });
    digests.add(sha256(readFileSync(join(target, "init.img"))));
  }
  const built = await build(archive, ["--bare-metal"]);
  expect(built.stderr).toContain("bin (it is an empty directory, and was a link to usr/bin)");
  digests.add(sha256(readFileSync(join(target, "init.img"))));
  expect(digests.size).toBe(1);
  const image = join(target, "init.img");
  const ls = (await seedstrap(["image", "ls", image])).stdout;
  const cat = async (path: string) => (await seedstrap(["image", "cat", image, path])).stdout;
  for (const path of ["./usr/bin/tcc", "./usr/bin/cc", "./usr/bin/acc"]) {
    expect(await cat(path)).toBe("a compiler");
  }
  expect(await cat("./kaem.x86")).toBe("go on\n");
  for (const gone of ["stale", "./gone", "p_0.tar"]) {
    expect(ls).not.toContain(gone);
  }
  expect((await seedstrap(["image", "verify", image])).code).toBe(0);
  // The archive was never unpacked to a disk.
  expect(readdirSync(dir).filter((name) => name.startsWith(".") || name === "part")).toEqual([]);
});

test("an archive without the first programs is refused, and named", async () => {
  const { archive, kernel, target, build } = await scene(["x86/hex0_x86.hex0", "init", SEED]);
  for (
    const [args, missing] of [
      [["-q"], "x86/hex0_x86.hex0"],
      [["-c"], SEED],
      [["-q", "-qk", kernel], "init"],
    ] as const
  ) {
    const ran = await build(archive, args);
    expect(ran.stderr).toContain(`Cannot start from ${archive}: it has no ${missing}`);
    expect(ran.code).toBe(6);
  }
  const cut = await build(kernel, ["-c"]);
  expect(cut.stderr).toContain(kernel);
  expect(cut.code).toBe(6);
  expect(() => readdirSync(target)).toThrow("ENOENT");
});

test("an archive with a directory in place of a first file is refused, and named", async () => {
  const hex0 = "x86/hex0_x86.hex0";
  const refused = async (
    args: readonly string[],
    complaint: string,
    without: readonly string[],
    more: Readonly<Record<string, string>>,
  ) => {
    const { archive, kernel, build } = await scene(without, more);
    const ran = await build(archive, args.map((arg) => arg === "KERNEL" ? kernel : arg));
    expect(ran.stderr).toContain(`Cannot start from ${archive}: its ${complaint}`);
    expect(ran.code).toBe(6);
  };
  await refused(["-q"], `${hex0} is not a file`, [hex0], { [`${hex0}/x`]: "" });
  await refused(["-c"], `${SEED} is not a file`, [SEED], { [`${SEED}/x`]: "" });
  await refused(["-q", "-qk", "KERNEL"], "init is not a file", ["init"], { "init/x": "" });
  // The build has a file there, so members below it would be lost.
  const script = [["kaem.x86"], { "kaem.x86/x": "" }] as const;
  await refused(["-q"], "kaem.x86/x is below a path where the build has a file", ...script);
  await refused(["-c"], "kaem.x86/x is below a path where the build has a file", ...script);
  await refused(["-b"], "init/x is below a path where the build has a file", ["init"], {
    "init/x": "",
  });
  await refused(["-b"], "bootstrap-seeds is not a directory", [SEED], { "bootstrap-seeds": "" });
});

test("a first file can be a link to a file", async () => {
  const { archive, target, build } = await scene(["x86/kaem-minimal.hex0"], {}, [
    ["../x86/hex0_x86.hex0", "x86/kaem-minimal.hex0"],
  ]);
  expect(await build(archive, ["-q"])).toMatchObject({ code: 0 });
  const cat = ["image", "cat", join(target, "init.img"), "x86/kaem-minimal.hex0"];
  expect((await seedstrap(cat)).stdout).toBe("# hex0 of then\n");
});

testWith("mke2fs")(
  "a disk has the modes, links and devices of the archive, for any user who builds it",
  async () => {
    const { dir, archive, kernel, target, build } = await scene();
    // Devices, which only root could create in a directory.
    const special = join(dir, "special.tar");
    const packed = await run([
      "sh",
      "-c",
      `cp "$1" "$2" && python3 -c 'import sys, tarfile
with tarfile.open(sys.argv[1], "a") as tar:
    for name, kind, major, minor in (("./dev/null", tarfile.CHRTYPE, 1, 3), ("./dev/sd a", tarfile.BLKTYPE, 8, 0), ("./dev/<2>", tarfile.CHRTYPE, 1, 9)):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.devmajor, member.devminor = kind, 0o622, major, minor
        tar.addfile(member)
' "$2"`,
      "sh",
      archive,
      special,
    ]);
    if (packed.code !== 0) {
      console.log("skipped: devices of an archive on a disk: there is no python3 to pack one");
      return;
    }
    const args = ["-q", "-qs", "1100", "-qk", kernel];
    expect(await build(special, args)).toMatchObject({ code: 0, stderr: "" });
    const image = `${join(target, "disk.img")}?offset=${1024 ** 3}`;
    const stat = async (path: string) =>
      (await run(["/usr/sbin/debugfs", "-R", `stat "${path}"`, image])).stdout;
    expect(await stat("/usr/bin/tcc")).toContain("Mode:  04755");
    expect(await stat("/bin")).toContain('Fast link dest: "usr/bin"');
    expect(await stat("/dev/null")).toMatch(/character special.*Mode: {2}0622[^]*number: 01:03/);
    expect(await stat("/dev/sd a")).toMatch(/block special.*Mode: {2}0622[^]*number: 08:00/);
    // debugfs reads such a name as the number of an inode, here that of the root.
    expect(await stat("/dev/<2>")).toMatch(/character special.*Mode: {2}0622[^]*number: 01:09/);
    const check = await run(["/usr/sbin/e2fsck", "-fn", image]);
    expect(check).toMatchObject({ code: 0 });
    const digest = readRecord(target).images[0]!.blocksSha256;
    const obstacle = nobodyObstacle();
    if (obstacle !== undefined) {
      console.log(`skipped: a disk built by another user: ${obstacle}`);
      return;
    }
    await run(["rm", "-rf", target]);
    const command = asNobody(dir);
    await run(["chmod", "-R", "a+rwX", dir]);
    const again = await build(special, args, { command, cwd: dir, env: { HOME: dir } });
    expect(again).toMatchObject({ code: 0, stderr: "" });
    expect(readRecord(target).images[0]!.blocksSha256).toBe(digest!);
  },
);

test("a build from an archive is reproduced with the same archive, not with another", async () => {
  const { dir, archive, target, build } = await scene();
  expect(await build(archive, ["--chroot"])).toMatchObject({ code: 0, stderr: "" });
  const record = join(target, "seedstrap.json");
  const again = (...args: string[]) =>
    seedstrap([
      ...["reproduce", record, "--tree", join(dir, "tree"), "-m", `file://${dir}/mirror`],
      ...args,
    ]);
  const without = await again();
  expect(without.code).toBe(2);
  expect(without.stderr).toContain("Cannot reproduce without --early-preseed ARCHIVE");
  expect(await again("--early-preseed", archive)).toMatchObject({ code: 0, stderr: "" });

  const { archive: other, dir: elsewhere } = await scene();
  writeFiles(join(elsewhere, "root"), { "usr/bin/tcc": "another compiler" });
  const tar = ["tar", "-C", join(elsewhere, "root"), "-cf", other, "."];
  expect(await run(tar)).toMatchObject({ code: 0 });
  const differs = await again("--early-preseed", other);
  expect(differs.code).toBe(11);
  expect(differs.stdout).toContain("usr/bin/tcc: differs\n");
  expect(differs.stdout).toContain("Built from something else: early-preseed\n");
});
