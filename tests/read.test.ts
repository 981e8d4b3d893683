// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { openRegular, readWhole, readWholeText } from "../src/read.ts";
import { TempDirs } from "./support/files.ts";
import { testWith } from "./support/run.ts";
import { faultOf } from "./support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** A file with a content. */
function fileOf(content: string | Uint8Array): string {
  const path = join(temp.make(), "file");
  writeFileSync(path, content);
  return path;
}
const openFiles = () => readdirSync("/proc/self/fd").length;

test("readWhole() gives a file of any size up to the limit", () => {
  for (const size of [0, 1, 4095, 4096, 4097, 8192, 8193, 70_000]) {
    const bytes = new Uint8Array(size).map((_, at) => at * 7);
    const path = fileOf(bytes);
    expect(readWhole(path, { limitBytes: size })).toEqual(bytes);
    expect(readWhole(path, { limitBytes: size + 1 })).toEqual(bytes);
    if (size > 0) {
      expect(faultOf(() => readWhole(path, { limitBytes: size - 1 }))).toBe(
        `Cannot read ${path}: it has ${size} bytes, at most ${size - 1} are read | ${path}`,
      );
    }
  }
});

test("readWhole() reads a file whose size the system does not tell, up to the limit", () => {
  const path = "/proc/self/mountinfo";
  const text = readWholeText(path, { limitBytes: 1024 * 1024 });
  expect(text).toContain(" / ");
  expect(text).toEndWith("\n");
  expect(faultOf(() => readWhole(path, { limitBytes: 10 }))).toBe(
    `Cannot read ${path}: it has more than 10 bytes, at most 10 are read | ${path}`,
  );
});

test("readWholeText() keeps a byte order mark, and takes what is no UTF-8 as U+FFFD", () => {
  expect(readWholeText(fileOf("\ufeffa\xe4"), { limitBytes: 9 })).toBe("\ufeffa\xe4");
  expect(readWholeText(fileOf(Uint8Array.of(0x61, 0xff)), { limitBytes: 9 })).toBe("a\ufffd");
});

test("readWhole() refuses a file of holes by its size, and reads none of it", () => {
  const path = fileOf("");
  truncateSync(path, 2 ** 40);
  expect(faultOf(() => readWhole(path, { limitBytes: 1000 }))).toContain(
    "it has 1099511627776 bytes, at most 1000 are read",
  );
});

test("readWhole() refuses a device and a directory, and a link to one", () => {
  const dir = temp.make();
  symlinkSync("/dev/zero", join(dir, "link"));
  for (const path of ["/dev/zero", "/dev/null", dir, join(dir, "link")]) {
    expect(faultOf(() => readWhole(path, { limitBytes: 9 }))).toBe(
      `Cannot read ${path}: it is no regular file | ${path}`,
    );
  }
});

testWith("mkfifo")("readWhole() refuses a pipe without a writer, and does not wait", () => {
  const path = join(temp.make(), "pipe");
  Bun.spawnSync(["mkfifo", path]);
  expect(faultOf(() => readWhole(path, { limitBytes: 9 }))).toContain("it is no regular file");
});

test("readWhole() refuses a socket", async () => {
  const path = join(temp.make(), "s");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  expect(faultOf(() => readWhole(path, { limitBytes: 9 }))).toContain("it is no regular file");
  server.close();
});

test("openRegular() follows a link only where it may", () => {
  const path = fileOf("x");
  const link = `${path}.link`;
  symlinkSync(path, link);
  openRegular(link).close();
  expect(faultOf(() => openRegular(link, { followsLink: false }))).toBe(
    `Cannot read ${link}: it is a symbolic link | ${link}`,
  );
  openRegular(path, { followsLink: false }).close();
});

test("what cannot be opened is told as the kind, the deed and the hint that are asked for", () => {
  const path = join(temp.make(), "none");
  const options = { kind: "tree", what: "read it", hint: (code: string) => code } as const;
  const caught = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return error;
    }
    return undefined;
  };
  expect(caught(() => openRegular(path, options))).toMatchObject({
    kind: "tree",
    message: "Cannot read it: ENOENT",
    hint: "ENOENT",
  });
  mkdirSync(path);
  expect(caught(() => openRegular(path, options))).toMatchObject({
    kind: "tree",
    message: "Cannot read it: it is no regular file",
  });
});

test("what is refused is closed again", () => {
  const path = fileOf("xx");
  const before = openFiles();
  for (let round = 0; round < 20; round++) {
    faultOf(() => openRegular("/dev/zero"));
    faultOf(() => readWhole(path, { limitBytes: 1 }));
    readWhole(path, { limitBytes: 2 });
  }
  expect(openFiles()).toBe(before);
});
