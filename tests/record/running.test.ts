// SPDX-License-Identifier: MIT
import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import {
  registeredRuns,
  registerRun,
  removeEntry,
  runningDir,
  targetIdOf,
} from "../../src/record/running.ts";
import { ownName } from "../../src/runtime/lock.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
const before = process.env["XDG_STATE_HOME"];
let state = "";
beforeEach(() => {
  state = temp.make();
  process.env["XDG_STATE_HOME"] = state;
});
afterEach(() => {
  if (before === undefined) delete process.env["XDG_STATE_HOME"];
  else process.env["XDG_STATE_HOME"] = before;
});
afterAll(() => temp.release());

const names = () => readdirSync(runningDir());

test("the directory of runs is below XDG_STATE_HOME, or the home directory", () => {
  expect(runningDir({ XDG_STATE_HOME: "/s", HOME: "/h" })).toBe("/s/seedstrap/runs");
  expect(runningDir({ XDG_STATE_HOME: "relative", HOME: "/h" }))
    .toBe("/h/.local/state/seedstrap/runs");
});

test("a run is registered until it is released", () => {
  expect(registeredRuns()).toEqual([]);
  expect(existsSync(join(state, "seedstrap"))).toBe(false);
  const target = temp.make();
  const { release } = registerRun(target, 3, true);
  expect(registeredRuns()).toMatchObject([{
    target,
    targetId: targetIdOf(target),
    run: 3,
    pid: process.pid,
    process: ownName(),
    isDetached: true,
    isAlive: true,
  }]);
  removeEntry(registeredRuns()[0]!);
  expect(names().length).toBe(1);
  release();
  expect(registeredRuns()).toEqual([]);
  expect(names()).toEqual([]);
  release();
});

/** Registers a run of this process, and returns its file, its text and its name apart. */
function registered() {
  registerRun(temp.make(), 1, true);
  const [name] = names();
  const path = join(runningDir(), name!);
  const [owner, machine] = name!.split(".");
  return { path, text: readFileSync(path, "utf8"), owner: owner!, machine: machine! };
}

test("a run whose process is dead, or of an earlier boot, does not live", () => {
  const { path, text, machine } = registered();
  const put = (name: string, text: string) => writeFileSync(join(dirname(path), name), text);
  const { pid } = spawnSync("true");
  put(`${pid}-1.${machine}`, text);
  put(`${process.pid}-1.${machine}`, text);
  put("77-1.00000000", JSON.stringify({ ...JSON.parse(text), boot: "earlier" }));
  const dead = registeredRuns().filter(({ isAlive }) => !isAlive);
  expect(dead.map(({ pid }) => pid).sort()).toEqual([77, pid, process.pid].sort());
  dead.forEach(removeEntry);
  expect(registeredRuns().map(({ path }) => path)).toEqual([path]);
});

test("what another machine or another PID namespace runs is left alone", () => {
  const { path, text } = registered();
  const other = { ...JSON.parse(text), host: `not-${hostname()}`, boot: "another" };
  writeFileSync(join(dirname(path), "77-1.00000000"), JSON.stringify(other));
  writeFileSync(join(dirname(path), "78-1.00000000"), text);
  expect(registeredRuns().map(({ path }) => path)).toEqual([path]);
  expect(names().length).toBe(3);
});

test("files that are no entries, links, and files of others are left out", () => {
  const { path, text, machine } = registered();
  const dir = dirname(path);
  writeFileSync(join(dir, "notes"), text);
  writeFileSync(join(dir, `77-1.${machine}`), "{}");
  writeFileSync(join(dir, `78-1.${machine}`), " ".repeat(65537));
  symlinkSync(path, join(dir, `${process.ppid}-1.${machine}`));
  if (process.getuid?.() === 0) {
    const theirs = join(dir, `1-1.${machine}`);
    writeFileSync(theirs, text);
    chownSync(theirs, 65534, 65534);
  } else console.log("skipped: the entry of another user, as this is not root");
  expect(registeredRuns().map(({ path }) => path)).toEqual([path]);
});

test("a link in place of the directory is refused", () => {
  mkdirSync(join(state, "seedstrap"), { mode: 0o700 });
  symlinkSync(temp.make(), runningDir());
  const fault = /Cannot use .* as a work directory: it is a symbolic link/;
  expect(faultOf(() => registerRun(temp.make(), 1, false))).toMatch(fault);
  expect(faultOf(() => registeredRuns())).toMatch(fault);
});
