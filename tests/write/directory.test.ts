// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { archiveEntries } from "../../src/archive/entries.ts";
import { type FileSegment, fileSegment, GIB, textSegment } from "../../src/format/segment.ts";
import { type DirectoryEntry, writeDirectory } from "../../src/write/directory.ts";
import { DigestMismatch } from "../../src/write/writer.ts";
import { compress, listed, rawTar } from "../archive/support.ts";
import { rejection } from "../fetch/harness.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { mountObstacle, must } from "../support/loop.ts";
import { asNobody, nobodyObstacle } from "../support/nobody.ts";
import { run, testWith } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const isRoot = process.geteuid?.() === 0;
if (!isRoot) console.log("skipped: set-user-id bits and devices: only root makes them");
const modeOf = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

const sample = rawTar([
  { name: "locked", type: "5", mode: 0o555 },
  { name: "locked/file", data: "content", mode: 0o600 },
  { name: "tmp", type: "5", mode: 0o1777 },
  { name: "bin/su", data: "program", mode: 0o4755 },
  { name: "bin/link", type: "1", link: "bin/su" },
  { name: "bin/sh", type: "2", link: "/usr/bin/bash" },
  { name: "dev/null", type: "3", mode: 0o666, major: 1, minor: 3 },
  { name: "dev/loop", type: "4", mode: 0o640, major: 7, minor: 300 },
  { name: "dev/fifo", type: "6", mode: 0o622 },
]);

test("writeDirectory() writes an archive with its modes, under any umask", async () => {
  const dir = temp.make();
  const root = join(dir, "root");
  const entries = archiveEntries(await listed(dir, sample));
  const umask = process.umask(0o077);
  const leftOut: string[] = [];
  try {
    const onLeftOut = (path: string) => leftOut.push(path);
    const digests = await writeDirectory(root, entries, { onLeftOut });
    expect(digests.get("locked/file")).toBe(sha256("content"));
    expect(digests.get("bin/link")).toBe(sha256("program"));
  } finally {
    process.umask(umask);
  }
  expect(readFileSync(join(root, "locked/file"), "utf8")).toBe("content");
  expect(modeOf(join(root, "locked"))).toBe("755");
  expect(modeOf(join(root, "locked/file"))).toBe("600");
  expect(modeOf(join(root, "tmp"))).toBe("1777");
  expect(modeOf(join(root, "bin/su"))).toBe(isRoot ? "4755" : "755");
  expect(lstatSync(join(root, "bin/link")).nlink).toBe(1);
  expect(readlinkSync(join(root, "bin/sh"))).toBe("/usr/bin/bash");
  if (!isRoot) expect(leftOut).toEqual(["dev/null", "dev/loop", "dev/fifo"]);
});

test.skipIf(!isRoot)("writeDirectory() makes devices, or says why not", async () => {
  const dir = temp.make();
  const root = join(dir, "-root");
  const leftOut = new Map<string, string>();
  await writeDirectory(root, archiveEntries(await listed(dir, sample)), {
    onLeftOut: (path, why) => leftOut.set(path, why),
  });
  for (const [path, kind, mode, numbers] of DEVICES) {
    if (leftOut.has(path)) {
      // Root in a container is not allowed to.
      expect(leftOut.get(path)).toContain("mknod");
      continue;
    }
    const stat = lstatSync(join(root, path));
    expect([path, stat[kind](), (stat.mode & 0o7777).toString(8), stat.rdev]).toEqual([
      path,
      true,
      mode,
      numbers,
    ]);
  }
});
const DEVICES = [
  ["dev/null", "isCharacterDevice", "666", 0x103],
  ["dev/loop", "isBlockDevice", "640", (300 >> 8 << 20) + (7 << 8) + (300 & 0xff)],
  ["dev/fifo", "isFIFO", "622", 0],
] as const;

