// SPDX-License-Identifier: MIT
/**
 * One disk with boot image and payload, as users build, look at, verify and write it.
 *
 * @module
 */
import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/format/segment.ts";
import { expectedOf } from "../../src/record/expected.ts";
import { readRecord } from "../../src/record/read.ts";
import { writeExtras } from "../support/extras.ts";
import { TempDirs } from "../support/files.ts";
import { loopObstacle, Loops, must } from "../support/loop.ts";
import { seedstrap, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
const loops = new Loops();
afterEach(() => {
  loops.release();
  temp.release();
});

interface Scene {
  readonly dir: string;
  readonly tree: string;
  readonly target: string;
  readonly image: string;
  readonly distfiles: Readonly<Record<string, Uint8Array>>;
}

async function scene(mode: string, ...options: string[]): Promise<Scene> {
  const dir = temp.make();
  const mini = miniTree({ movesToDisk: true, distfileBytes: 70_000 });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const target = join(dir, "target");
  const words = ["--tree", tree, "-m", `file://${mirror}`, "--store", join(dir, "store")];
  const payload = ["--external-sources", "--payload", "always"];
  const { code, stderr } = await seedstrap(
    ["build", mode, ...words, ...payload, "-t", target, ...options],
  );
  expect([code, stderr.includes("seedstrap:")]).toEqual([0, false]);
  return { dir, tree, target, image: join(target, "init.img"), distfiles: mini.distfiles };
}

test("the image of one disk is listed, verified, taken out of, compared and reproduced", async () => {
  const { dir, tree, target, image, distfiles } = await scene("--bare-metal", "--one-disk");
  expect(readdirSync(target).filter((name) => name.endsWith(".img"))).toEqual(["init.img"]);
  const listed = await seedstrap(["image", "ls", image, "--json"]);
  const { entries } = JSON.parse(listed.stdout) as {
    entries: { path: string; dataOffset: number; size: number }[];
  };
  const bytes = readFileSync(image);
  const carried = entries.filter(({ path }) => path.startsWith("payload/"));
  expect(carried.map(({ path }) => path.slice("payload/".length))).toEqual([
    "SHA256SUMS",
    ...Object.keys(distfiles).filter((name) => name !== "alpha-1.0.tar.gz").sort(),
  ]);
  for (const { path, dataOffset, size } of carried.slice(1)) {
    const content = bytes.subarray(dataOffset, dataOffset + size);
    expect(content).toEqual(Buffer.from(distfiles[path.slice("payload/".length)]!));
  }
  for (const more of [[], ["--tree", tree]]) {
    const verified = await seedstrap(["image", "verify", image, ...more]);
    expect([verified.code, verified.stderr]).toEqual([0, ""]);
    expect(verified.stdout).toContain("the payload on it, from 2097152 on");
  }
  const out = join(dir, "out");
  expect((await seedstrap(["image", "extract", image, "payload", "-o", out])).code).toBe(0);
  expect(readFileSync(join(out, "payload/beta-2.0.tar.gz")))
    .toEqual(Buffer.from(distfiles["beta-2.0.tar.gz"]!));
  const again = ["--tree", tree, "-m", `file://${dir}/mirror`];
  expect((await seedstrap(["reproduce", target, ...again])).code).toBe(0);
});

test("what is on one disk is what is on two", async () => {
  const one = await scene("--bare-metal", "--one-disk");
  const two = await scene("--bare-metal");
  const out = join(one.dir, "out");
  expect((await seedstrap(["image", "extract", one.image, "payload", "-o", out])).code).toBe(0);
  const split = join(two.dir, "out");
  const payload = join(two.target, "payload.img");
  expect((await seedstrap(["image", "extract", payload, "-o", split])).code).toBe(0);
  must("diff", "-r", join(out, "payload"), split);
  const { stdout } = await seedstrap(["image", "diff", "--json", two.image, one.image]);
  const { differences } = JSON.parse(stdout) as { differences: { path: string }[] };
  expect(differences.map(({ path }) => path).filter((path) => !path.startsWith("payload/")))
    .toEqual(["steps/improve/one_disk.sh", "steps/manifest"]);
});

test("one wrong byte in the payload, or between it and the srcfs, is found", async () => {
  const { image, target, dir } = await scene("--bare-metal", "--one-disk");
  const built = readFileSync(image);
  const at = 2 * MIB;
  expect(built.toString("latin1", at, at + 8)).toBe("LBPAYLD1");
  const copy = join(dir, "copy.img");
  const last = built.length - 1;
  const cases = [[at + 200_000, 5], [at - 1, 6], [at, 6], [475, 6], [last, 6]] as const;
  for (const [offset, code] of cases) {
    writeFileSync(copy, built);
    const file = openSync(copy, "r+");
    writeSync(file, Uint8Array.of(built[offset]! ^ 0x40), 0, 1, offset);
    closeSync(file);
    const { code: got } = await seedstrap(
      ["image", "verify", copy, "--record", join(target, "seedstrap.json")],
    );
    expect([offset - at, got]).toEqual([offset - at, code]);
  }
});

test("a directory payload/ of a checkout is none of a payload on the disk", async () => {
  const dir = temp.make();
  const path = "payload/omega-6.0_0.tar.bz2";
  const mini = miniTree({ movesToDisk: true, files: { [`seed/stage0-posix/${path}`]: "its own" } });
  const { tree, mirror } = writeMiniTree(dir, mini);
  const target = join(dir, "target");
  const words = ["--tree", tree, "-m", `file://${mirror}`, "--payload", "never", "-t", target];
  expect((await seedstrap(["build", "--bare-metal", ...words])).code).toBe(0);
  const image = join(target, "init.img");
  const verify = () => seedstrap(["image", "verify", image, "--tree", tree]);
  expect(await verify()).toMatchObject({ code: 0, stderr: "" });
  // Of another content it would pass for a package of the user, if it were in a payload.
  writeFileSync(join(tree, "seed/stage0-posix", path), "another");
  const { code, stderr } = await verify();
  expect([code, stderr]).toEqual([5, expect.stringContaining("the checkout says")]);
  const bytes = readFileSync(image);
  bytes.write(`src 9 ${path}\n..its own`, bytes.indexOf(`src 7 ./${path}\nits own`));
  writeFileSync(image, bytes);
  const { code: foreign, stderr: why } = await seedstrap(["image", "ls", image]);
  expect([foreign, why]).toEqual([6, expect.stringContaining(`the srcfs has "${path}"`)]);
});

test("what a run loads is the boot image, without the payload", async () => {
  const one = await scene("--qemu", "--one-disk");
  const loads = expectedOf(one.target, readRecord(one.target)).plan.loadSizes!;
  const { stdout } = await seedstrap(["image", "ls", one.image, "--json"]);
  const { entries } = JSON.parse(stdout) as { entries: { kind: string; path: string }[] };
  const files = entries.filter(({ kind, path }) =>
    kind !== "command" && !path.startsWith("payload/")
  );
  expect(loads).toHaveLength(files.length);
});

test("packages and directories of the user are in the payload of one disk too", async () => {
  const dir = temp.make();
  const { tree, mirror, repo, more } = writeExtras(dir);
  const target = join(dir, "target");
  const words = ["--tree", tree, "-m", `file://${mirror}`, "--repo", repo, "--add", more];
  const built = await seedstrap(["build", "--qemu", "--one-disk", ...words, "-t", target]);
  expect(built.code).toBe(0);
  expect(readRecord(target).images.map(({ name }) => name)).toEqual(["init.img"]);
  const image = join(target, "init.img");
  const { stdout } = await seedstrap(["image", "ls", image]);
  expect(stdout).toContain("  payload/omega-6.0_0.tar.bz2\n");
  expect(stdout).toContain("  payload/zz-add-1-my_files.tar\n");
  const verified = await seedstrap(["image", "verify", image, "--tree", tree]);
  expect([verified.code, verified.stderr]).toEqual([0, ""]);
  expect((await seedstrap(["reproduce", target, ...words])).code).toBe(0);
});

test("no second place is named for the payload of one disk", async () => {
  const dir = temp.make();
  const { tree, mirror } = writeMiniTree(dir, miniTree({ movesToDisk: true }));
  const words = ["build", "--bare-metal", "--one-disk", "--tree", tree, "-m", `file://${mirror}`];
  const { code, stderr } = await seedstrap(
    [...words, "--payload", "always", "-t", join(dir, "t"), "--output", `payload=${dir}/p.img`],
  );
  expect(code).toBe(2);
  expect(stderr).toContain("with --one-disk the payload is on the boot disk");
});

test("a converted boot disk without room for a system is warned of", async () => {
  for (const [mode, isSmall] of [["--bare-metal", true], ["--qemu", false]] as const) {
    const { dir, image } = await scene(mode, "--one-disk");
    const words = ["image", "convert", image, "--to", "vmdk-flat", "-o", join(dir, "disk.vmdk")];
    const { code, stderr } = await seedstrap(words);
    expect([code, stderr.includes("no room for the system")]).toEqual([0, isSmall]);
  }
});

test("the preflight image of one disk goes to another one", async () => {
  const { dir, target } = await scene("--bare-metal", "--one-disk");
  const { code, stdout } = await seedstrap(
    ["preflight", "--bare-metal", target, "-o", join(dir, "preflight.img")],
  );
  expect(code).toBe(0);
  expect(stdout).toContain("  1. Write init.img of the target to the drive of the machine");
  expect(stdout).toMatch(/ {2}2\. Write preflight\.img \(\d+ bytes\) to another drive/);
  expect(stdout).not.toContain("again");
});

testWith("qemu-system-x86_64")("the preflight program finds the payload on one disk", async () => {
  const { target } = await scene("--qemu", "--one-disk", "--target-size", "1100M");
  const options = ["--no-memory-test", "--accel", "tcg", "--json"];
  const { stdout } = await seedstrap(["preflight", "--qemu", target, ...options]);
  const report = JSON.parse(stdout) as {
    lines: { topic: string; values: Record<string, string> }[];
    verdict: unknown;
  };
  expect(report).toMatchObject({ verdict: { ok: true } });
  expect(report.lines.filter(({ topic }) => topic === "payload").map(({ values }) => values))
    .toMatchObject([{ at: String(2 * MIB), files: "6", state: "ok" }]);
}, 120_000);

const why = loopObstacle();
if (why !== undefined) console.log(`skipped: one disk on a loop device: ${why}`);
describe.skipIf(why !== undefined)("one disk on a loop device", () => {
  test("is written, read back, and the same whether it was built there or written", async () => {
    const { dir, target, image } = await scene("--bare-metal", "--one-disk");
    const size = readRecord(target).images[0]!.sizeBytes;
    // The system begins at 1 GiB.
    const small = loops.attach(join(dir, "small"), 1024 * MIB);
    const refusal = await seedstrap(["write", image, small.path, "--yes", small.name]);
    expect([refusal.code, refusal.stderr]).toEqual([
      7,
      expect.stringContaining("with the system after the payload it needs 1074790400 at least"),
    ]);
    const device = loops.attach(join(dir, "disk"), 1025 * MIB);
    const { code } = await seedstrap(["write", image, device.path, "--yes", device.name]);
    expect(code).toBe(0);
    must("cmp", "-n", String(size), image, device.path);
    expect((await seedstrap(["image", "verify", device.path, "--record", target])).code).toBe(0);
    const second = loops.attach(join(dir, "second"), 1025 * MIB);
    const straightTo = (loop: { path: string; name: string }) =>
      seedstrap([
        ...["build", "--bare-metal", "--one-disk", "--external-sources", "--payload", "always"],
        ...["--tree", join(dir, "tree"), "-m", `file://${dir}/mirror`, "-t", join(dir, "other")],
        ...["--boot-device", loop.path, "--yes", loop.name],
      ]);
    expect((await straightTo(small)).code).toBe(7);
    const straight = ["--one-disk", "--boot-device", second.path, "--yes", second.name];
    await scene("--bare-metal", ...straight);
    must("cmp", "-n", String(size), image, second.path);
    const refused = await scene("--bare-metal", "--one-disk").then(({ tree }) =>
      seedstrap([
        ...["build", "--bare-metal", "--one-disk", "--tree", tree, "-t", join(dir, "third")],
        ...["--payload-device", second.path, "--yes", second.name],
      ])
    );
    expect(refused.code).toBe(2);
  });
});
