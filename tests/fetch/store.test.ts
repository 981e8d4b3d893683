// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { distfileNameFault, MAX_NAME_BYTES } from "../../src/fetch/distfile_name.ts";
import { checkDistfileName, defaultStore, locate, verifyFile } from "../../src/fetch/store.ts";
import { parseContentRange } from "../../src/fetch/download.ts";
import { Bench, sampleBody, sha256 } from "./servers.ts";

const bench = new Bench();
afterEach(() => bench.release());

test("checkDistfileName() accepts the names that distfiles have", () => {
  for (const name of ["gcc-4.7.4.tar.bz2", "a", "libstdc++-v3", "a b", "ü", "a..b", "x.part.gz"]) {
    checkDistfileName(name);
  }
  checkDistfileName("a".repeat(MAX_NAME_BYTES));
});

test("checkDistfileName() refuses a name that leaves its directory, hides or breaks a line", () => {
  const bad = ["", ".", "..", ".a", "../a", "a/b", "/a", "a\\b", "a\0", "a\nb", "a\u001bb"];
  for (const name of [...bad, "a\u0085b", "a.part", "\ud800", "ü".repeat(126)]) {
    expect(distfileNameFault(name)).toBeString();
    expect(() => checkDistfileName(name)).toThrow("Cannot use distfile name ");
  }
});

test("defaultStore() follows XDG_CACHE_HOME if it is absolute, else HOME", () => {
  expect(defaultStore({ XDG_CACHE_HOME: "/c", HOME: "/h" })).toBe("/c/seedstrap/distfiles");
  expect(defaultStore({ XDG_CACHE_HOME: "c", HOME: "/h" })).toBe("/h/.cache/seedstrap/distfiles");
  expect(defaultStore({ HOME: "/h" })).toBe("/h/.cache/seedstrap/distfiles");
});

test("locate() finds regular files and links to them, in the order of the directories", async () => {
  const dirs = [await bench.dir(), await bench.dir(), await bench.dir(), "/does/not/exist"];
  const [a = "", b = "", c = ""] = dirs;
  await writeFile(join(a, "f"), "12345");
  await mkdir(join(b, "f"));
  await symlink(join(a, "f"), join(c, "f"));
  expect(await locate("f", dirs)).toEqual([
    { path: join(a, "f"), sizeBytes: 5 },
    { path: join(c, "f"), sizeBytes: 5 },
  ]);
});

test("verifyFile() hashes files of any length, and returns the digest", async () => {
  const path = join(await bench.dir(), "f");
  for (const size of [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000]) {
    const body = sampleBody(size);
    await writeFile(path, body);
    const got = sha256(body);
    expect(await verifyFile(path, got)).toEqual({ ok: true, got, sizeBytes: size });
    expect(await verifyFile(path, sha256("x"))).toEqual({ ok: false, got, sizeBytes: size });
  }
});

test("verifyFile() stops when its signal is aborted", async () => {
  const path = join(await bench.dir(), "f");
  await writeFile(path, "x");
  const stopped = verifyFile(path, sha256("x"), AbortSignal.abort(new Error("enough")));
  expect(await stopped.catch((error) => error.message)).toBe("enough");
});

test("parseContentRange() refuses inconsistent numbers", () => {
  expect(parseContentRange("bytes 5-9/10")).toEqual({ startByte: 5, lastByte: 9, totalBytes: 10 });
  expect(parseContentRange("bytes 5-9/*")).toMatchObject({ startByte: 5, totalBytes: undefined });
  for (const value of [undefined, "", "bytes 5-4/10", "bytes 5-9/9", "bytes */10", "lines 1-2/3"]) {
    expect(parseContentRange(value)).toBeUndefined();
  }
  expect(parseContentRange("bytes 5-99999999999999999999/*")).toBeUndefined();
});
