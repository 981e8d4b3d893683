// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readLayout } from "../../src/image/bundle.ts";
import {
  BUNDLE_DIR,
  type BundleMember,
  bundleSegments,
  layOut,
  makeIndex,
  parseIndex,
} from "../../src/format/bundle.ts";
import { memorySource } from "../../src/format/reader.ts";
import { GIB } from "../../src/format/segment.ts";
import { readPaxRecords, readTarHeader, tarHeader } from "../../src/format/tar.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import { bytesOfSegments } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** A bundle of these files, and of the directories that they need. */
function bundleOf(files: Readonly<Record<string, string>>): Uint8Array {
  const directories = new Set([BUNDLE_DIR]);
  for (const path of Object.keys(files)) {
    const parts = path.split("/").slice(0, -1);
    parts.forEach((_, at) => directories.add(parts.slice(0, at + 1).join("/")));
  }
  const members: BundleMember[] = [...directories].map((path) => ({ kind: "directory", path }));
  for (const [path, text] of Object.entries(files)) {
    const size = new TextEncoder().encode(text).length;
    members.push({ kind: "file", path, size, sha256: sha256(text), isExecutable: size % 2 === 1 });
  }
  const layout = layOut(makeIndex("1.0", [], members));
  const bytes = (path: string) => new TextEncoder().encode(files[path]!);
  return bytesOfSegments(
    bundleSegments(layout, (path) => [{ kind: "bytes", bytes: bytes(path) }]),
  );
}

const name = fc.string({ minLength: 1, maxLength: 80, unit: "grapheme" }).filter((text) =>
  !/[/\0\n\r]/.test(text) && text !== "." && text !== ".." && text.isWellFormed()
);
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"))
  .filter((path) => !path.startsWith(BUNDLE_DIR));
const files = fc.dictionary(path, fc.string({ maxLength: 2000 }), {
  maxKeys: 8,
  noNullPrototype: true,
})
  // No path is both a file and a directory.
  .filter((files) =>
    Object.keys(files).every((a) => !Object.keys(files).some((b) => b.startsWith(`${a}/`)))
  );

test("readLayout() returns the layout that bundleSegments() was given", () => {
  fc.assert(fc.property(files, (files) => {
    const bytes = bundleOf(files);
    const { members } = readLayout(memorySource(bytes));
    const found = members.slice(2).flatMap(({ member, dataOffset, size }) =>
      member.kind === "file"
        ? [[
          member.path,
          new TextDecoder("utf-8", { ignoreBOM: true }).decode(
            bytes.subarray(dataOffset, dataOffset + size),
          ),
        ]]
        : []
    );
    expect(Object.fromEntries(found)).toEqual(files);
  }));
});

const LONG = "a long name ".repeat(8).trim();
const AWKWARD: Readonly<Record<string, string>> = {
  "plain": "text",
  "empty": "",
  "ünï/cödé ☃": "snow",
  "back\\slash": "escaped",
  "tab\there": "",
  " spaces ": "x".repeat(512),
  [`${LONG}/${LONG}`]: "prefix",
  [`${LONG}/and/${LONG}/${LONG}`]: "pax",
  [`${"n".repeat(150)}`]: "a name of 150 bytes",
  [`${"d".repeat(120)}/f`]: "a directory of 120 bytes",
};

testWith("tar")("GNU tar and sha256sum read a bundle, whatever the names", async () => {
  const dir = temp.make();
  writeFileSync(join(dir, "b.tar"), bundleOf(AWKWARD));
  mkdirSync(join(dir, "out"));
  const unpacked = await run(["tar", "xf", join(dir, "b.tar"), "-C", join(dir, "out")]);
  expect(unpacked).toEqual({ code: 0, stdout: "", stderr: "" });
  for (const [path, text] of Object.entries(AWKWARD)) {
    expect(readFileSync(join(dir, "out", path), "utf8")).toBe(text);
    const mode = statSync(join(dir, "out", path)).mode % 0o1000;
    expect([path, mode]).toEqual([path, new TextEncoder().encode(text).length % 2 ? 0o755 : 0o644]);
  }
  const sums = ["sha256sum", "--strict", "--check", "--quiet", "seedstrap-bundle/SHA256SUMS"];
  expect(await run(sums, { cwd: join(dir, "out") })).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(readdirSync(join(dir, "out", BUNDLE_DIR)).sort()).toEqual(["SHA256SUMS", "plan.json"]);
});

