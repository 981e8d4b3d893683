// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { ownName, removeDeadLocks, removeDeadParts, takeLock } from "../../src/runtime/lock.ts";
import { describeDir, TempDirs, writeFiles } from "../support/files.ts";
import { DENO, run, start } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const MODULE = fileURLToPath(new URL("../../src/runtime/lock.ts", import.meta.url).href);

/**
 * Takes a lock again and again. While it holds the lock, no other process may create the file
 * `inside`. Every other time it leaves the lock as a dead process would, for others to take over.
 */
const CONTENDER = `
import { readdirSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { takeLock } from ${JSON.stringify(MODULE)};
const [dir, rounds] = process.argv.slice(2);
for (let round = 0; round < Number(rounds);) {
  const lock = takeLock(dir + "/lock");
  if (typeof lock === "number") continue;
  writeFileSync(dir + "/inside", "", { flag: "wx" });
  unlinkSync(dir + "/inside");
  const own = dir + "/lock/" + readdirSync(dir + "/lock")[0];
  if (round++ % 2 === 0) renameSync(own, dir + "/lock/99999999-5");
  else lock.release();
}
console.log("done");
`;

const startOf = (pid: number) => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
};

test("takeLock() gives the lock to one process at a time, under both runtimes", async () => {
  const dir = temp.make();
  const script = join(dir, "contender.ts");
  writeFileSync(script, CONTENDER);
  const bun = [process.execPath, script, dir, "300"];
  const deno = [DENO, "run", "--allow-all", script, dir, "300"];
  const ran = await Promise.all([bun, bun, bun, deno, deno].map((argv) => run(argv)));
  expect(ran.map(({ stdout, stderr }) => stdout + stderr)).toEqual(Array(5).fill("done\n"));
  expect(readdirSync(dir)).toEqual(["contender.ts"]);
}, 60_000);

test("takeLock() takes the lock of a process that was killed, and no other's", async () => {
  const dir = temp.make();
  const script = join(dir, "contender.ts");
  // Each is killed at some random point, so `inside` may be left from the one before.
  writeFileSync(script, CONTENDER.replace(`"wx"`, `"w"`));
  for (let kill = 0; kill < 10; kill++) {
    const child = start([process.execPath, script, dir, "1e9"]);
    while (!existsSync(join(dir, "inside")) && !existsSync(join(dir, "lock"))) await Bun.sleep(1);
    child.kill("SIGKILL");
    await child.exited;
    const lock = takeLock(join(dir, "lock"));
    expect(typeof lock).toBe("object");
    expect(takeLock(join(dir, "lock"))).toBe(process.pid);
    if (typeof lock === "object") lock.release();
    expect(existsSync(join(dir, "lock"))).toBe(false);
  }
}, 60_000);

test("takeLock() takes the lock of a zombie", async () => {
  const dir = temp.make();
  // The shell executes sleep, which never waits for its child; the child ends after that.
  const child = "(until grep -q sleep /proc/$$/comm; do :; done)";
  const parent = start(["sh", "-c", `${child} & echo $!; exec sleep 60`]);
  const { value } = await parent.stdout.getReader().read();
  const zombie = Number(new TextDecoder().decode(value));
  while (!readFileSync(`/proc/${zombie}/stat`, "utf8").includes(") Z ")) await Bun.sleep(5);
  writeFiles(dir, { [`lock/${zombie}-${startOf(zombie)}`]: "" });
  const lock = takeLock(join(dir, "lock"));
  expect(typeof lock).toBe("object");
  parent.kill();
});

test("takeLock() compares the start time of a process, and takes an empty lock", () => {
  const child = start(["sleep", "60"]);
  const locks: [string[], number | string][] = [
    [[`${child.pid}-${startOf(child.pid)}`], child.pid],
    [[`${child.pid}-1`], "object"],
    [["99999999-5"], "object"],
    [[], "object"],
  ];
  for (const [names, wanted] of locks) {
    const dir = temp.make();
    mkdirSync(join(dir, "lock"));
    writeFiles(join(dir, "lock"), Object.fromEntries(names.map((name) => [name, ""])));
    const lock = takeLock(join(dir, "lock"));
    expect(typeof lock === "object" ? "object" : lock).toBe(wanted);
  }
  child.kill();
});

