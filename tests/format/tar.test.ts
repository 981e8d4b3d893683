// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readArchive } from "../../src/archive/archive.ts";
import { fileSegment, GIB } from "../../src/format/segment.ts";
import { plainTar } from "../../src/format/tar.ts";
import { digestImage, writeImage } from "../../src/write/writer.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import { fileOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const LONG = `${"d".repeat(99)}/${"f".repeat(200)} é`;

function members(dir: string) {
  const file = (path: string, size: number, isExecutable = false) => ({
    path,
    body: fileOf(dir, `source ${path.length} ${size}`, sampleBody(size, size), false),
    isExecutable,
  });
  return [
    file("z", 513),
    { path: "d".repeat(99), isExecutable: true },
    file(LONG, 70_000),
    file("a b", 512, true),
    file("x".repeat(100), 1),
    file("y".repeat(101), 2),
    { path: "empty", isExecutable: true },
    file("nothing", 0),
    { path: "e".repeat(100), isExecutable: true },
  ];
}

testWith("tar")("a plain tar is unpacked by GNU tar with every name and mode", async () => {
  const dir = temp.make();
  const all = members(dir);
  const joined = plainTar(all);
  expect(plainTar(all.toReversed())).toEqual(joined);
  const path = join(dir, "a.tar");
  await writeImage(path, [joined], { sizeBytes: joined.sizeBytes });
  const out = join(dir, "out");
  mkdirSync(out);
  const ran = await run(["tar", "-C", out, "-xpf", path]);
  expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: "" });
  const found = readdirSync(out, { recursive: true, encoding: "utf8" });
  expect(found.sort()).toEqual(all.map(({ path }) => path).sort());
  for (const { path, isExecutable, ...rest } of all) {
    const place = join(out, path);
    expect(statSync(place).mode & 0o7777).toBe(isExecutable ? 0o755 : 0o644);
    expect(statSync(place).mtimeMs).toBe(0);
    if ("body" in rest) {
      expect(readFileSync(place).equals(readFileSync(rest.body.path))).toBe(true);
    }
  }
  // No pax header, no prefix, and a NUL after each name that counts: GNU tar 1.12 needs that.
  const bytes = readFileSync(path);
  expect(bytes.includes("PaxHeaders")).toBe(false);
  let isLong = false;
  for (let at = bytes.indexOf("ustar"); at >= 0; at = bytes.indexOf("ustar", at + 1)) {
    expect(bytes.subarray(at + 88, at + 255).every((byte) => byte === 0)).toBe(true);
    const header = bytes.subarray(at - 257, at);
    if (!isLong) expect(header[99]).toBe(0);
    isLong = header[156] === "L".charCodeAt(0);
  }
  const listed = await readArchive(path, { drop: [], maxBytes: 1e9 });
  expect(listed.members.map(({ path }) => path).sort()).toEqual(found);
});

test("a plain tar of nothing is one, and what no header can say is refused", async () => {
  const joined = plainTar([]);
  expect(joined.sizeBytes).toBe(1024);
  expect((await digestImage([joined], {})).fileDigests.get(joined)).toHaveLength(64);
  expect(() => plainTar([{ path: "a\nb", isExecutable: true }])).toThrow("into a tar file");
  const large = (sizeBytes: number) =>
    plainTar([{ path: "a", isExecutable: true, body: fileSegment({ path: "/a", sizeBytes }) }]);
  expect(() => large(8 * GIB)).toThrow("into a tar file");
  expect(large(8 * GIB - 1).sizeBytes).toBe(8 * GIB + 3 * 512);
});
