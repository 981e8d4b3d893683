// SPDX-License-Identifier: MIT
/**
 * The script that restores the rest, sourced as the generated scripts do it, with a stand-in for
 * payload-import.
 *
 * @module
 */
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TempDirs } from "../support/files.ts";
import { run } from "../support/run.ts";

const SCRIPT = fileURLToPath(
  new URL("../../steps/improve/import_payload_rest.sh", import.meta.url).href,
);
const temp = new TempDirs();
afterEach(() => temp.release());

const LISTS = "/steps/payload-import-1.0";

/**
 * Sources the script in a root with these lists, with a payload-import that exits with these codes
 * one after the other.
 */
async function source(codes: readonly number[], lists: readonly string[] = ["rest.list"]) {
  const dir = temp.make();
  const at = (...path: string[]) => join(dir, ...path);
  const stub = [
    "#!/bin/sh",
    'echo "$@" >> /external/calls',
    "n=$(wc -l < /external/calls)",
    `set -- ${codes.join(" ")}`,
    '[ "$n" -gt $# ] || shift $((n - 1))',
    "exit $1",
  ].join("\n");
  for (const name of ["stub", "external", LISTS]) mkdirSync(at(name), { recursive: true });
  for (const name of lists) writeFileSync(at(LISTS, name), "");
  for (const [name, text] of [["payload-import", stub], ["sleep", "#!/bin/sh\n"]] as const) {
    writeFileSync(at("stub", name), text);
    chmodSync(at("stub", name), 0o755);
  }
  copyFileSync(SCRIPT, at("steps", "rest.sh"));
  const root = ["--ro-bind", "/usr", "/usr", "--setenv", "PATH", "/stub:/usr/bin:/bin"];
  for (const name of ["bin", "lib", "lib64"]) root.push("--symlink", `usr/${name}`, `/${name}`);
  for (const name of ["stub", "steps", "external"]) root.push("--bind", at(name), `/${name}`);
  root.push("--setenv", "DISTFILES", "/external/new/distfiles");
  const script = 'set -e; . /steps/rest.sh; echo "next $import_code"';
  const ran = await run(["bwrap", "--unshare-user", ...root, "--", "bash", "-c", script]);
  const calls = existsSync(at("external/calls")) ? readFileSync(at("external/calls"), "utf8") : "";
  return {
    ...ran,
    calls: calls.trimEnd().split("\n"),
    made: readdirSync(at("external")).filter((name) => name !== "calls"),
  };
}

const works = await run(["bwrap", "--ro-bind", "/", "/", "true"]).catch(() => ({ code: 1 }));
const check = works.code === 0 ? test : test.skip;
if (works.code !== 0) console.log("skipped: the restore of the rest: bwrap makes no root here");

check("restores by each list that is there, into its directory", async () => {
  const { code, stdout, calls, made } = await source([0]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: "next \n" });
  expect(calls).toEqual([`--list ${LISTS}/rest.list /external/new/distfiles`]);
  expect(made).toEqual(["new"]);
  const more = await source([0], ["repo.list", "added.list"]);
  expect(more.calls).toEqual([
    `--list ${LISTS}/repo.list /external/repo-preseeded`,
    `--list ${LISTS}/added.list /external/added.tars`,
  ]);
  expect(more.made.sort()).toEqual(["added.tars", "repo-preseeded"]);
});

check("waits for a disk that Linux finds late", async () => {
  const { code, calls } = await source([1, 1, 0]);
  expect(code).toBe(0);
  expect(calls).toHaveLength(3);
});

check(
  "ends the run where no disk comes, and at once where it is of no use",
  async () => {
    expect(await source([1])).toMatchObject({ code: 1, stdout: "", calls: { length: 61 } });
    expect(await source([3, 0])).toMatchObject({ code: 3, stdout: "", calls: { length: 1 } });
    const second = await source([0, 3], ["rest.list", "repo.list", "added.list"]);
    expect(second).toMatchObject({ code: 3, stdout: "", calls: { length: 2 } });
  },
);
