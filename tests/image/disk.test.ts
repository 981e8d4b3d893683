// SPDX-License-Identifier: MIT
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { openExt } from "../../src/format/ext.ts";
import { readInode } from "../../src/format/ext_inode.ts";
import { LINUX_PARTITION, mbr } from "../../src/format/mbr.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB, SECTOR_BYTES } from "../../src/format/segment.ts";
import { type FileSource, openImage } from "../../src/source/file.ts";
import { digestEntries } from "../../src/image/digests.ts";
import { digestEntry, findEntry, openView } from "../../src/image/view.ts";
import { type ImageView } from "../../src/image/types.ts";
import { sampleBody } from "../fetch/servers.ts";
import {
  describeDisk,
  describeTree,
  makeFileSystem,
  NAMES,
  SLOW_TARGET,
  writeHardTree,
} from "../support/disks.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import { faultOf, survive, watchedSource } from "../support/sources.ts";

const temp = new TempDirs();
const sources: FileSource[] = [];
afterAll(() => {
  for (const source of sources) source.close();
  temp.release();
});

function view(path: string): ImageView {
  const source = openImage(path);
  sources.push(source);
  return openView(source);
}

const hasTools = Bun.which("mke2fs") !== null;
if (!hasTools) console.log("skipped: tests of file systems: mke2fs is not installed here");

