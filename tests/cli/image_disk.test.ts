// SPDX-License-Identifier: MIT
/** `seedstrap image` with disks, devices, checkouts and two images. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { MIB } from "../../src/format/segment.ts";
import { sha256 } from "../fetch/servers.ts";
import { makeFileSystem } from "../support/disks.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap } from "../support/run.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const boot = join(dir, "target/init.img");
const carried = join(dir, "target/payload.img");
const tree = join(dir, "tree");

beforeAll(async () => {
  const ran = await buildIn(dir, setUp(dir));
  if (ran.code !== 0) throw new Error(ran.stderr);
});

/** Copies an image to a directory without a record. */
function copied(path: string, change: (bytes: Buffer) => void = () => {}): string {
  const place = join(temp.make(), "copy.img");
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(place, bytes);
  return place;
}

test("image ls -l takes source steps from the record or a checkout, or leaves them out", async () => {
  const ls = async (...args: string[]) =>
    JSON.parse((await seedstrap(["image", "ls", "-l", "--json", ...args])).stdout).entries as {
      path: string;
      steps: unknown;
    }[];
  const stepsIn = async (...args: string[]) =>
    Object.fromEntries((await ls(...args)).map(({ path, steps }) => [path, steps]));
  const known = await stepsIn(boot);
  expect(known["./external/distfiles/alpha-1.0.tar.gz"]).toEqual(["alpha-1.0"]);
  expect(known["./steps/beta-2.0/sources"]).toEqual(["beta-2.0"]);
  expect(known["./steps/improve/get_network.sh"]).toEqual(["improve: get_network"]);
  expect(known["./steps/jump/fiwix.sh"]).toEqual(["jump: fiwix"]);
  expect(known["./seed.kaem"]).toBeUndefined();
  const copy = copied(carried);
  expect((await stepsIn(copy))["gamma-3.0.tar.gz"]).toBeUndefined();
  for (const args of [["--tree", tree], ["--record", join(dir, "target/seedstrap.json")]]) {
    expect((await stepsIn(copy, ...args))["gamma-3.0.tar.gz"]).toEqual(["gamma-3.0"]);
  }
});

test("image verify --record finds a copy in the record by its kind", async () => {
  const record = ["--record", join(dir, "target")];
  const whole = await seedstrap(["image", "verify", copied(carried), ...record]);
  expect(whole).toMatchObject({ code: 0, stderr: "" });
  expect(whole.stdout).toContain("every file and the image are as built: SHA-256 ");
  const damaged = copied(carried, (bytes) => bytes[1000]! ^= 1);
  expect((await seedstrap(["image", "verify", damaged])).code).toBe(0);
  expect((await seedstrap(["image", "verify", damaged, ...record])).code).toBe(5);
  expect((await seedstrap(["image", "verify", damaged, "--record", temp.make()])).code).toBe(7);
});

test("image verify --tree passes what was built from the checkout", async () => {
  for (const path of [boot, carried]) {
    const ran = await seedstrap(["image", "verify", copied(path), "--tree", tree, "--json"]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    const { same, others, generated } = JSON.parse(ran.stdout).tree;
    expect(same).toBeGreaterThan(2);
    expect(others).toBe(0);
    expect(generated).toEqual(path === boot ? ["steps/bootstrap.cfg"] : []);
  }
});

test.each([
  [
    "a file that differs",
    (bytes: Buffer) => bytes.write("X", bytes.indexOf("exec true\n")),
    "seed.kaem is",
  ],
  [
    "the manifest",
    (bytes: Buffer) => bytes.write("X", bytes.indexOf("# a miniature")),
    "steps/manifest is",
  ],
  [
    "a file that the checkout does not have",
    (bytes: Buffer) => bytes.write("src 10 ./seed.kaeX\n", bytes.indexOf("src 10 ./seed.kaem\n")),
    "seed.kaeX is not of this checkout",
  ],
  [
    "a distfile",
    (bytes: Buffer) => bytes[bytes.indexOf("alpha-1.0.tar.gz\n") + 100]! ^= 1,
    "alpha-1.0.tar.gz is",
  ],
])("image verify --tree finds %s", async (_, change, message) => {
  const ran = await seedstrap(["image", "verify", copied(boot, change), "--tree", tree]);
  expect(ran.stderr).toContain(message);
  expect(ran.code).toBe(5);
});

test("image verify --tree finds a file that is missing", async () => {
  const other = temp.make();
  await run(["cp", "-r", tree, join(other, "tree")]);
  writeFiles(join(other, "tree"), { "steps/later": "new" });
  const ran = await seedstrap(["image", "verify", boot, "--tree", join(other, "tree")]);
  expect(ran.stderr).toContain("steps/later is missing");
  expect(ran.code).toBe(5);
});

test("image diff lists what was added, removed, changed and moved", async () => {
  const other = temp.make();
  const args = setUp(other, {
    files: {
      "seed/seed.kaem": "exec false\n",
      "steps/helpers.sh": "false\n",
      "steps/moved.sh": "true\n",
    },
  });
  expect((await buildIn(other, args)).code).toBe(0);
  const changed = join(other, "target/init.img");
  const ran = await seedstrap(["image", "diff", boot, changed]);
  expect(ran.code).toBe(11);
  expect(ran.stderr).toContain(`${boot} and ${changed} differ: 1 added, 0 removed, 2 changed`);
  expect(ran.stdout).toContain(
    "changed  seed.kaem: size, content (10 -> 11 bytes)\n    @@ -1 +1 @@\n    -exec true\n    +exec false\n",
  );
  expect(ran.stdout).toContain("added    steps/moved.sh  (5 bytes)\n");
  const json = await seedstrap(["image", "diff", changed, boot, "--json"]);
  expect(json.code).toBe(11);
  const { equal, differences } = JSON.parse(json.stdout);
  expect(equal).toBe(false);
  expect(differences.map(({ kind, path }: { kind: string; path: string }) => `${kind} ${path}`))
    .toEqual(["changed seed.kaem", "changed steps/helpers.sh", "removed steps/moved.sh"]);
  const same = await seedstrap(["image", "diff", boot, copied(boot), "--json"]);
  expect(same).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(same.stdout)).toEqual({ schema: 1, equal: true, differences: [] });
});

