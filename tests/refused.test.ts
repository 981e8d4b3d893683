// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../src/errors.ts";
import { attempting, reading, writeError, writing } from "../src/refused.ts";
import { TempDirs } from "./support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("reading() and writing() return what the function returns", () => {
  expect(reading("f", () => 1)).toBe(1);
  expect(writing("f", () => 2)).toBe(2);
});

test("reading() reports a system error as a UserError of the given kind", () => {
  const path = join(temp.make(), "none");
  const read = () => readFileSync(path);
  expect(thrownBy(() => reading(path, read))).toMatchObject({
    kind: "target",
    message: `Cannot read ${path}: ENOENT`,
    where: path,
    hint: "There is nothing with that name: check the path",
    cause: { code: "ENOENT" },
  });
  const hint = (code: string) => `look for ${code}`;
  expect(thrownBy(() => attempting("open it", path, read, { kind: "tree", hint }))).toMatchObject({
    kind: "tree",
    message: "Cannot open it: ENOENT",
    hint: "look for ENOENT",
  });
});

test("writing() reports a system error with its message", () => {
  const path = join(temp.make(), "directory");
  mkdirSync(path);
  const error = thrownBy(() => writing(path, () => writeFileSync(path, "")));
  expect(error).toMatchObject({ kind: "target", where: path, cause: { code: "EISDIR" } });
  expect((error as UserError).message).toStartWith(`Cannot write to ${path}: EISDIR: `);
});

test("reading() and writing() pass on exceptions that are no system errors", () => {
  for (const own of [new UserError("verify", "wrong"), new TypeError("a bug")]) {
    const fail = () => {
      throw own;
    };
    expect(thrownBy(() => reading("f", fail))).toBe(own);
    expect(thrownBy(() => writing("f", fail))).toBe(own);
  }
});

test.each([
  ["ENOSPC", "Free some space there, or name another place"],
  ["EDQUOT", "Free some of your quota there, or name another place"],
  ["EROFS", "The file system is mounted read-only: name another place"],
  ["EACCES", "Check the owner and the mode of the directory, or name another place"],
  ["EPERM", "Check the owner and the mode of the directory, or name another place"],
  ["EFBIG", "The file system takes no file of this size: name another place"],
  ["ENOENT", "Check the directory, its permissions and its free space"],
])("writeError() has a hint for %s", (code, hint) => {
  expect(writeError("f", Object.assign(new Error(code), { code })).hint).toBe(hint);
});

test("writeError() names what else could be named, and what to do then, in its hint", () => {
  const full = Object.assign(new Error("full"), { code: "ENOSPC" });
  expect(writeError("f", full, "store", "run again to go on").hint).toBe(
    "Free some space there, or name another store; run again to go on",
  );
});
