// SPDX-License-Identifier: MIT
/** The hint for a file system that is full names the option by which another is chosen. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
const dir = temp.make();
const full = join(dir, "full");
mkdirSync(full);
const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=16k", "none", full]);
if (status !== 0) console.log(`skipped: a full file system: mount: ${stderr}`);

let args: string[] = [];
beforeAll(async () => {
  args = setUp(dir, { distfileBytes: 100_000 });
  expect(await buildIn(dir, args)).toMatchObject({ code: 0 });
}, 60_000);

afterAll(() => {
  if (status === 0) spawnSync("umount", ["-l", full]);
  temp.release();
});

const TARGET = join(dir, "target");
const CASES: readonly (readonly [string, () => readonly string[]])[] = [
  ["another --target", () => ["build", "-b", ...args, "-t", join(full, "t")]],
  ["another --output", () => ["bundle", "create", ...args, "-o", join(full, "b.tar")]],
  ["another --output", () => ["preflight", "-b", "-o", join(full, "p.img"), TARGET]],
  ["another --output", () => ["report", TARGET, "-o", join(full, "r.html")]],
  ["another TMPDIR", () => ["preflight", "-q", TARGET]],
  [
    "another --target",
    () => ["reproduce", join(TARGET, "seedstrap.json"), ...args, "--keep", "-t", full],
  ],
];

describe.skipIf(status !== 0)("where it is full, the hint is", () => {
  for (const [hint, argv] of CASES) {
    test(`${hint}, of ${argv()[0]} ${argv()[1]}`, async () => {
      const ran = await seedstrap(argv(), { env: { TMPDIR: full } });
      expect(ran.stderr).toContain(`hint: Free some space there, or name ${hint}\n`);
      expect(ran.code).toBe(7);
      expect(readdirSync(full)).toEqual([]);
    }, 30_000);
  }
});

test.skipIf(status !== 0)(
  "a mirror that fills its file system says so, and goes on later",
  async () => {
    const argv = ["mirror", join(full, "m"), ...args];
    const ran = await seedstrap(argv);
    expect(ran.code).toBe(7);
    expect(ran.stderr).toContain("ENOSPC");
    expect(ran.stderr).toContain("hint: Check its free space, or name another directory");
    expect(spawnSync("mount", ["-o", "remount,size=4m", full]).status).toBe(0);
    expect(await seedstrap(argv)).toMatchObject({ code: 0 });
  },
  60_000,
);
