// SPDX-License-Identifier: MIT
/** Files that are far too long, as everything that is read whole: told, and not taken in. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const PEAK = fileURLToPath(new URL("../support/peak.ts", import.meta.url).href);
const temp = new TempDirs();
afterAll(() => temp.release());

/** A run from source takes some 80 MiB; the files here have 1 GiB. */
const MOST_BYTES = 250 * 1024 * 1024;
const GIB = 1024 ** 3;

interface Measured {
  readonly code: number;
  readonly stderr: string;
  readonly peakBytes: number;
}

/** Runs seedstrap and measures the most memory that it had. */
async function measure(args: readonly string[]): Promise<Measured> {
  const file = join(temp.make(), "peak");
  const command = [process.execPath, "--preload", PEAK, MAIN];
  const { code, stderr } = await seedstrap(args, { command, env: { PEAK_FILE: file } });
  return { code, stderr, peakBytes: Number(readFileSync(file, "utf8")) };
}

function holes(path: string): string {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  writeFileSync(path, "");
  truncateSync(path, GIB);
  return path;
}

test.each([
  "steps/manifest",
  "steps/alpha-1.0/sources",
  "steps/jump/fiwix.sh",
  "steps/improve/get_network.sh",
  "builder-hex0/builder-hex0-x86-stage1.hex0",
  "builder-hex0/builder-hex0-x86-stage2.hex0",
])("1 GiB of holes as %s is refused, and takes no memory", async (path) => {
  const { tree } = writeMiniTree(temp.make(), miniTree());
  holes(join(tree, path));
  const ran = await measure(["plan", "--qemu", "--tree", tree]);
  expect(ran.stderr).toContain(
    `Cannot read ${path}: it has ${GIB} bytes, at most 4194304 are read`,
  );
  expect(ran.stderr).toContain(join(tree, path));
  expect(ran.code).toBe(3);
  expect(ran.peakBytes).toBeLessThan(MOST_BYTES);
});

test("a log of the preflight program that has no end is refused, and takes no memory", async () => {
  const long = holes(join(temp.make(), "log"));
  for (const [path, why] of [["/dev/zero", "it is no regular"], [long, `it has ${GIB} bytes`]]) {
    const ran = await measure(["preflight", "--log", path!]);
    expect(ran.stderr).toContain(`Cannot read ${path}: ${why}`);
    expect(ran.code).toBe(7);
    expect(ran.peakBytes).toBeLessThan(MOST_BYTES);
  }
});

testWith("mkfifo")(
  "a pipe as a log of the preflight program is refused, not waited for",
  async () => {
    const path = join(temp.make(), "pipe");
    Bun.spawnSync(["mkfifo", path]);
    const ran = await measure(["preflight", "--log", path]);
    expect(ran.stderr).toContain(`Cannot read ${path}: it is no regular file`);
    expect(ran.code).toBe(7);
  },
);

test("a record of 1 GiB, and one of brackets, is refused, and takes no memory", async () => {
  const dir = temp.make();
  const path = holes(join(dir, "seedstrap.json"));
  const run = ["run", dir];
  const long = await measure(run);
  expect(long.stderr).toContain(`Cannot read ${path}: it has ${GIB} bytes`);
  writeFileSync(path, "[".repeat(16 * 1024 * 1024));
  const deep = await measure(run);
  expect(deep.stderr).toContain("it is nested deeper than 64 levels");
  for (const ran of [long, deep]) {
    expect(ran.code).toBe(7);
    expect(ran.peakBytes).toBeLessThan(MOST_BYTES);
  }
});

test("image diff of 400,000 entries takes some hundred bytes of memory for each", async () => {
  const sector = new Uint8Array(512);
  sector.set([0x55, 0xaa], 510);
  const records = Array.from(
    { length: 400_000 },
    (_, index) => `src 2 steps/p/files/a-longer-name-${index}\nxx`,
  );
  const image = Buffer.concat([
    sector,
    Buffer.from("# a\n".padEnd(512, "\0")),
    Buffer.from(records.join("")),
    Buffer.alloc(2 * 1024 * 1024),
  ]);
  const dir = temp.make();
  const [a, b] = [join(dir, "a.img"), join(dir, "b.img")];
  for (const path of [a, b]) writeFileSync(path, image);
  const ran = await measure(["image", "diff", a, b]);
  expect(ran).toMatchObject({ code: 0 });
  expect(ran.peakBytes).toBeLessThan(MOST_BYTES + 400_000 * 300);
});
