// SPDX-License-Identifier: MIT
/** ext2, ext3 and ext4 with one damage at a time; sound ones are in tests/image/disk.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isExt, openExt, ROOT_INODE } from "../../src/format/ext.ts";
import {
  readExtDirectory,
  readExtFile,
  readExtLink,
  readInode,
} from "../../src/format/ext_inode.ts";
import { memorySource } from "../../src/format/reader.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { makeFileSystem } from "../support/disks.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { concat, faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const hasTools = Bun.which("mke2fs") !== null;
if (!hasTools) console.log("skipped: damaged file systems: mke2fs is not installed here");

type Change = (bytes: Buffer, inode: number) => void;
const BODY = sampleBody(20_000);

describe.skipIf(!hasTools)("of a file system", () => {
  const wholes = new Map<string, Buffer>();
  beforeAll(() => {
    const dir = temp.make();
    mkdirSync(join(dir, "t"));
    writeFiles(join(dir, "t"), { file: BODY });
    Bun.spawnSync(["ln", "-s", "y".repeat(80), join(dir, "t/link")]);
    for (const type of ["ext2", "ext4"]) {
      const options = ["-b", "1024", "-O", "^has_journal"];
      makeFileSystem(join(dir, type), join(dir, "t"), { type, size: "1M", options });
      wholes.set(type, readFileSync(join(dir, type)));
    }
  });

  /** Opens a copy with a change at the inode of a name; the root where it is absent. */
  function changed(type: string, change: Change, name?: string) {
    const bytes = Buffer.from(wholes.get(type)!);
    change(bytes, inodeOf(bytes, name).offsetBytes);
    return { bytes, fs: openExt(memorySource(bytes)), inode: () => inodeOf(bytes, name) };
  }

  function inodeOf(bytes: Buffer, name?: string) {
    const fs = openExt(memorySource(bytes));
    const root = readInode(fs, ROOT_INODE);
    if (name === undefined) return root;
    const record = [...readExtDirectory(fs, root)].find((record) => record.name === name)!;
    return readInode(fs, record.inode);
  }

  function contentOf(type: string, change: Change): Uint8Array {
    const { fs, inode } = changed(type, change, "file");
    return concat([...readExtFile(fs, inode())].map((part) => part.slice()));
  }

  test("both are sound before anything is damaged", () => {
    for (const type of ["ext2", "ext4"]) {
      expect(sha256(contentOf(type, () => {}))).toBe(sha256(BODY));
      expect(isExt(memorySource(wholes.get(type)!))).toBe(true);
      expect(inodeOf(wholes.get(type)!, "file").hasExtents).toBe(type === "ext4");
    }
  });

  test.each<[string, Change, string]>([
    ["no magic", (bytes) => bytes[1024 + 56] = 0, "no ext2, ext3 or ext4 here"],
    ["huge blocks", (bytes) => bytes.writeUInt32LE(7, 1024 + 24), "blocks of 2^17 bytes"],
    ["too many blocks", (bytes) => bytes.writeUInt32LE(1025, 1024 + 4), "claims 1049600 bytes"],
    ["no blocks", (bytes) => bytes.writeUInt32LE(0, 1024 + 4), "empty groups"],
    ["another first block", (bytes) => bytes.writeUInt32LE(0, 1024 + 20), "first data block is 0"],
    ["empty groups", (bytes) => bytes.writeUInt32LE(0, 1024 + 32), "empty groups"],
    ["too many inodes", (bytes) => bytes.writeUInt32LE(9999, 1024), "9999 inodes do not fit"],
    ["odd inodes", (bytes) => bytes.writeUInt16LE(200, 1024 + 88), "an inode has 200 bytes"],
    ["an unknown feature", (bytes) => bytes[1024 + 99] = 0x80, "feature 0x80000000"],
    ["no root", (bytes) => bytes.writeUInt32LE(1, 1024), "1 inodes do not fit"],
  ])("openExt() refuses a superblock with %s", (_, change, message) => {
    const bytes = Buffer.from(wholes.get("ext2")!);
    change(bytes, 0);
    expect(faultOf(() => openExt(memorySource(bytes)))).toMatch(
      new RegExp(`^Cannot read image: .*${message.replace("^", "\\^")}.* \\| memory, offset 1024$`),
    );
  });

  test.each<[string, Change, string]>([
    ["that is not in use", (bytes, at) => bytes.writeUInt16LE(0, at + 26), "is not in use"],
    ["of no kind", (bytes, at) => bytes.writeUInt16LE(0x3000, at), "unknown mode 30000"],
    ["that is encrypted", (bytes, at) => bytes.writeUInt32LE(0x800, at + 32), "is encrypted"],
    ["with data in it", (bytes, at) => bytes.writeUInt32LE(0x10000000, at + 32), "inline_data"],
    ["of 2^63 bytes", (bytes, at) => bytes.writeUInt32LE(0x80000000, at + 108), "claims 9223"],
  ])("readInode() refuses an inode %s", (_, change, message) => {
    expect(faultOf(() => changed("ext2", change, "file").inode())).toContain(message);
  });

  test("readInode() refuses numbers and a table out of range", () => {
    const { fs } = changed("ext2", () => {});
    for (const number of [0, fs.inodeCount + 1, 2 ** 32 - 1]) {
      expect(faultOf(() => readInode(fs, number))).toContain(`inode ${number}, of`);
    }
    for (const block of [0, 1024, 2 ** 32 - 1]) {
      const lost = changed("ext2", (bytes) => bytes).bytes;
      lost.writeUInt32LE(block, 2048 + 8);
      expect(faultOf(() => readInode(openExt(memorySource(lost)), ROOT_INODE))).toContain(
        `the inode table of group 0 is at block ${block} | memory, offset 2048`,
      );
    }
  });

  test.each<[string, string, Change, string]>([
    ["a pointer past the end", "ext2", (b, at) => b.writeUInt32LE(1024, at + 40), "blocks 1024"],
    ["a table past the end", "ext2", (b, at) => b.writeUInt32LE(9999, at + 88), "blocks 9999"],
    ["no magic", "ext4", (b, at) => b.writeUInt16LE(0, at + 40), "no node of extents"],
    ["too many", "ext4", (b, at) => b.writeUInt16LE(5, at + 42), "a node with 5 extents"],
    ["depth 6", "ext4", (b, at) => b.writeUInt16LE(6, at + 46), "at depth 6"],
    ["a node that is none", "ext4", (b, at) => b.writeUInt16LE(1, at + 46), "blocks|no node"],
    ["no length", "ext4", (b, at) => b.writeUInt16LE(0, at + 56), "an extent of no blocks"],
    ["blocks past the end", "ext4", (b, at) => b.writeUInt32LE(1024, at + 60), "blocks 1024 to"],
    ["a high half", "ext4", (b, at) => b.writeUInt16LE(1, at + 58), "blocks 4294"],
    ["two extents of one block", "ext4", (b, at) => {
      b.writeUInt16LE(2, at + 42);
      b.copy(b, at + 64, at + 52, at + 64);
    }, "extents out of order: 0 after"],
  ])("readExtFile() refuses %s in a map of %s", (_, type, change, message) => {
    expect(faultOf(() => contentOf(type, change))).toMatch(
      new RegExp(`^Cannot read image: .*(${message}).* \\| memory, offset \\d+$`),
    );
  });

  test("readExtFile() reads zeros for unwritten extents and for holes", () => {
    let written = 0;
    const unwritten = contentOf("ext4", (bytes, at) => {
      const blocks = bytes.readUInt16LE(at + 56);
      bytes.writeUInt16LE(blocks + 32768, at + 56);
      written = 1024 * blocks;
    });
    expect(written).toBeGreaterThan(0);
    expect(sha256(unwritten)).toBe(
      sha256(concat([new Uint8Array(written), BODY.subarray(written)]).subarray(0, BODY.length)),
    );
    const hole = contentOf("ext2", (bytes, at) => bytes.writeUInt32LE(0, at + 44));
    expect(sha256(hole)).toBe(
      sha256(concat([BODY.subarray(0, 1024), new Uint8Array(1024), BODY.subarray(2048)])),
    );
  });

  test("no more is read than MAX_READ_RATIO allows, however large files claim to be", () => {
    const size = wholes.get("ext2")!.length;
    expect(faultOf(() => contentOf("ext2", (bytes, at) => bytes.writeUInt32LE(17 * size, at + 4))))
      .toContain(`claims ${17 * size} bytes`);
    const { fs, inode } = changed(
      "ext2",
      (bytes, at) => bytes.writeUInt32LE(10 * size, at + 4),
      "file",
    );
    expect([...readExtFile(fs, inode())].reduce((sum, { length }) => sum + length, 0)).toBe(
      10 * size,
    );
    expect(faultOf(() => [...readExtFile(fs, inode())])).toContain(
      "more than 16 times the size of the file system",
    );
  });

  test.each<[string, Change, string]>([
    ["a record of no length", (b, at) => b.writeUInt16LE(0, at + 4), "record of 0 bytes"],
    ["a record that is too long", (b, at) => b.writeUInt16LE(1028, at + 4), "record of 1028 bytes"],
    ["an odd record", (b, at) => b.writeUInt16LE(13, at + 4), "record of 13 bytes"],
    ["an empty name", (b, at) => b[at + 6] = 0, "a name of 0 bytes"],
    ["a name that is longer than its record", (b, at) => b[at + 6] = 9, "a name of 9 bytes in 12"],
    ["a slash", (b, at) => b[at + 8] = 0x2f, "a slash or a NUL"],
    ["a NUL", (b, at) => b[at + 8] = 0, "a slash or a NUL"],
  ])("readExtDirectory() refuses %s", (_, change, message) => {
    const { bytes, fs, inode } = changed("ext2", () => {});
    // The first record is that of ".", with 12 bytes.
    change(bytes, bytes.readUInt32LE(inode().offsetBytes + 40) * 1024);
    expect(faultOf(() => [...readExtDirectory(fs, inode())])).toContain(message);
  });

  test("readExtDirectory() refuses files, odd sizes and holes", () => {
    const walk = (change: Change, name?: string) => {
      const { fs, inode } = changed("ext2", change, name);
      return faultOf(() => [...readExtDirectory(fs, inode())]);
    };
    expect(walk(() => {}, "file")).toContain("is not a directory");
    expect(walk((bytes, at) => bytes.writeUInt32LE(1000, at + 4))).toContain("is not a directory");
    expect(walk((bytes, at) => bytes.writeUInt32LE(0, at + 40))).toContain("with a hole");
    expect(walk((bytes, at) => bytes.writeUInt32LE(2048, at + 4))).toContain("with a hole");
    expect(walk((bytes, at) => bytes.writeUInt32LE(65 * 2 ** 20, at + 4))).toContain("68157440");
  });

  test("readExtLink() refuses links without a target, with a NUL, and without an end", () => {
    const link = (change: Change) => {
      const { fs, inode } = changed("ext2", change, "link");
      return faultOf(() => readExtLink(fs, inode()));
    };
    expect(link((bytes, at) => bytes.writeUInt32LE(0, at + 4))).toContain("a link of 0 bytes");
    expect(link((bytes, at) => bytes.writeUInt32LE(4097, at + 4))).toContain("of 4097 bytes");
    expect(link((bytes, at) => bytes.writeUInt32LE(81, at + 4))).toContain("a NUL in the target");
  });
});
