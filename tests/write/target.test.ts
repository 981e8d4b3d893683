// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beginRun, lastRun } from "../../src/record/run.ts";
import { checkSpace, takeTarget, Target } from "../../src/write/target.ts";
import { describeDir, TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const NAMES = ["init.img", "payload.img", "seedstrap.json"];
const open = (dir: string) => Target.open(dir, NAMES);

/**
 * Writes these files to a target, each with its own name as content.
 *
 * @returns What commit() says is left.
 */
function build(dir: string, names: readonly string[]): string[] {
  const target = open(dir);
  try {
    for (const name of names) target.writePart(name, `${name} ${names.length}`);
    return target.commit(names);
  } finally {
    target.close();
  }
}
/** What {@link describeDir} says of the outputs, and of the list of them. */
const outputs = (dir: string) => [
  ...describeDir(dir).filter((line) => !line.startsWith(".seedstrap")),
  readFileSync(join(dir, ".seedstrap/made"), "utf8"),
];
const listed = (dir: string) => readdirSync(dir).sort();

test("Target makes its directory, and files appear in it only when they are committed", () => {
  const dir = join(temp.make(), "a/b");
  const target = open(dir);
  target.writePart("init.img", "x");
  target.writePart("seedstrap.json", "{}");
  expect(listed(dir)).toEqual([".seedstrap"]);
  target.commit(["init.img", "seedstrap.json"]);
  expect(listed(dir)).toEqual([".seedstrap", "init.img", "seedstrap.json"]);
  target.close();
  expect(listed(join(dir, ".seedstrap"))).toEqual(["made"]);
  expect(readFileSync(join(dir, ".seedstrap/made"), "utf8")).toBe("init.img\nseedstrap.json\n");
});

test("Target replaces files that it made, and removes those that it no longer makes", () => {
  const dir = temp.make();
  build(dir, NAMES);
  writeFileSync(join(dir, "notes.txt"), "mine");
  build(dir, ["init.img", "seedstrap.json"]);
  expect(listed(dir)).toEqual([".seedstrap", "init.img", "notes.txt", "seedstrap.json"]);
  expect(readFileSync(join(dir, "init.img"), "utf8")).toBe("init.img 2");
});

test("Target leaves a payload.img alone that it did not make", () => {
  const dir = temp.make();
  build(dir, ["init.img", "seedstrap.json"]);
  writeFileSync(join(dir, "payload.img"), "mine");
  expect(faultOf(() => open(dir))).toStartWith(`Cannot replace ${join(dir, "payload.img")}`);
  const other = Target.open(dir, ["init.img", "seedstrap.json"]);
  other.writePart("init.img", "new");
  other.writePart("seedstrap.json", "{}");
  other.commit(["init.img", "seedstrap.json"]);
  other.close();
  expect(readFileSync(join(dir, "payload.img"), "utf8")).toBe("mine");
});

test("Target refuses files that it did not make, and releases its lock", () => {
  for (const name of NAMES) {
    const dir = temp.make();
    writeFileSync(join(dir, name), "mine");
    expect(faultOf(() => open(dir))).toBe(
      `Cannot replace ${join(dir, name)}: seedstrap did not make it | ${join(dir, name)}`,
    );
    expect(readFileSync(join(dir, name), "utf8")).toBe("mine");
    rmSync(join(dir, name));
    open(dir).close();
  }
});

test("Target refuses links and directories with its names, also in place of its own files", () => {
  const precious = join(temp.make(), "precious");
  writeFileSync(precious, "mine");
  const dir = temp.make();
  build(dir, NAMES);
  rmSync(join(dir, "init.img"));
  symlinkSync(precious, join(dir, "init.img"));
  expect(faultOf(() => open(dir))).toStartWith("Cannot replace ");
  rmSync(join(dir, "init.img"));
  symlinkSync("dangling", join(dir, "init.img"));
  expect(faultOf(() => open(dir))).toStartWith("Cannot replace ");
  rmSync(join(dir, "init.img"));
  mkdirSync(join(dir, "init.img"));
  expect(faultOf(() => open(dir))).toStartWith("Cannot replace ");
  expect(readFileSync(precious, "utf8")).toBe("mine");
});

test("Target refuses a path that is not a directory", () => {
  const file = join(temp.make(), "f");
  writeFileSync(file, "");
  expect(faultOf(() => open(file))).toStartWith(
    `Cannot use ${file} as target: it is not a directory`,
  );
  expect(faultOf(() => open(join(file, "x")))).toStartWith(`Cannot write to ${join(file, "x")}`);
});

test("Target removes what an earlier run left half-written, and nothing else", () => {
  const dir = temp.make();
  writeFiles(dir, {
    ".seedstrap/parts/init.img": "half",
    ".seedstrap/scratch/disk.img.files/usr/bin/su": "half",
    ".seedstrap/99999999-5.part/99999999-5": "",
    ".seedstrap/other": "",
    ".seedstrap/x.part/y": "mine",
    "x.part": "",
  });
  open(dir).close();
  expect(listed(dir)).toEqual([".seedstrap", "x.part"]);
  expect(listed(join(dir, ".seedstrap"))).toEqual(["other", "x.part"]);
});

test("Target refuses while another process writes there, and not once that is dead", async () => {
  const dir = temp.make();
  const child = Bun.spawn(["sleep", "60"]);
  const stat = readFileSync(`/proc/${child.pid}/stat`, "utf8");
  const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  writeFiles(dir, { [`.seedstrap/lock/${child.pid}-${start}`]: "" });
  expect(faultOf(() => open(dir))).toStartWith(
    `Cannot write to ${dir}: process ${child.pid} uses it`,
  );
  expect(existsSync(join(dir, ".seedstrap/lock"))).toBe(true);
  child.kill();
  await child.exited;
  open(dir).close();
  expect(existsSync(join(dir, ".seedstrap/lock"))).toBe(false);
});

test("Target cannot be opened twice by one process", () => {
  const dir = temp.make();
  const target = open(dir);
  expect(faultOf(() => open(dir))).toContain(`process ${process.pid} uses it`);
  target.close();
  open(dir).close();
});

test("Target ignores names in `made` that lead out of its directory", () => {
  const dir = temp.make();
  const target = join(dir, "target");
  writeFiles(dir, { victim: "x", "target/sub/victim": "x" });
  writeFiles(target, {
    ".seedstrap/made": "../victim\nsub/victim\n..\n.\n\n/etc/hostname\nsub\0\n",
  });
  build(target, ["init.img", "seedstrap.json"]);
  expect(existsSync(join(dir, "victim"))).toBe(true);
  expect(existsSync(join(target, "sub/victim"))).toBe(true);
});

test("A rebuild leaves what has come in place of an earlier output, and says so", () => {
  for (const kind of ["directory", "link", "empty directory"]) {
    const dir = temp.make();
    build(dir, NAMES);
    const place = join(dir, "payload.img");
    rmSync(place);
    if (kind === "link") symlinkSync("precious", place);
    else mkdirSync(place);
    writeFileSync(join(dir, "precious"), "mine");
    if (kind === "directory") writeFileSync(join(place, "precious"), "mine");
    const ofPlace = () => outputs(dir).filter((line) => line.startsWith("payload.img"));
    const before = ofPlace();
    // It would be replaced, which open() refuses.
    expect(faultOf(() => open(dir))).toStartWith(`Cannot replace ${place}: seedstrap did not`);
    expect(readFileSync(join(dir, "seedstrap.json"), "utf8")).toBe("seedstrap.json 3");
    const target = Target.open(dir, ["init.img", "seedstrap.json"]);
    for (const name of ["init.img", "seedstrap.json"]) target.writePart(name, "new");
    const left = target.commit(["init.img", "seedstrap.json"]);
    target.close();
    expect(left).toEqual([`${place}: seedstrap did not make it`]);
    expect(ofPlace()).toEqual(before);
    expect(readFileSync(join(dir, "precious"), "utf8")).toBe("mine");
    expect(readFileSync(join(dir, "seedstrap.json"), "utf8")).toBe("new");
    expect(readFileSync(join(dir, ".seedstrap/made"), "utf8")).toBe("init.img\nseedstrap.json\n");
  }
});

test("Target refuses a root in which an earlier output has become something else", () => {
  const dir = temp.make();
  const names = ["LICENSE", "steps", "seedstrap.json"];
  const openRoot = (wanted: readonly string[]) => Target.open(dir, wanted, true);
  const target = openRoot(names);
  target.writePart("LICENSE", "x");
  writeFiles(target.partPath("steps"), { manifest: "x" });
  target.writePart("seedstrap.json", "{}");
  expect(target.commit(names)).toEqual([]);
  target.close();
  rmSync(join(dir, "LICENSE"));
  writeFiles(dir, { "LICENSE/precious": "mine" });
  const before = outputs(dir);
  expect(faultOf(() => openRoot(["steps", "seedstrap.json"]))).toStartWith(
    `Cannot build in ${dir}: seedstrap did not make LICENSE in it`,
  );
  expect(outputs(dir)).toEqual(before);
});

test("Target ignores its work directory in `made`, and goes on", () => {
  const dir = temp.make();
  build(dir, NAMES);
  for (const line of [".seedstrap", ".seedstrap/"]) {
    writeFileSync(join(dir, ".seedstrap/made"), [...NAMES, line, ""].join("\n"));
    expect(build(dir, ["init.img", "seedstrap.json"])).toEqual([]);
    expect(listed(dir)).toEqual([".seedstrap", "init.img", "seedstrap.json"]);
    build(dir, NAMES);
  }
});

test("A rebuild that may not remove an earlier output leaves the target as it was", () => {
  const dir = temp.make();
  build(dir, NAMES);
  const place = join(dir, "payload.img");
  if (Bun.spawnSync(["chattr", "+i", place]).exitCode !== 0) {
    return console.log("skipped: chattr +i does not work here");
  }
  try {
    const before = outputs(dir);
    for (const names of [["init.img", "seedstrap.json"], NAMES]) {
      expect(faultOf(() => build(dir, names))).toMatch(/^Cannot write to .*: EPERM/);
      expect(outputs(dir)).toEqual(before);
    }
  } finally {
    Bun.spawnSync(["chattr", "-i", place]);
  }
  build(dir, ["init.img", "seedstrap.json"]);
  expect(listed(dir)).toEqual([".seedstrap", "init.img", "seedstrap.json"]);
});

test("What cannot be removed of an earlier build does not undo the new one", () => {
  const dir = temp.make();
  const write = (name: string) => {
    const target = Target.open(dir, ["old", "new", "seedstrap.json"]);
    try {
      writeFiles(target.partPath(name), { "a/f": "x" });
      target.writePart("seedstrap.json", name);
      return target.commit([name, "seedstrap.json"]);
    } finally {
      target.close();
    }
  };
  write("old");
  if (Bun.spawnSync(["chattr", "+i", join(dir, "old/a/f")]).exitCode !== 0) {
    return console.log("skipped: chattr +i does not work here");
  }
  const kept = join(dir, ".seedstrap/old");
  try {
    const [left, ...more] = write("new");
    expect(left).toStartWith(`${kept}, what was there before: EPERM`);
    expect(more).toEqual([]);
    expect(listed(dir)).toEqual([".seedstrap", "new", "seedstrap.json"]);
    expect(readFileSync(join(dir, "seedstrap.json"), "utf8")).toBe("new");
    // Nothing of it is replaced before that is gone.
    const before = outputs(dir);
    expect(faultOf(() => write("old"))).toMatch(/^Cannot write to .*: EPERM/);
    expect(outputs(dir)).toEqual(before);
  } finally {
    Bun.spawnSync(["chattr", "-i", join(kept, "old/a/f")]);
  }
  expect(write("old")).toEqual([]);
  expect(listed(join(dir, ".seedstrap"))).toEqual(["made"]);
});

test("commit() does not replace files that appeared since the target was opened", () => {
  const dir = temp.make();
  const target = open(dir);
  for (const name of NAMES) target.writePart(name, "new");
  writeFileSync(join(dir, "payload.img"), "mine");
  expect(faultOf(() => target.commit(NAMES))).toStartWith(
    `Cannot replace ${join(dir, "payload.img")}`,
  );
  target.close();
  expect(listed(dir)).toEqual(["payload.img"]);
  expect(readFileSync(join(dir, "payload.img"), "utf8")).toBe("mine");
});

test("A commit that fails in the middle leaves what was there", () => {
  for (const isNew of [true, false]) {
    const dir = temp.make();
    if (!isNew) build(dir, NAMES);
    const before = isNew ? [] : outputs(dir);
    const target = open(dir);
    target.writePart("init.img", "new");
    target.writePart("seedstrap.json", "{}");
    // The second file is missing.
    expect(faultOf(() => target.commit(NAMES))).toStartWith("Cannot write to ");
    // It can still be finished.
    target.writePart("payload.img", "new");
    if (isNew) expect(target.commit(NAMES)).toEqual([]);
    target.close();
    if (!isNew) expect(outputs(dir)).toEqual(before);
    expect(build(dir, NAMES)).toEqual([]);
    expect(listed(dir)).toEqual([".seedstrap", ...NAMES]);
  }
});

test("Target removes the unfinished files of a killed process", () => {
  const dir = temp.make();
  writeFiles(dir, {
    ".seedstrap/parts/init.img": "half",
    ".seedstrap/scratch/root/usr/bin/su": "half",
  });
  const target = open(dir);
  expect(listed(join(dir, ".seedstrap"))).toEqual(["lock", "parts", "scratch"]);
  expect(listed(join(dir, ".seedstrap/parts"))).toEqual([]);
  target.close();
});

/** Makes a directory that seedstrap would change if it took it for one of its own. */
function victim(): string {
  const dir = temp.make();
  writeFiles(dir, {
    "made": "precious\n",
    "init.img": "mine",
    "init.img.part": "mine",
    "root.part/f": "mine",
    "parts/init.img": "mine",
    "scratch/made": "mine",
    "99999999-5": "mine",
    "99999999-5.part/99999999-5": "mine",
    "1.log": "mine",
    "1.json": "mine",
  });
  return dir;
}

test("Target changes nothing through a link in place of a work directory", () => {
  for (const part of ["", "/parts", "/scratch", "/old", "/lock"]) {
    const name = `.seedstrap${part}`;
    const [dir, outside] = [temp.make(), victim()];
    const before = describeDir(outside);
    if (name !== ".seedstrap") mkdirSync(join(dir, ".seedstrap"));
    symlinkSync(outside, join(dir, name));
    const place = join(dir, name);
    const fault = faultOf(() => build(dir, NAMES));
    if (name === ".seedstrap/lock") expect(fault).toStartWith(`Cannot take the lock "${place}"`);
    else {
      expect(fault).toBe(
        `Cannot use ${place} as a work directory: it is a symbolic link | ${place}`,
      );
    }
    expect(describeDir(outside)).toEqual(before);
    expect(listed(dir)).toEqual([".seedstrap"]);
  }
});

test("Target changes nothing through links inside its work directories", () => {
  const outside = victim();
  const before = describeDir(outside);
  for (
    const name of [
      "parts/init.img",
      "old/init.img",
      "scratch/made",
      "scratch/root",
      "parts/deep/er",
    ]
  ) {
    const dir = temp.make();
    mkdirSync(join(dir, ".seedstrap", name, ".."), { recursive: true });
    symlinkSync(outside, join(dir, ".seedstrap", name));
    build(dir, NAMES);
    expect(listed(dir)).toEqual([".seedstrap", ...NAMES]);
    expect(describeDir(outside)).toEqual(before);
  }
});

test("Target reads no list of its outputs through a link", () => {
  const dir = temp.make();
  writeFiles(dir, { "precious": "mine", ".seedstrap/": "" });
  symlinkSync(join(victim(), "made"), join(dir, ".seedstrap/made"));
  expect(faultOf(() => open(dir))).toStartWith(
    `Cannot read ${join(dir, ".seedstrap/made")}: it is a symbolic link`,
  );
});

testWith("mkfifo")("Target refuses a fifo in place of its list, and does not wait", () => {
  const dir = temp.make();
  mkdirSync(join(dir, ".seedstrap"));
  Bun.spawnSync(["mkfifo", join(dir, ".seedstrap/made")]);
  expect(faultOf(() => open(dir))).toStartWith(
    `Cannot read ${join(dir, ".seedstrap/made")}: it is no regular file`,
  );
});

test("A run records nothing through a link, and reads nothing", () => {
  for (const name of [".seedstrap", ".seedstrap/runs"]) {
    const [dir, outside] = [temp.make(), victim()];
    const before = describeDir(outside);
    if (name !== ".seedstrap") mkdirSync(join(dir, ".seedstrap"));
    else mkdirSync(join(outside, "runs"));
    const then = describeDir(outside);
    symlinkSync(outside, join(dir, name));
    const fault = `Cannot use ${join(dir, name)} as a work directory: it is a symbolic link`;
    expect(faultOf(() => beginRun(dir))).toStartWith(fault);
    if (name === ".seedstrap") expect(faultOf(() => takeTarget(dir))).toStartWith(fault);
    expect(lastRun(dir)).toBeUndefined();
    expect(describeDir(outside)).toEqual(name === ".seedstrap" ? then : before);
  }
});

test("beginRun() removes what a killed process left as it began or ended a run", () => {
  const dir = temp.make();
  beginRun(dir).finish({ verdict: "done", why: "it ended", lines: [] });
  // Of a run that had no record yet, of a record that was not whole, and of both.
  const runs = join(dir, ".seedstrap/runs");
  writeFiles(runs, { "2.log": "", "1.part": "{", "2.part": "{", "notes.txt": "mine" });
  expect(beginRun(dir).logPath).toBe(join(runs, "2.log"));
  // Space for the outcome is kept until then.
  const kept = ["1.json", "1.log", "2.json", "2.log", "2.part", "notes.txt"];
  expect(listed(runs)).toEqual(kept);
  expect(readFileSync(join(runs, "2.part"), "latin1")).not.toBe("{");
  expect(lastRun(dir)?.verdict).toBe("running");
});

test("takeTarget() removes what a killed process left as it took the lock", () => {
  const dir = temp.make();
  writeFiles(dir, { ".seedstrap/99999999-5.part/99999999-5": "" });
  const lock = takeTarget(dir);
  if (typeof lock === "number") throw new Error(`process ${lock} has the target`);
  lock.release();
  expect(listed(join(dir, ".seedstrap"))).toEqual([]);
});

test("Target uses no work directory of another user", () => {
  if (process.getuid?.() !== 0) return console.log("skipped: only root can give a file away");
  const dir = temp.make();
  mkdirSync(join(dir, ".seedstrap"));
  chownSync(join(dir, ".seedstrap"), 12345, 12345);
  expect(faultOf(() => open(dir))).toStartWith(
    `Cannot use ${join(dir, ".seedstrap")} as a work directory: it belongs to another user`,
  );
  // Root works in the target of a user, which that user has made.
  chownSync(dir, 12345, 12345);
  open(dir).close();
});

test("close() removes the directories that open() made, unless something came into them", () => {
  const parent = temp.make();
  Target.open(join(parent, "a/b/c"), NAMES).close();
  expect(listed(parent)).toEqual([]);
  mkdirSync(join(parent, "mine"));
  Target.open(join(parent, "mine"), NAMES).close();
  expect(listed(join(parent, "mine"))).toEqual([]);
  const target = Target.open(join(parent, "a/b/c"), NAMES);
  writeFileSync(join(parent, "a/x"), "mine");
  target.close();
  expect(listed(parent)).toEqual(["a", "mine"]);
  expect(listed(join(parent, "a"))).toEqual(["x"]);
});

test("checkSpace() refuses more than is free", () => {
  const dir = temp.make();
  checkSpace(dir, 1);
  expect(faultOf(() => checkSpace(dir, 2 ** 60))).toStartWith(`Cannot write ${2 ** 60} bytes to `);
  expect(faultOf(() => checkSpace(join(dir, "none"), 1))).toStartWith("Cannot write to ");
});
