// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
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
  const short = await seedstrap(["reproduce", join(dir, "target"), ...args]);
  expect(short.stdout).toBe(
    "init.img: differs, in 2 files: ./steps/helpers.sh, ./steps/\\x1b[31m\n" +
      "Built from something else: checkout\n",
  );
  expect(short.code).toBe(11);
  const other = await seedstrap(["reproduce", record, ...args, "--all"]);
  expect(other.code).toBe(11);
  expect(other.stdout).toContain("init.img: differs\n  stated seedstrapPieces1 ");
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

test("reproduce from another checkout is one line, not one for each distfile that is missing", async () => {
  const dir = temp.make();
  expect(await buildIn(dir, setUp(dir))).toMatchObject({ code: 0 });
  const args = setUp(join(dir, "other"), { distfileBytes: 4000 });
  rmSync(join(dir, "other/mirror"), { recursive: true });
  mkdirSync(join(dir, "other/mirror"));
  const ran = await seedstrap(["reproduce", join(dir, "target"), "--offline", ...args]);
  expect(ran.stderr).toBe(
    "warning: the checkout is not the one that was built from\n" +
      "seedstrap: Cannot continue with --offline: 6 distfiles are missing, " +
      "for a checkout that is not the one that was built from\n" +
      "  hint: Name the one that was built from with --tree\n",
  );
  expect(ran.code).toBe(4);
});

test("reproduce of a directory that is no target names the record that is not there", async () => {
  const dir = temp.make();
  const ran = await seedstrap(["reproduce", dir, ...setUp(dir)]);
  expect(ran.stderr).toContain(join(dir, "seedstrap.json"));
  expect(ran.code).toBe(7);
});
