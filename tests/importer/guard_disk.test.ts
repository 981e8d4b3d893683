// SPDX-License-Identifier: MIT
/**
 * The script that looks at the disk to install to, sourced as the generated scripts do it, in a
 * root of its own. Its disks are files, and it has no /dev/null, as the booted machine has none.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { type Ran, run, seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Images of a bootstrap, and the files of the guard as they are in them. */
const media = { boot: new Uint8Array(), payload: new Uint8Array(), steps: "", told: "" };

beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), "guard-"));
  try {
    // A stage2 of more than the MiB that is always read.
    const text = `${"# the second stage\n".repeat(60_000)}90 90 F4\n`;
    const files = { "builder-hex0/builder-hex0-x86-stage2.hex0": text };
    const { tree, mirror } = writeMiniTree(dir, miniTree({ movesToDisk: true, files }));
    const target = join(dir, "target");
    const options = ["--bare-metal", "--payload", "always", "-m", `file://${mirror}`, "-t", target];
    const built = await seedstrap(["build", "--tree", tree, ...options]);
    expect(built.code).toBe(0);
    media.told = built.stdout;
    const verified = await seedstrap(["image", "verify", "--tree", tree, join(target, "init.img")]);
    expect(verified.code).toBe(0);
    media.boot = readFileSync(join(target, "init.img"));
    media.payload = readFileSync(join(target, "payload.img"));
    media.steps = mkdtempSync(join(tmpdir(), "guard-steps-"));
    for (const name of ["guard_disk.sh", "guard_disk.boot"]) {
      const image = join(target, "init.img");
      const { stdout } = await seedstrap(["image", "cat", image, `steps/improve/${name}`]);
      writeFileSync(join(media.steps, name), stdout);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

afterAll(() => rmSync(media.steps, { recursive: true, force: true }));

type Disk = Uint8Array | number;
interface Scene {
  readonly disk?: string;
  readonly overwrites?: boolean;
  /** Content by name of the disk, or a number of bytes that are zeros. */
  readonly disks: Readonly<Record<string, Disk>>;
  /** Name of the shell. */
  readonly shell?: string;
}

/** Sources the guard on a machine with these disks. */
async function guard({ disk = "sda", overwrites, disks, shell = "bash" }: Scene): Promise<Ran> {
  const dir = temp.make();
  for (const name of ["dev", "proc", "bin"]) mkdirSync(join(dir, name));
  cpSync(media.steps, join(dir, "improve"), { recursive: true });
  for (const [name, content] of Object.entries(disks)) {
    writeFileSync(join(dir, "dev", name), typeof content === "number" ? "" : content);
    if (typeof content === "number") truncateSync(join(dir, "dev", name), content);
  }
  const rows = Object.keys(disks).map((name) => `   8        0    65536 ${name}`);
  writeFileSync(
    join(dir, "proc/partitions"),
    ["major minor  #blocks  name", "", "   1        0     8192 ram0", ...rows, ""].join("\n"),
  );
  // While it waits for a disk, one comes.
  const sleep = "#!/bin/sh\n[ ! -e /dev/late ] || mv /dev/late /dev/sda\n";
  writeFileSync(join(dir, "bin/sleep"), sleep);
  chmodSync(join(dir, "bin/sleep"), 0o755);
  const config = `DISK=${disk} OVERWRITE_DISK=${overwrites ? "True" : ""}`;
  const before = Object.keys(disks).map((name) => readFileSync(join(dir, "dev", name)));
  const root = ["--ro-bind", "/usr", "/usr", "--bind", join(dir, "improve"), "/steps/improve"];
  for (const name of ["bin", "lib", "lib64"]) root.push("--symlink", `usr/${name}`, `/${name}`);
  for (const name of ["dev", "proc"]) root.push("--bind", join(dir, name), `/${name}`);
  root.push("--bind", join(dir, "bin"), "/stub", "--setenv", "PATH", "/stub:/usr/bin:/bin");
  const script = `set -e; ${config}; . /steps/improve/guard_disk.sh; echo "next$guard_kind"; ls /`;
  const ran = await run(["bwrap", "--unshare-user", ...root, "--", shell, "-c", script]);
  if (disks["late"] === undefined) {
    // It only reads.
    const after = Object.keys(disks).map((name) => readFileSync(join(dir, "dev", name)));
    expect(after.map((bytes, at) => bytes.equals(before[at]!))).toEqual(after.map(() => true));
  }
  return ran;
}

const works = await run(["bwrap", "--ro-bind", "/", "/", "true"]).catch(() => ({ code: 1 }));
const suite = works.code === 0 ? describe : describe.skip;
if (works.code !== 0) console.log("skipped: the guard of the disk: bwrap makes no root here");

const MIB = 1024 * 1024;
/** A disk of somebody: a partition table, and nothing else in its first MiB. */
function foreignDisk(at = 510): Uint8Array {
  const disk = new Uint8Array(2 * MIB);
  disk.set([0x55, 0xaa], at);
  return disk;
}
/** The boot disk after a run that came to nothing: it has made a partition. */
function usedBootDisk(): Uint8Array {
  const disk = Uint8Array.from(media.boot);
  disk.set([0, 0, 1, 1, 0x83, 2, 3, 4, 0, 0, 0x20, 0, 0, 0, 0xc0, 1], 446);
  return disk;
}
const done = (what: string) => ({
  code: 0,
  stdout: expect.stringContaining(
    `guard_disk: /dev/sda: ${what}: the system is installed to it\nnext`,
  ),
});
const refused = (why: string) => ({
  code: 1,
  stdout: expect.stringContaining(`REFUSED: the system is not installed to /dev/sda: ${why}`),
});

test("the steps for a real machine say which disk is installed to, and what is refused", () => {
  expect(media.told).toContain(
    "Detach every disk that is not needed: the system is installed to what Linux calls sda. " +
      "The machine stops if sda is neither empty nor the drive that it boots from; --disk names " +
      "another.",
  );
  expect(media.told).toContain(
    "Boot the machine from the drive with init.img. The system is installed to that drive.",
  );
});

suite("guard_disk", () => {
  for (const shell of ["bash", "dash"]) {
    test(`in ${shell}, the boot disk beside the payload is accepted, and leaves no trace`, async () => {
      const ran = await guard({ shell, disks: { sda: media.boot, sdb: media.payload } });
      expect({ ...ran }).toMatchObject(done("boot disk"));
      expect(ran.stderr).toBe("");
      const { stdout } = ran;
      expect(stdout.slice(stdout.indexOf("next")).split("\n")).toEqual(
        ["next", "bin", "dev", "lib", "lib64", "proc", "steps", "stub", "usr", ""],
      );
    });
    test(`in ${shell}, a disk with something on it is refused`, async () => {
      const ran = await guard({ shell, disks: { sda: foreignDisk(), sdb: media.boot } });
      expect({ ...ran }).toMatchObject(refused("it is neither empty nor the boot disk"));
      expect(ran.stdout).toContain("--overwrite-disk");
      expect(ran.stdout).not.toContain("next");
    });
  }

  test("the boot disk is known when a run has made its partition", async () => {
    expect(await guard({ disks: { sda: usedBootDisk() } })).toMatchObject(done("boot disk"));
  });

  test("an empty disk is accepted, whatever else there is", async () => {
    const disks = { sda: 3 * MIB, sdb: media.boot, sdc: media.boot, sdd: media.payload };
    expect(await guard({ disks })).toMatchObject(done("empty"));
    expect(await guard({ disks: { sda: 512 } })).toMatchObject(done("empty"));
  });

  test("one byte in the first MiB makes a disk that is not empty", async () => {
    for (const at of [0, 1024, MIB - 2]) {
      const ran = await guard({ disks: { sda: foreignDisk(at) } });
      expect({ ...ran }).toMatchObject(refused("it is neither empty nor"));
    }
  });

  test("the disk of another builder-hex0 is refused", async () => {
    const other = Uint8Array.from(media.boot);
    other[MIB]! ^= 1; // in its stage2
    expect(await guard({ disks: { sda: other } })).toMatchObject(
      refused("it is neither empty nor"),
    );
  });

  test("the payload disk is refused, also where any may be overwritten", async () => {
    for (const overwrites of [false, true]) {
      const ran = await guard({ overwrites, disks: { sda: media.payload, sdb: media.boot } });
      expect({ ...ran }).toMatchObject(refused("it is the payload disk"));
      expect(ran.stdout).not.toContain("--overwrite-disk");
    }
  });

  test("two boot disks are refused: one may hold an earlier run", async () => {
    const disks = { sda: usedBootDisk(), sdb: media.boot, sdc: media.boot };
    const why = "which one has booted is not known: the same begins /dev/sdb /dev/sdc";
    expect(await guard({ disks })).toMatchObject(refused(why));
    expect(await guard({ disks, overwrites: true })).toMatchObject(
      done("boot, OVERWRITE_DISK is True"),
    );
  });

  test("--overwrite-disk accepts a disk with something on it, and says so", async () => {
    const ran = await guard({ overwrites: true, disks: { sda: foreignDisk() } });
    expect({ ...ran }).toMatchObject(done("foreign, OVERWRITE_DISK is True"));
  });

  test("a disk that comes late is waited for, and one that never comes is an error", async () => {
    expect(await guard({ disks: { late: media.boot } })).toMatchObject(done("boot disk"));
    expect(await guard({ disks: { sdb: media.boot } })).toMatchObject(refused("it cannot be read"));
  });

  test("a drive without a medium, and no name of a disk, are errors", async () => {
    expect(await guard({ disks: { sda: 0 } })).toMatchObject(refused("it has no medium"));
    const ran = await guard({ disk: "", disks: { sda: media.boot } });
    expect({ ...ran }).toMatchObject({ code: 1 });
    expect(ran.stdout).toContain("DISK in bootstrap.cfg is empty");
  });

  test("a program that is missing does not make a disk one that may be written to", async () => {
    for (const program of ["dd", "od", "tr", "wc", "sha256sum", "cut", "grep", "stat"]) {
      const ran = await guardWithout(program, { sda: foreignDisk(), sdb: media.boot });
      expect([program, ran.code]).toEqual([program, ran.code === 127 ? 127 : 1]);
      expect(ran.stdout).not.toContain("next");
    }
  });
});

/** Sources the guard where one program fails. */
async function guardWithout(program: string, disks: Readonly<Record<string, Disk>>): Promise<Ran> {
  const steps = media.steps;
  const without = join(temp.make(), "improve");
  cpSync(steps, without, { recursive: true });
  const script = readFileSync(join(without, "guard_disk.sh"), "utf8");
  writeFileSync(join(without, "guard_disk.sh"), `${program}() { return 127; }\n${script}`);
  media.steps = without;
  try {
    return await guard({ disks });
  } finally {
    media.steps = steps;
  }
}