test("takeLock() leaves alone what is not a lock", () => {
  for (const path of ["lock", "lock/x", "lock/0-1", "lock/-1-"]) {
    const dir = temp.make();
    writeFiles(dir, { [path]: "mine" });
    expect(faultOf(() => takeLock(join(dir, "lock")))).toContain("it was not made by seedstrap");
    expect(readFileSync(join(dir, path), "utf8")).toBe("mine");
    expect(readdirSync(dir)).toEqual(["lock"]);
  }
});

test("takeLock() does not loop for ever on a symbolic link, wherever it leads", async () => {
  const dir = temp.make();
  mkdirSync(join(dir, "empty"));
  symlinkSync("empty", join(dir, "full"));
  symlinkSync("nowhere", join(dir, "dangling"));
  for (const path of ["full", "dangling", "dangling/lock"]) {
    const body = `import { takeLock } from ${JSON.stringify(MODULE)};
      try { takeLock(${
      JSON.stringify(join(dir, path))
    }); } catch (error) { console.log(error.code ?? error.kind) }`;
    // In a process of its own, as an endless loop would never return.
    const child = start([process.execPath, "-e", body]);
    const killer = setTimeout(() => child.kill("SIGKILL"), 20_000);
    expect(await new Response(child.stdout).text()).toMatch(
      path === "dangling/lock" ? /^ENOENT\n$/ : /^target\n$/,
    );
    clearTimeout(killer);
  }
  expect(readdirSync(dir).sort()).toEqual(["dangling", "empty", "full"]);
  expect(readdirSync(join(dir, "empty"))).toEqual([]);
}, 60_000);

test("takeLock() and removeDeadLocks() change nothing through a link", () => {
  const dead = "99999999-5";
  const own = ownName();
  const [dir, outside] = [temp.make(), temp.make()];
  writeFiles(outside, { [dead]: "mine", [`${dead}.part/${dead}`]: "mine", [own]: "mine" });
  const before = describeDir(outside);
  const path = join(dir, "locks");
  symlinkSync(outside, path);
  expect(faultOf(() => takeLock(path))).toContain("it was not made by seedstrap");
  removeDeadLocks(path);
  mkdirSync(join(dir, "own"));
  symlinkSync(outside, join(dir, `own/${dead}.part`));
  symlinkSync(outside, join(dir, "own/x"));
  removeDeadLocks(join(dir, "own"));
  removeDeadParts(join(dir, "own"));
  // What the lock would be made as is a link.
  symlinkSync(outside, join(dir, `${own}.part`));
  const lock = takeLock(join(dir, "lock"));
  expect(describeDir(outside)).toEqual(before);
  if (typeof lock === "object") lock.release();
  expect(existsSync(join(dir, "lock"))).toBe(false);
});

test("removeDeadLocks() removes an empty lock, which a kill leaves, and none that is held", () => {
  const dir = join(temp.make(), "locks");
  mkdirSync(join(dir, "empty"), { recursive: true });
  removeDeadLocks(dir);
  expect(existsSync(dir)).toBe(false);
  mkdirSync(join(dir, "empty"), { recursive: true });
  const lock = takeLock(join(dir, "held"));
  removeDeadLocks(dir);
  expect(readdirSync(dir)).toEqual(["held"]);
  if (typeof lock === "object") lock.release();
});

test("release() may be called twice, and does not release the lock of the next holder", () => {
  const path = join(temp.make(), "lock");
  const first = takeLock(path);
  if (typeof first === "number") throw new Error("it is held");
  first.release();
  writeFiles(path, { "1-1": "" });
  first.release();
  expect(readdirSync(path)).toEqual(["1-1"]);
});