test("writeDirectory() follows no symbolic link, and overwrites nothing", async () => {
  const dir = temp.make();
  const outside = join(dir, "outside");
  mkdirSync(outside);
  writeFileSync(join(outside, "precious"), "precious");
  const body = textSegment("overwritten");
  const at = (path: string, target: string): DirectoryEntry[] => [
    { path: "l", special: { kind: "symlink", target }, isExecutable: false },
    { path, body, isExecutable: false },
  ];
  const links = [["l/new", outside], ["l", join(outside, "precious")]] as const;
  for (const [path, target] of links) {
    const error = await rejection(writeDirectory(join(temp.make(), "root"), at(path, target)));
    expect(error.kind).toBe("target");
  }
  const twice: DirectoryEntry[] = [
    { path: "a", body, isExecutable: false },
    { path: "a", special: { kind: "symlink", target: outside }, isExecutable: false },
  ];
  expect((await rejection(writeDirectory(join(temp.make(), "root"), twice))).kind).toBe("target");
  expect(readFileSync(join(outside, "precious"), "utf8")).toBe("precious");
  expect(existsSync(join(outside, "new"))).toBe(false);
});

testWith("gzip")("writeDirectory() refuses an archive that changed", async () => {
  const dir = temp.make();
  const entries = archiveEntries(await listed(dir, compress("gzip", sample)));
  const other = rawTar([{ name: "locked", type: "5" }, { name: "locked/file", data: "changed" }]);
  writeFileSync(join(dir, "archive"), compress("gzip", other));
  const error = await rejection(writeDirectory(join(dir, "root"), entries));
  expect(error).toMatchObject({ kind: "verify", where: `${join(dir, "archive")}: "locked/file"` });
});

/** Entries of files of these sizes below a directory, which are made, with their digests. */
function filesBelow(dir: string, sizes: readonly number[]): DirectoryEntry[] {
  mkdirSync(dir);
  return sizes.map((size, index) => {
    const bytes = sampleBody(size, index + 1);
    const path = join(dir, `f${index}`);
    writeFileSync(path, bytes);
    const body = fileSegment({ path, sizeBytes: size }, sha256(bytes));
    return { path: `f${index}`, body, isExecutable: index % 2 === 0 };
  });
}

const SIZES = Array.from({ length: 50 }, (_, index) => [0, 1, 262_145, 1_000_000][index % 4]!);

/** Paths of the open files of this process that begin so. */
function openBelow(dir: string): string[] {
  if (!existsSync("/proc/self/fd")) return [];
  const open = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  return open.filter((path) => path.startsWith(dir));
}

test("the digests are in the order of the entries, and every byte counts once", async () => {
  const dir = temp.make();
  const files = filesBelow(join(dir, "from"), SIZES);
  const text: DirectoryEntry = { path: "text", body: textSegment("text"), isExecutable: false };
  const entries = [...files.slice(0, 20), text, ...files.slice(20)];
  let bytes = 0;
  const root = join(dir, "root");
  const options = { isDurable: true, onBytes: (more: number) => bytes += more };
  const digests = await writeDirectory(root, entries, options);
  expect([...digests.keys()]).toEqual(entries.map(({ path }) => path));
  expect(bytes).toBe(SIZES.reduce((sum, size) => sum + size, 4));
  for (const [path, digest] of digests) {
    expect(sha256(readFileSync(join(root, path)))).toBe(digest);
  }
  expect([modeOf(join(root, "f0")), modeOf(join(root, "f1"))]).toEqual(["755", "644"]);
});

test("of several wrong files the first is told, with both digests", async () => {
  const dir = temp.make();
  const entries = filesBelow(join(dir, "from"), SIZES);
  const place = (index: number) => join(dir, `from/f${index}`);
  writeFileSync(place(41), "x");
  writeFileSync(place(10), sampleBody(262_145, 99));
  // It is seen at once, but comes after the others.
  const below: DirectoryEntry = { path: "f12/x", isExecutable: true };
  const all = [...entries.slice(0, 13), below, ...entries.slice(13)];
  const error = await rejection(writeDirectory(join(dir, "root"), all));
  expect(error).toBeInstanceOf(DigestMismatch);
  const body = entries[10]!.body as FileSegment;
  expect(error.message).toBe(
    `Cannot use ${place(10)}: its SHA-256 is ${sha256(sampleBody(262_145, 99))}, ` +
      `expected ${body.sha256}`,
  );
  writeFileSync(place(10), "another length");
  expect(await rejection(writeDirectory(join(dir, "root2"), all)))
    .toMatchObject({ kind: "tree", where: place(10) });
  expect(openBelow(dir)).toEqual([]);
});

