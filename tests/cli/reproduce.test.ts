// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { TempDirs, writeFiles } from "../support/files.ts";
import { DENO, MAIN, seedstrap } from "../support/run.ts";
import { buildIn, setUp } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

test("reproduce ends with 0 if the build is the same and with 11 if not, and says why", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  expect(await buildIn(dir, args)).toMatchObject({ code: 0 });
  const record = join(dir, "target/seedstrap.json");
  const same = await seedstrap(["reproduce", record, ...args]);
  expect(same).toEqual({
    code: 0,
    stdout: "the same: 2 outputs have the stated digests\n",
    stderr: "",
  });
  const deno = [DENO, "run", "--quiet", "--allow-all", MAIN];
  expect(await seedstrap(["reproduce", record, ...args], { command: deno })).toEqual(same);

  writeFiles(join(dir, "tree"), { "steps/helpers.sh": "false\n", "steps/\u001b[31m": "x" });
  const other = await seedstrap(["reproduce", record, ...args]);
  expect(other.code).toBe(11);
  expect(other.stdout).toContain("init.img: differs\n  stated sha256 ");
  expect(other.stdout).toContain("  ./steps/helpers.sh: differs\n");
  expect(other.stdout).toContain("  ./steps/\\x1b[31m: not in the record\n");
  expect(other.stdout).toContain("Built from something else:\n  checkout: differs\n");
  expect(other.stderr).toContain("Cannot reproduce one output of 2");
  const json = await seedstrap(["reproduce", record, ...args, "--json"]);
  expect(json.code).toBe(11);
  expect(JSON.parse(json.stdout)).toMatchObject({ same: false, compared: 2 });
  expect(readdirSync(join(dir, "target")).filter((name) => name.includes("reproduce"))).toEqual([]);
});

test("reproduce says what is wrong with a record", async () => {
  const dir = temp.make();
  const args = setUp(dir);
  const missing = await seedstrap(["reproduce", join(dir, "none.json"), ...args]);
  expect(missing.code).toBe(7);
  writeFiles(dir, { "bad.json": '{"_type":"https://in-toto.io/Statement/v1"}' });
  const bad = await seedstrap(["reproduce", join(dir, "bad.json"), ...args]);
  expect(bad.code).toBe(7);
  expect(bad.stderr).toContain("subject is missing");
});