describe.skipIf(!hasTools)("a file system that mke2fs has made", () => {
  const dir = temp.make();
  const tree = join(dir, "tree");
  const small = join(dir, "small");
  const image = (name: string) => join(dir, name);

  beforeAll(() => {
    mkdirSync(tree);
    writeHardTree(tree);
    writeFiles(small, { "a/b": "text", "c": sampleBody(30_000), "d/": "" });
  });

  test.each([
    ["ext2", "ext2", ["-b", "1024"]],
    ["ext3", "ext3", ["-b", "1024"]],
    ["ext3 with blocks of 4 KiB", "ext3", ["-b", "4096"]],
    ["ext4", "ext4", ["-b", "1024"]],
    ["ext4 with 64-bit numbers and checksums", "ext4", ["-O", "64bit,metadata_csum,flex_bg"]],
    ["ext4 without 64-bit numbers", "ext4", ["-O", "^64bit,^flex_bg"]],
    ["ext4 with inodes of 128 bytes", "ext4", ["-I", "128"]],
    ["ext2 without types in directories", "ext2", ["-O", "^filetype"]],
    ["ext2 of revision 0", "ext2", ["-r", "0", "-O", "none"]],
  ])("%s is read as its directory is", (name, type, options) => {
    const path = image(`${name}.img`);
    makeFileSystem(path, tree, { type, options });
    const disk = view(path);
    expect(disk.kind).toBe("disk");
    expect(disk.warnings).toEqual([]);
    const lines = describeDisk(disk);
    expect(lines).toEqual(describeTree(tree));
    expect(lines.length).toBeGreaterThan(400 + NAMES.length);
    expect(lines).toContain(`/slow symlink  ${SLOW_TARGET}`);
    const report = disk.verify();
    expect(report).toMatchObject({ kind: "disk", fileSystem: type, startOffset: 0, symlinks: 4 });
    truncateSync(path, 0);
  });

  test.each(["ext3", "ext4"] as const)(
    "threads read the same of %s as its reader",
    async (type) => {
      const path = image(`threads.${type}`);
      makeFileSystem(path, tree, { type, options: ["-b", "1024"] });
      const disk = view(path);
      const inMemory = openView(memorySource(readFileSync(path)));
      const digests = await Array.fromAsync(digestEntries(disk, disk.entries()));
      const wanted = [...inMemory.entries()].map((entry) =>
        [entry, entry.kind === "file" ? digestEntry(inMemory, entry) : undefined] as const
      );
      expect(digests).toEqual(wanted);
      // Some have holes, which only the reader knows.
      const files = digests.map(([entry]) => entry).filter(({ kind }) => kind === "file");
      const areDense = files.map((file) => disk.runs!(file) !== undefined);
      expect(new Set(areDense)).toEqual(new Set([true, false]));
    },
  );

  test("its times, links and offsets are as on the disk", () => {
    makeFileSystem(image("links.img"), tree, { options: ["-b", "1024"] });
    const disk = view(image("links.img"));
    const [direct, link] = [findEntry(disk, "/direct"), findEntry(disk, "./hard link")];
    expect(direct).toMatchObject({ mtime: 1234567890, links: 2, size: 12 * 1024 });
    expect("inode" in direct && "inode" in link && direct.inode === link.inode).toBe(true);
    const at = "dataOffset" in direct ? direct.dataOffset! : -1;
    const held = readFileSync(image("links.img")).subarray(at, at + 12 * 1024);
    expect(held.equals(readFileSync(join(tree, "direct")))).toBe(true);
    for (const name of ["none", "direct/x", "fast/x", "a b", ""]) {
      expect(faultOf(() => findEntry(disk, name))).toStartWith("Cannot find");
    }
    expect(disk.entries("deep/1/2/3/4/5/6/7/8").next().value).toMatchObject({
      path: "/deep/1/2/3/4/5/6/7/8/9",
    });
  });

  testWith("debugfs")("times after 2038 are read", async () => {
    const path = image("times.img");
    makeFileSystem(path, small, { type: "ext4", size: "8M" });
    for (const mtime of [2 ** 31, 2 ** 32 - 1, 2 ** 32 + 16]) {
      await run(["debugfs", "-w", "-R", `set_inode_field /c mtime @${mtime}`, path]);
      expect(findEntry(view(path), "c")).toMatchObject({ mtime });
    }
  });

  testWith("debugfs")("what debugfs dumps is what is read", async () => {
    makeFileSystem(image("dump.img"), small, { type: "ext4", size: "8M" });
    const dumped = join(dir, "dumped");
    mkdirSync(dumped);
    await run(["debugfs", "-R", `rdump / ${dumped}`, image("dump.img")]);
    const read = describeDisk(view(image("dump.img")));
    expect(read).toEqual(describeTree(dumped).filter((line) => !line.startsWith("/lost+found")));
    expect(read).toHaveLength(4);
  });

  testWith("e2fsck")("a directory with an index is read", async () => {
    const path = image("index.img");
    makeFileSystem(path, tree, { type: "ext4", options: ["-b", "1024"] });
    const ran = await run(["e2fsck", "-fyD", path]);
    expect(ran.stdout).toContain("Optimizing directories");
    expect(describeDisk(view(path))).toEqual(describeTree(tree));
  });

  test("it is found in a partition of type 83 at a MiB, and not in one of type B5", () => {
    const path = image("disk.img");
    makeFileSystem(path, small, { size: "8192k", options: ["-E", `offset=${MIB}`] });
    const startSector = MIB / SECTOR_BYTES;
    const sector = mbr(
      { isBootable: false, type: LINUX_PARTITION, startSector, sectorCount: 16384 },
      1,
    );
    writeFileSync(path, sector, { flag: "r+" });
    const disk = view(path);
    expect(disk.verify()).toMatchObject({ partition: 1, startOffset: MIB, endOffset: 9 * MIB });
    expect(describeDisk(disk)).toEqual(describeTree(small));
    sector[446 + 4] = 0xb5;
    writeFileSync(path, sector, { flag: "r+" });
    expect(openView(openAndKeep(path)).kind).toBe("boot");
  });

  testWith("debugfs")("a journal that was not replayed is a warning", async () => {
    const path = image("dirty.img");
    makeFileSystem(path, small, { size: "8M" });
    await run(["debugfs", "-w", "-R", "feature needs_recovery", path]);
    expect(view(path).warnings.join()).toContain("was not unmounted");
    expect(describeDisk(view(path))).toEqual(describeTree(small));
  });

  test.each([
    ["inline_data", ["-O", "inline_data"]],
    ["meta_bg", ["-O", "meta_bg,^resize_inode"]],
    ["encrypt", ["-O", "encrypt"]],
    ["casefold", ["-O", "casefold"]],
  ])("the feature %s is refused by its name", (feature, options) => {
    const path = image(`${feature}.img`);
    makeFileSystem(path, small, { type: "ext4", size: "8M", options });
    expect(faultOf(() => view(path))).toContain(
      `has the feature ${feature}, which is not supported`,
    );
  });

  test("a file system that is larger than its image is refused", () => {
    makeFileSystem(image("cut.img"), small, { size: "8M" });
    truncateSync(image("cut.img"), 8 * MIB - 1);
    expect(faultOf(() => view(image("cut.img")))).toContain(
      "claims 8388608 bytes, but only 8388607 are left",
    );
  });

  test("blocks that two files share are found", () => {
    const path = image("shared.img");
    writeFiles(join(dir, "two"), { a: sampleBody(3000), b: sampleBody(3000, 2) });
    makeFileSystem(path, join(dir, "two"), { type: "ext2", size: "1M" });
    const disk = view(path);
    const fs = openExt(disk.source);
    const [a, b] = ["a", "b"].map((name) => {
      const entry = findEntry(disk, name);
      return readInode(fs, "inode" in entry ? entry.inode : 0).offsetBytes + 40;
    });
    const bytes = readFileSync(path);
    bytes.copy(bytes, b, a, a! + 4);
    expect(faultOf(() => openView(memorySource(bytes)).verify())).toContain(
      "a block of /b is also in another file",
    );
  });

  describe("that is damaged at random", () => {
    const wholes: Uint8Array[] = [];
    beforeAll(() => {
      const dir = temp.make();
      writeFiles(join(dir, "t"), {
        "a/b/c": "x",
        "big": sampleBody(400_000),
        "names/one": "1",
        "names/two": "2",
      });
      Bun.spawnSync(["ln", "-s", "y".repeat(80), join(dir, "t/link")]);
      for (const type of ["ext2", "ext4"]) {
        const path = join(dir, type);
        const options = ["-b", "1024", "-N", "32", "-O", "^has_journal"];
        makeFileSystem(path, join(dir, "t"), { type, size: "768k", options });
        wholes.push(new Uint8Array(readFileSync(path)));
      }
    });

    /** A change of a byte: its index, its value, and whether only nonzero bytes are counted. */
    const change = fc.tuple(
      fc.nat(1_000_000),
      fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
      fc.boolean(),
    );

    test.each([[0, "ext2"], [1, "ext4"]])("no. %d, an %s, is read to an end", (index) => {
      const whole = wholes[index]!;
      const telling = [...whole.keys()].filter((at) => whole[at] !== 0 && at < 110 * 1024);
      expect(telling.length).toBeGreaterThan(300);
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
          const bytes = whole.slice();
          for (const [place, value, isTelling] of changes) {
            const at = isTelling ? telling[place % telling.length]! : 1024 + place % 100_000;
            bytes[at] = value;
          }
          const source = watchedSource(bytes);
          survive(() => {
            const disk = openView(source, "disk");
            for (const entry of disk.entries()) if (entry.kind === "file") digestEntry(disk, entry);
            disk.verify();
          });
          // Content is read 16 times its size at most; the metadata is small.
          expect(source.maxRead).toBeLessThanOrEqual(MIB);
          expect(source.totalRead).toBeLessThan(40 * source.sizeBytes);
        }),
        { numRuns: 1500 },
      );
    }, 60_000);
  });

  test("a directory that contains itself is an error, not a loop", () => {
    const path = image("loop.img");
    writeFiles(join(dir, "nested"), { "outer/inner/": "" });
    makeFileSystem(path, join(dir, "nested"), { type: "ext2", size: "1M" });
    const disk = view(path);
    const [outer, inner] = [findEntry(disk, "outer"), findEntry(disk, "outer/inner")];
    const bytes = readFileSync(path);
    const at = bytes.indexOf("inner\0") - 8;
    expect(bytes.readUInt32LE(at)).toBe("inode" in inner ? inner.inode : 0);
    bytes.writeUInt32LE("inode" in outer ? outer.inode : 0, at);
    expect(faultOf(() => [...openView(memorySource(bytes)).entries()])).toContain(
      "has two parents",
    );
  });

  const loopTest = process.getuid?.() === 0 && Bun.which("losetup") !== null &&
      Bun.spawnSync(["losetup", "-f"]).exitCode === 0
    ? test
    : test.skip;
  if (loopTest === test.skip) {
    console.log("skipped: a device as an image: it needs root and loop devices");
  }
  loopTest("it is read from a device, whose size is found", async () => {
    const path = image("device.img");
    makeFileSystem(path, small, { size: "8M" });
    // A device may be larger than the file system on it.
    for (const sectors of [0, 1, 2, 5, 7, 8191, 16384]) {
      const sizeBytes = 8 * MIB + sectors * SECTOR_BYTES;
      truncateSync(path, sizeBytes);
      const { stdout } = await run(["losetup", "-f", "--show", "-r", path]);
      const device = stdout.trim();
      try {
        const source = openImage(device);
        expect(source).toMatchObject({ isDevice: true, sizeBytes });
        expect(describeDisk(openView(source))).toEqual(describeTree(small));
        source.close();
      } finally {
        await run(["losetup", "-d", device]);
      }
    }
  });
});

function openAndKeep(path: string): FileSource {
  const source = openImage(path);
  sources.push(source);
  return source;
}