testWith("python3")("Python's tarfile reads a bundle, whatever the names", async () => {
  const path = join(temp.make(), "b.tar");
  writeFileSync(path, bundleOf(AWKWARD));
  const script = "import tarfile,sys,json\nt=tarfile.open(sys.argv[1])\nprint(json.dumps({m.name:" +
    "[m.uid,m.gid,m.mtime,t.extractfile(m).read().decode()] for m in t if m.isfile()}))";
  const ran = await run(["python3", "-c", script, path]);
  const found = JSON.parse(ran.stdout);
  for (const [path, text] of Object.entries(AWKWARD)) expect(found[path]).toEqual([0, 0, 0, text]);
  expect(Object.keys(found)).toHaveLength(Object.keys(AWKWARD).length + 2);
});

testWith("python3")("tarHeader() of 8 GiB and more is what Python reads too", async () => {
  for (const size of [8 * GIB - 1, 8 * GIB, 100 * GIB + 7]) {
    const header = tarHeader({ path: "big", kind: "file", size, isExecutable: false });
    const last = readTarHeader(header.subarray(-512));
    const isPax = size >= 8 * GIB;
    expect(last).toMatchObject({ size: isPax ? 0 : size, type: "0" });
    if (isPax) {
      const records = readPaxRecords(header.subarray(512, 512 + header.subarray(512).indexOf(0)));
      expect(records).toEqual(new Map([["size", new TextEncoder().encode(String(size))]]));
    }
    const path = join(temp.make(), "h.tar");
    writeFileSync(path, header);
    const script = "import tarfile,sys\nprint(tarfile.open(sys.argv[1]).next().size)";
    expect((await run(["python3", "-c", script, path])).stdout).toBe(`${size}\n`);
  }
});

test("tarHeader() refuses an empty path, and one with a newline or a NUL", () => {
  for (const path of ["", "a\nb", "a\0b", "\ud800"]) {
    const member = { path, kind: "file", size: 0, isExecutable: false } as const;
    expect(() => tarHeader(member)).toThrow("Cannot put");
  }
});

const DIGEST = "0".repeat(64);
const file = (path: string, size: unknown = 0) => ({
  kind: "file",
  path,
  size,
  sha256: DIGEST,
  isExecutable: false,
});
const directory = (path: string) => ({ kind: "directory", path });
const own = directory(BUNDLE_DIR);

test.each<[string, readonly unknown[], string]>([
  ["an absolute path", [file("/etc/passwd"), own], "is not a plain relative path"],
  ["a way out", [file("../x"), own], "is not a plain relative path"],
  ["a way out in the middle", [directory("a"), file("a/../../x"), own], "is not a plain relative"],
  ["a dot", [file("./x"), own], "is not a plain relative path"],
  ["an empty path", [file(""), own], "is not a plain relative path"],
  ["a slash at the end", [directory("a/"), own], "is not a plain relative path"],
  ["a newline", [file("a\nb"), own], "cannot be a path"],
  ["a path that is too long", [file("x".repeat(5000)), own], "cannot be a path"],
  ["a path that comes twice", [file("a"), file("a"), own], "is a duplicate"],
  ["another order", [file("b"), file("a"), own], "out of order"],
  ["a file without its directory", [file("a/b"), own], "is in no directory"],
  ["a file in a file", [file("a"), file("a/b"), own], "is in no directory"],
  ["SHA256SUMS again", [own, file("seedstrap-bundle/SHA256SUMS")], "reserved for the bundle"],
  ["a size that is negative", [file("a", -1), own], "members.0.size is -1, not"],
  ["a size that is no number", [file("a", "1"), own], 'members.0.size is "1", not'],
  ["sizes of 2^53 bytes", [file("a", 2 ** 53 - 1), file("b", 1), own], "2^53 bytes or more"],
  ["a link", [{ ...file("a"), kind: "symlink" }, own], 'members.0.kind is "symlink"'],
  ["a truncated digest", [{ ...file("a"), sha256: "00" }, own], 'members.0.sha256 is "00"'],
  ["a directory without a path", [own, { kind: "directory" }], "members.1.path is missing"],
  ["no directory of its own", [file("a")], "there is no directory"],
])("parseIndex() refuses %s", (_, members, fault) => {
  const index = { format: "seedstrap-bundle/1", seedstrap: "1", distfiles: [], members };
  expect(parseIndex(JSON.stringify(index))).toContain(fault);
});

test("parseIndex() refuses a text that is no index", () => {
  for (const text of ["", "{", "[]", "null", "{}", '{"format":"seedstrap-bundle/2"}']) {
    expect(typeof parseIndex(text)).toBe("string");
  }
});
