// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { MANIFEST_TYPE } from "../../src/fetch/registry.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { LINUX_PARTITION, mbr } from "../../src/format/mbr.ts";
import { LAYER_CLUSTER_BYTES, qcow2 } from "../../src/format/qcow2.ts";
import { GIB, SECTOR_BYTES } from "../../src/format/segment.ts";
import { makeCheckpointsDir, putLayers } from "../../src/record/checkpoints.ts";
import { sha256 } from "../fetch/servers.ts";
import { makeFileSystem } from "../support/disks.ts";
import { sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { copyInto, QEMU } from "../support/layers.ts";
import { REGISTRY, TestRegistry } from "../support/registry.ts";
import { run, seedstrap, testWith } from "../support/run.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const testWithQemu = testWith(QEMU);
const missing = ["mke2fs", "tar", "bzip2", "sha256sum"].find((name) => Bun.which(name) === null);
if (missing !== undefined) {
  console.log(`skipped: tests of harvest: ${missing} is not installed here`);
}

/** Packs these files as live-bootstrap packs a package. */
async function pack(path: string, files: Readonly<Record<string, string>>): Promise<void> {
  const root = temp.make();
  writeFiles(root, files);
  const ran = await run([
    "sh",
    "-c",
    'tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 -cf - . | bzip2 --best >"$2"',
    "sh",
    root,
    path,
  ]);
  if (ran.code !== 0) throw new Error(ran.stderr);
}

const LONG = `usr/share/${"a long name/".repeat(12)}file`;

/** Makes the disk of a finished bootstrap: the boot image, and a partition from 1 GiB on. */
async function finishedDisk(word: string, sums?: string): Promise<string> {
  const dir = temp.make();
  const repo = join(dir, "root/external/repo");
  mkdirSync(repo, { recursive: true });
  await pack(join(repo, "same-1.0_0.tar.bz2"), { "usr/bin/same": "same" });
  await pack(join(repo, "other-2.0_1.tar.bz2"), {
    "usr/bin/other": word,
    "usr/bin/both": "both",
    [LONG]: word,
    [`usr/only ${word}`]: "",
  });
  writeFileSync(join(repo, "odd name\n"), word);
  const names = ["same-1.0_0.tar.bz2", "other-2.0_1.tar.bz2"];
  writeFiles(join(dir, "root"), {
    "steps/SHA256SUMS.pkgs": sums ??
      [...names.map((name) => `${sha256OfFile(join(repo, name))}  ${name}`), ""].join("\n") +
        `${"0".repeat(64)}  not-here_0.tar.bz2\n`,
  });
  const disk = join(dir, "init.img");
  makeFileSystem(disk, join(dir, "root"), {
    type: "ext4",
    size: "16384k",
    options: ["-E", `offset=${GIB}`],
  });
  // sfdisk keeps the code of the boot sector, and nothing else of it.
  const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");
  const sector = mbr({
    isBootable: false,
    type: LINUX_PARTITION,
    startSector: GIB / SECTOR_BYTES,
    sectorCount: 32768,
  }, 0);
  sector.set(stage1.subarray(0, 440));
  writeFileSync(disk, Buffer.concat([sector, Buffer.from("90 90 text of stage2")]), { flag: "r+" });
  return disk;
}

describe.skipIf(missing !== undefined)("harvest", () => {
  let one = "";
  let two = "";
  beforeAll(async () => {
    one = await finishedDisk("one");
    two = await finishedDisk("two");
  });

  testWithQemu("reads what a guest has written into layers over an image", async () => {
    const dir = temp.make();
    const image = join(dir, "init.img");
    const { size } = statSync(one);
    writeFileSync(image, "as it was built");
    truncateSync(image, size);
    const layer = join(makeCheckpointsDir(dir), "init.img.1.qcow2");
    writeFileSync(
      layer,
      qcow2(size, { name: "../../init.img", format: "raw" }, LAYER_CLUSTER_BYTES),
    );
    await copyInto(one, layer);
    const out = join(temp.make(), "run");
    expect(await seedstrap(["harvest", image, "-o", out])).toMatchObject({ code: 6 });
    putLayers(dir, [{ image: "init.img", layers: ["init.img.1.qcow2"] }]);
    const ran = await seedstrap(["harvest", image, "-o", out]);
    expect(ran.stderr).toBe(`${image}: reading what the guest has written over it, in 1 layer\n`);
    expect(ran.stdout).toContain(`${out}: 3 packages from /external/repo, `);
    expect(ran.stdout).toContain("2 of them match /steps/SHA256SUMS.pkgs\n");
    const listed = await seedstrap(["image", "ls", image]);
    expect(listed.stdout).toContain("external/repo/same-1.0_0.tar.bz2");
    expect(listed.stderr).toBe(ran.stderr);
    expect(readFileSync(image).subarray(0, 15).toString()).toBe("as it was built");
  }, 60_000);

  test("copies the packages out of a disk, and sha256sum agrees with the list", async () => {
    const out = join(temp.make(), "run");
    const ran = await seedstrap(["harvest", one, "-o", out]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toContain(`${out}: 3 packages from /external/repo, `);
    expect(ran.stdout).toContain("2 of them match /steps/SHA256SUMS.pkgs\n");
    expect(readdirSync(out).sort()).toEqual(
      ["SHA256SUMS", "odd name\n", "other-2.0_1.tar.bz2", "same-1.0_0.tar.bz2"],
    );
    const checked = await run(["sha256sum", "--strict", "-c", "SHA256SUMS"], { cwd: out });
    expect(checked).toMatchObject({ code: 0, stderr: "" });
    expect(checked.stdout.match(/OK$/gm)).toHaveLength(3);
    const json = await seedstrap(["harvest", "--json", one, "-o", join(temp.make(), "run")]);
    expect(JSON.parse(json.stdout)).toMatchObject({ verified: 2, wrong: [], skipped: [] });
  });

  testWith(REGISTRY)("pushes the packages to a registry", async () => {
    const registry = await TestRegistry.start(temp.make());
    try {
      const url = `oci://${registry.host}/run:one`;
      const args = ["harvest", "--json", one, "-o", join(temp.make(), "run"), "--push", url];
      const ran = await seedstrap(args);
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(JSON.parse(ran.stdout).push).toMatchObject({ url, files: 4, pushed: 4 });
      const answer = await fetch(`http://${registry.host}/v2/run/manifests/one`, {
        headers: { Accept: MANIFEST_TYPE },
      });
      const { layers } = await answer.json();
      const titles = layers.map(({ annotations }: { annotations: Record<string, string> }) =>
        annotations["org.opencontainers.image.title"]
      );
      expect(titles).toEqual(
        ["odd name\n", "other-2.0_1.tar.bz2", "same-1.0_0.tar.bz2", "SHA256SUMS"],
      );
    } finally {
      await registry.kill();
    }
  }, 60_000);

  test("takes no link, and says what is no package, of a directory as of a disk", async () => {
    const dir = temp.make();
    const secret = join(dir, "of this machine");
    writeFileSync(secret, "secret");
    const repo = join(dir, "root/external/repo");
    writeFiles(repo, { "p_0.tar.bz2": "p", "sub/x": "x", "was_0.tar.bz2": "was" });
    symlinkSync(secret, join(repo, "q_0.tar.bz2"));
    symlinkSync("p_0.tar.bz2", join(repo, "r_0.tar.bz2"));
    expect(await run(["mkfifo", join(repo, "f_0.tar.bz2")])).toMatchObject({ code: 0 });
    const disk = join(dir, "disk.img");
    makeFileSystem(disk, join(dir, "root"), { size: "8M" });
    for (const from of [disk, join(dir, "root")]) {
      const out = join(temp.make(), "out");
      const ran = await seedstrap(["harvest", from, "-o", out]);
      expect(ran.code).toBe(0);
      expect(ran.stderr.split("\n").sort()).toEqual([
        "",
        "warning: /external/repo/f_0.tar.bz2 is left out: it is a fifo",
        "warning: /external/repo/q_0.tar.bz2 is left out: it is a symbolic link",
        "warning: /external/repo/r_0.tar.bz2 is left out: it is a symbolic link",
      ]);
      expect(ran.stdout).toContain("3 packages from /external/repo, ");
      expect(ran.stdout).toContain(" and SHA256SUMS; 3 left out\n");
      expect(readdirSync(out).sort())
        .toEqual(["SHA256SUMS", "p_0.tar.bz2", "sub", "was_0.tar.bz2"]);
      // A harvest in which somebody has put other things.
      symlinkSync(secret, join(out, "q_0.tar.bz2"));
      writeFileSync(join(out, "r_0.tar.bz2"), "p");
      rmSync(join(out, "was_0.tar.bz2"));
      await run(["mkfifo", join(out, "was_0.tar.bz2")]);
      symlinkSync("/", join(out, "sub/new"));
      const compare = ["harvest", "--compare", from, out];
      const compared = await seedstrap(compare);
      expect(compared.code).toBe(11);
      expect(compared.stdout.split("\n")).toEqual([
        "no package: f_0.tar.bz2: a fifo -> nothing",
        "no package: q_0.tar.bz2: a symbolic link -> a symbolic link",
        "no package: r_0.tar.bz2: a symbolic link -> a file",
        "no package: sub/new: nothing -> a symbolic link",
        "no package: was_0.tar.bz2: a file -> a fifo",
        "",
      ]);
      const json = JSON.parse((await seedstrap([...compare, "--json"])).stdout);
      expect(json.differences[3])
        .toEqual({ kind: "no package", name: "sub/new", found: ["nothing", "a symbolic link"] });
    }
  });

  test("refuses a package whose SHA-256 is not the listed one, and takes it with --force", async () => {
    const disk = await finishedDisk("x", `${sha256("y")}  same-1.0_0.tar.bz2\n`);
    const dir = temp.make();
    const ran = await seedstrap(["harvest", disk, "-o", join(dir, "out")]);
    expect(ran.stderr).toContain("Cannot trust same-1.0_0.tar.bz2: SHA-256 is");
    expect(ran).toMatchObject({ code: 5, stdout: "" });
    expect(readdirSync(dir)).toEqual([]);
    const forced = await seedstrap(["harvest", "--force", disk, "-o", join(dir, "out")]);
    expect(forced.code).toBe(0);
    expect(forced.stderr).toContain("same-1.0_0.tar.bz2 is not as a list on the disk says");
    expect(readFileSync(join(dir, "out/SHA256SUMS"), "utf8")).toContain("  same-1.0_0.tar.bz2\n");
  });

  test("checks every list on the disk, and does not keep the one in the repository", async () => {
    const root = temp.make();
    const repo = { "a.tar": "a", "SHA256SUMS": `${sha256("b")} *./a.tar\nno line of a list\n` };
    writeFiles(join(root, "external/repo"), repo);
    writeFiles(root, { "steps/SHA256SUMS.pkgs": `${sha256("a")}  a.tar\n` });
    const dir = temp.make();
    makeFileSystem(join(dir, "disk.img"), root, { size: "8M" });
    const args = ["harvest", join(dir, "disk.img"), "-o", join(dir, "out")];
    const ran = await seedstrap(args);
    expect(ran.stderr).toContain(`/external/repo/SHA256SUMS says ${sha256("b")}`);
    expect(ran.code).toBe(5);
    expect((await seedstrap([...args, "--force"])).code).toBe(0);
    const sums = readFileSync(join(dir, "out/SHA256SUMS"), "utf8");
    expect(sums).toBe(`${sha256("a")}  a.tar\n`);
  });

  test("refuses a disk without packages, and a file that is no disk", async () => {
    const dir = temp.make();
    writeFiles(join(dir, "root"), { "external/other": "" });
    makeFileSystem(join(dir, "disk.img"), join(dir, "root"), { size: "8M" });
    const ran = await seedstrap(["harvest", join(dir, "disk.img"), "-o", join(dir, "out")]);
    expect(ran.stderr).toContain("it has no /external/repo");
    expect(ran.code).toBe(6);
    writeFileSync(join(dir, "none"), "x");
    expect((await seedstrap(["harvest", join(dir, "none"), "-o", join(dir, "out")])).code).toBe(6);
    for (const args of [[one], ["--compare", one], ["--compare", one, two, "-o", dir]]) {
      expect((await seedstrap(["harvest", ...args])).code).toBe(2);
    }
  });

  test("--compare names packages and members that differ, for disks and directories", async () => {
    const dir = temp.make();
    for (const [disk, name] of [[one, "run1"], [two, "run2"]] as const) {
      expect((await seedstrap(["harvest", disk, "-o", join(dir, name)])).code).toBe(0);
    }
    for (const [a, b] of [["run1", "run2"], [one, "run2"], [one, two]] as const) {
      const ran = await seedstrap(["harvest", "--compare", a, b], { cwd: dir });
      expect(ran.stderr).toContain(`${a} and ${b} differ in 2 of 3 packages`);
      expect(ran.stdout.replace(/[0-9a-f]{64}/g, "SHA")).toBe([
        "different: odd name\\x0a",
        "    SHA -> SHA",
        "    Cannot read archive odd name\\x0a: it is not a tar archive",
        "different: other-2.0_1.tar.bz2",
        "    SHA -> SHA",
        "    different: usr/bin/other",
        "    only in first: usr/only one",
        "    only in second: usr/only two",
        `    different: ${LONG}`,
        "",
      ].join("\n"));
      expect(ran.code).toBe(11);
    }
    const same = await seedstrap(["harvest", "--compare", one, "run1"], { cwd: dir });
    expect(same).toEqual({ code: 0, stdout: "all 3 packages are the same\n", stderr: "" });
    writeFileSync(join(dir, "run2/other-2.0_1.tar.bz2"), "BZh9 no more");
    const damaged = await seedstrap(["harvest", "--compare", "--json", "run1", "run2"], {
      cwd: dir,
    });
    expect(JSON.parse(damaged.stdout).differences[1]).toMatchObject({
      kind: "different",
      unread: "Cannot expand other-2.0_1.tar.bz2: it ends too early",
    });
  });
});
