// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { archiveEntries } from "../../src/archive/entries.ts";
import { textSegment } from "../../src/format/segment.ts";
import { type DirectoryEntry, writeDirectory } from "../../src/write/directory.ts";
import { compress, listed, rawTar } from "../archive/support.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
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