test("image diff recognises a moved file, and compares images of different kinds", async () => {
  const moved = copied(boot, (bytes) => {
    bytes.write("src 10 ./moved.to!\n", bytes.indexOf("src 10 ./seed.kaem\n"));
  });
  const ran = await seedstrap(["image", "diff", boot, moved]);
  expect(ran.stdout).toBe("moved    seed.kaem -> moved.to!\n");
  expect(ran.code).toBe(11);
  const kinds = await seedstrap(["image", "diff", carried, boot, "--json"]);
  expect(kinds.code).toBe(11);
  expect((await seedstrap(["image", "diff", boot, join(dir, "none")])).code).toBe(7);
});

test("image extract restores the checkout, and empty files that the record names", async () => {
  const out = join(temp.make(), "out");
  const ran = await seedstrap(["image", "extract", boot, "-o", out]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect((await run(["diff", "-r", join(tree, "steps"), join(out, "steps")])).stdout).toBe(
    `Only in ${out}/steps: bootstrap.cfg\n`,
  );
  expect(readFileSync(join(out, "empty"), "utf8")).toBe("");
  const again = await seedstrap(["image", "extract", boot, "-o", out]);
  expect(again.code).toBe(7);
  expect(again.stderr).toContain("it is not empty");
});

const hasTools = Bun.which("mke2fs") !== null;
if (!hasTools) console.log("skipped: disks on the command line: mke2fs is not installed here");

describe.skipIf(!hasTools)("a disk", () => {
  const disk = join(dir, "disk.img");
  beforeAll(() => {
    writeFiles(join(dir, "root"), { "etc/a b": "text\n", "etc/\x1b[31m": "evil", "steps/x/y": "" });
    makeFileSystem(disk, join(dir, "root"), { type: "ext3", size: "8M" });
  });

  test("is listed, printed and verified", async () => {
    const ls = await seedstrap(["image", "ls", disk]);
    expect(ls.stdout).toContain("           5  /etc/a b\n");
    // A program gets names as they are.
    expect(ls.stdout).toContain("           4  /etc/\x1b[31m\n");
    const long = await seedstrap(["image", "ls", "-l", disk]);
    expect(long.stdout).toMatch(
      new RegExp(`^-rw-r--r-- +5 +\\d+  ${sha256("text\n")}  - +/etc/a b$`, "m"),
    );
    expect((await seedstrap(["image", "cat", disk, "etc/a b"])).stdout).toBe("text\n");
    const directory = await seedstrap(["image", "cat", disk, "/etc"]);
    expect(directory.stderr).toContain("it is a directory");
    expect(directory.code).toBe(2);
    const verified = await seedstrap(["image", "verify", disk]);
    expect(verified.stdout).toStartWith("ext3, from 0 to 8388608: 3 files, 9 bytes;");
    const json = await seedstrap(["image", "verify", "--json", disk]);
    expect(JSON.parse(json.stdout)).toMatchObject({ kind: "disk", fileSystem: "ext3", files: 3 });
  });

  test("that a boot image has become is not verified as what was built", async () => {
    const target = temp.make();
    copyFileSync(join(dir, "target/seedstrap.json"), join(target, "seedstrap.json"));
    copyFileSync(disk, join(target, "init.img"));
    const ran = await seedstrap(["image", "verify", join(target, "init.img")]);
    expect(ran.stderr).toContain("it is a disk now, it was built as a boot image");
    expect(ran.code).toBe(5);
  });

  test("that is truncated is exit code 6, and --as reads it as another kind", async () => {
    const bad = join(temp.make(), "bad.img");
    copyFileSync(disk, bad);
    truncateSync(bad, MIB);
    expect((await seedstrap(["image", "ls", bad])).code).toBe(6);
    const payload = await seedstrap(["image", "ls", "--as", "payload", disk]);
    expect(payload.stderr).toContain("no LBPAYLD1 here");
    expect((await seedstrap(["image", "ls", "--as", "tape", disk])).code).toBe(2);
  });
});

const hasLoops = process.getuid?.() === 0 && Bun.which("losetup") !== null &&
  Bun.spawnSync(["losetup", "-f"]).exitCode === 0;
if (!hasLoops) console.log("skipped: images on devices: they need root and loop devices");

test.skipIf(!hasLoops)(
  "an image on a longer device is verified, whatever comes after it",
  async () => {
    const record = ["--record", join(dir, "target")];
    for (const image of [boot, carried]) {
      const file = copied(image);
      const size = readFileSync(file).length;
      truncateSync(file, size + MIB);
      writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.alloc(MIB, 0x77)]));
      expect((await seedstrap(["image", "verify", file])).code).toBe(6);
      const device = (await run(["losetup", "-f", "--show", "-r", file])).stdout.trim();
      try {
        for (const args of [[], record, ["--tree", tree]]) {
          const ran = await seedstrap(["image", "verify", device, ...args]);
          expect(ran.stderr.includes("warning: contents are not checked")).toBe(args.length === 0);
          expect(ran.code).toBe(0);
        }
        expect((await seedstrap(["image", "diff", device, image])).code).toBe(0);
      } finally {
        await run(["losetup", "-d", device]);
      }
      rmSync(file);
    }
  },
);
