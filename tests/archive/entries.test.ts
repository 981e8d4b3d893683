// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { archiveEntries, flatEntries } from "../../src/archive/entries.ts";
import type { Archive, ArchiveMember } from "../../src/archive/types.ts";

const archiveOf = (members: ArchiveMember[]): Archive => ({
  path: "base.tar",
  members,
  expandedBytes: 0,
});
const file = (path: string, offset: number, mode = 0o644): ArchiveMember => ({
  kind: "file",
  path,
  mode,
  offset,
  size: 10,
  sha256: `digest at ${offset}`,
});
const dir = (path: string, mode = 0o755): ArchiveMember => ({ kind: "directory", path, mode });
const link = (path: string, target: string): ArchiveMember => ({ kind: "symlink", path, target });

/** Returns entries as lines: the path, and the offset of its data. */
const lines = (archive: Archive) =>
  flatEntries(archive).entries.map(({ path, body }) => body ? `${path} ${body.offsetBytes}` : path);

test("flatEntries() puts directories first, then files in the order of their data", () => {
  const archive = archiveOf([
    dir("usr"),
    file("usr/b", 512),
    { kind: "hardlink", path: "usr/a", target: "usr/b" },
    dir("usr/bin"),
    file("usr/bin/sh", 1536),
    dir("bin"),
    { kind: "hardlink", path: "last", target: "usr/b" },
  ]);
  expect(lines(archive)).toEqual([
    "bin",
    "usr",
    "usr/bin",
    "last 512",
    "usr/a 512",
    "usr/b 512",
    "usr/bin/sh 1536",
  ]);
  expect(flatEntries(archive).entries.at(-1)!.body).toEqual({
    kind: "member",
    archive: "base.tar",
    member: "usr/bin/sh",
    offsetBytes: 1536,
    sizeBytes: 10,
    sha256: "digest at 1536",
  });
});

test("flatEntries() follows links inside the root, through directories and other links", () => {
  const archive = archiveOf([
    dir("usr"),
    dir("usr/bin"),
    file("usr/bin/bash", 512),
    link("bin", "usr/bin"),
    link("usr/bin/sh", "bash"),
    link("shell", "/bin/sh"),
    link("usr/abs", "/top/bin/sh"),
    link("usr/up", "../bin/../bin/./sh"),
    link("top", "/"),
    link("through", "top/usr/bin/bash"),
  ]);
  const { leftOut } = flatEntries(archive);
  expect(lines(archive)).toEqual([
    "bin",
    "top",
    "usr",
    "usr/bin",
    "shell 512",
    "through 512",
    "usr/abs 512",
    "usr/bin/bash 512",
    "usr/bin/sh 512",
    "usr/up 512",
  ]);
  expect(leftOut).toEqual([
    { path: "bin", why: "it is an empty directory, and was a link to usr/bin" },
    { path: "top", why: "it is an empty directory, and was a link to /" },
  ]);
});

test("flatEntries() leaves out devices and dangling links, and reports them", () => {
  const archive = archiveOf([
    dir("dev"),
    { kind: "device", path: "dev/null", mode: 0o666, type: "char", major: 1, minor: 3 },
    link("null", "dev/null"),
    link("gone", "/nowhere"),
    link("below", "file/x"),
    link("slash", "file/"),
    file("file", 512),
  ]);
  expect(lines(archive)).toEqual(["dev", "file 512"]);
  expect(flatEntries(archive).leftOut).toEqual([
    { path: "dev/null", why: "it is a device" },
    { path: "null", why: "it is a device" },
    { path: "gone", why: "it leads to nothing" },
    { path: "below", why: "it leads to nothing" },
    { path: "slash", why: "it leads to nothing" },
  ]);
});

test("flatEntries() refuses links that form a loop, and names one of them", () => {
  for (const members of [[link("a", "a")], [link("a", "b"), link("b", "/a/x")]]) {
    expect(() => flatEntries(archiveOf(members))).toThrow(
      'Cannot use archive base.tar: member "a": too many levels of symbolic links',
    );
  }
});

test("flatEntries() follows at most 40 links to resolve a path", () => {
  const chain = (count: number) =>
    Array.from({ length: count }, (_, i) => link(`l${i}`, i === 0 ? "f" : `l${i - 1}`));
  const members = [file("f", 512), ...chain(40)];
  expect(lines(archiveOf(members))).toHaveLength(41);
  expect(lines(archiveOf(members.toReversed()))).toHaveLength(41);
  const more = [file("f", 512), ...chain(41)];
  for (const archive of [archiveOf(more), archiveOf(more.toReversed())]) {
    expect(() => flatEntries(archive)).toThrow('member "l40": too many levels of symbolic links');
  }
  // Each link leads twice through the one before: far more than 40.
  const twice = Array.from({ length: 20 }, (_, i) => link(`t${i + 1}`, `t${i}/t${i}`));
  expect(() => flatEntries(archiveOf([link("t0", "."), ...twice]))).toThrow(
    'member "t5": too many',
  );
});

test("flatEntries() resolves many links with long paths fast", () => {
  const parts = Array.from({ length: 400 }, (_, i) => `${i % 10}`);
  const dirs = parts.map((_, i) => dir(parts.slice(0, i + 1).join("/")));
  const target = `${parts.join("/")}/f`;
  // Resolving every path from the root again would take minutes.
  const links = Array.from({ length: 50_000 }, (_, i) => link(`l${i}`, target));
  const { entries } = flatEntries(archiveOf([...dirs, file(target, 512), ...links]));
  expect(entries).toHaveLength(50_401);
});

test("flatEntries() gives the same entries for any order of the members", () => {
  const members = [dir("d"), file("d/x", 512), file("d/y", 2048), link("l", "d/y"), dir("e")];
  fc.assert(
    fc.property(fc.shuffledSubarray(members, { minLength: members.length }), (shuffled) => {
      expect(lines(archiveOf(shuffled))).toEqual(lines(archiveOf(members)));
    }),
  );
});

test("archiveEntries() keeps modes, links and devices", () => {
  const device = { type: "char", major: 1, minor: 3 } as const;
  const entries = archiveEntries(archiveOf([
    dir("dev", 0o700),
    { kind: "device", path: "dev/null", mode: 0o666, ...device },
    link("dev/stdin", "/proc/self/fd/0"),
    file("late", 4096),
    file("su", 512, 0o4755),
    { kind: "hardlink", path: "also", target: "su" },
  ]));
  const body = { kind: "member", archive: "base.tar", offsetBytes: 512, sha256: "digest at 512" };
  expect(entries).toMatchObject([
    { path: "dev", mode: 0o700 },
    { path: "also", mode: 0o4755, isExecutable: true, body: { ...body, member: "also" } },
    { path: "su", mode: 0o4755, isExecutable: true, body: { ...body, member: "su" } },
    { path: "late", mode: 0o644, isExecutable: false },
    { path: "dev/null", mode: 0o666, special: { kind: "device", ...device } },
    { path: "dev/stdin", special: { kind: "symlink", target: "/proc/self/fd/0" } },
  ]);
});