/** Entries of files that are longer than can be read in the time of a test. */
function longFiles(dir: string, count: number): DirectoryEntry[] {
  mkdirSync(dir);
  return Array.from({ length: count }, (_, index) => {
    const path = join(dir, `f${index}`);
    writeFileSync(path, "");
    truncateSync(path, 64 * GIB);
    const body = fileSegment({ path, sizeBytes: 64 * GIB });
    return { path: `f${index}`, body, isExecutable: false };
  });
}

test("a file that shrinks while it is copied is an error", async () => {
  const dir = temp.make();
  const [entry] = longFiles(join(dir, "from"), 1);
  const { path } = entry!.body as FileSegment;
  const onBytes = () => truncateSync(path, 1000);
  const error = await rejection(writeDirectory(join(dir, "root"), [entry!], { onBytes }));
  expect(error).toMatchObject({ kind: "tree", where: path });
  expect(error.message).toContain(`it had ${64 * GIB} bytes at the start, now it ends after`);
  expect(openBelow(dir)).toEqual([]);
});

test("an interrupt in the middle of a file leaves no open file, and the pool works on", async () => {
  const dir = temp.make();
  const entries = [
    ...filesBelow(join(dir, "short"), [10]),
    ...longFiles(join(dir, "from"), 20).slice(1),
  ];
  const controller = new AbortController();
  const onBytes = (bytes: number) => bytes > 1_000_000 && controller.abort();
  const { signal } = controller;
  const write = writeDirectory(join(dir, "root"), entries, { onBytes, signal });
  expect(await rejection(write)).toMatchObject({ kind: "interrupt" });
  expect(openBelow(dir)).toEqual([]);
  expect((await writeDirectory(join(dir, "root2"), entries.slice(0, 1))).size).toBe(1);
});

const noMount = mountObstacle();
if (noMount !== undefined) console.log(`skipped: a file system that is full: ${noMount}`);
test.skipIf(noMount !== undefined)("a full file system is told with the file", async () => {
  const dir = temp.make();
  const entries = filesBelow(join(dir, "from"), [1000, 2_000_000, 2_000_000, 2_000_000]);
  const full = join(dir, "full");
  mkdirSync(full);
  must("mount", "-t", "tmpfs", "-o", "size=1m", "none", full);
  try {
    const error = await rejection(writeDirectory(join(full, "root"), entries));
    // Which of them finds no room depends on the threads.
    expect(error).toMatchObject({ kind: "target" });
    expect(error.where).toMatch(new RegExp(`^${full}/root/f[0-3]$`));
    expect(error.message).toStartWith(`Cannot write to ${error.where}: ENOSPC`);
    expect(openBelow(dir)).toEqual([]);
  } finally {
    must("umount", full);
  }
});

const noNobody = nobodyObstacle();
if (noNobody !== undefined) {
  console.log(`skipped: an archive written by an ordinary user: ${noNobody}`);
}
test.skipIf(noNobody !== undefined)(
  "an ordinary user makes no devices, and lends out no account",
  async () => {
    const dir = temp.make();
    chmodSync(dir, 0o777);
    writeFileSync(join(dir, "archive"), sample);
    const source = (name: string) => new URL(`../../src/${name}`, import.meta.url).pathname;
    writeFileSync(
      join(dir, "write.ts"),
      `import { readArchive } from "${source("archive/archive.ts")}";
import { archiveEntries } from "${source("archive/entries.ts")}";
import { writeDirectory } from "${source("write/directory.ts")}";
const entries = archiveEntries(await readArchive("${dir}/archive", { maxBytes: 1e6 }));
await writeDirectory("${dir}/root", entries, { onLeftOut: (...what) => console.log(what.join()) });
`,
    );
    const command = asNobody(dir, join(dir, "write.ts"));
    chmodSync(dir, 0o777);
    const ran = await run(command, { cwd: dir });
    expect(ran).toEqual({
      code: 0,
      stdout: ["null", "loop", "fifo"].map((name) => `dev/${name},only root can make devices\n`)
        .join(
          "",
        ),
      stderr: "",
    });
    expect(modeOf(join(dir, "root/bin/su"))).toBe("755");
    expect(readFileSync(join(dir, "root/locked/file"), "utf8")).toBe("content");
    expect(existsSync(join(dir, "root/dev/null"))).toBe(false);
  },
);
