// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bootImage } from "../../src/format/boot.ts";
import {
  BUILDER_HEX0_PARTITION,
  ENTRIES_AT,
  GPT_PARTITION,
  LINUX_PARTITION,
  mbr,
} from "../../src/format/mbr.ts";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB, SECTOR_BYTES, textSegment, totalSize } from "../../src/format/segment.ts";
import { srcfs } from "../../src/format/srcfs.ts";
import { detectImage, verifyImage } from "../../src/image/linear.ts";
import { checkWhole } from "../../src/image/whole.ts";
import { sampleBody } from "../fetch/servers.ts";
import { makeFileSystem } from "../support/disks.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { bytesOfSegments, faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

/** The fault of an image, whose kind is detected, or undefined. */
function fault(bytes: Uint8Array): string | undefined {
  const source = memorySource(bytes);
  const kind = detectImage(source);
  try {
    checkWhole(source, kind);
  } catch {
    return faultOf(() => checkWhole(source, kind));
  }
  return undefined;
}

/** A boot sector with the entry of builder-hex0, or without any. */
function stage1(hasEntry: boolean): Uint8Array {
  const sector = new Uint8Array(SECTOR_BYTES);
  if (hasEntry) {
    sector.set([0x80, 0, 2, 0, BUILDER_HEX0_PARTITION, 255, 255, 255, 1, 0, 0, 0], ENTRIES_AT);
    sector.fill(255, ENTRIES_AT + 12, ENTRIES_AT + 16);
  }
  sector.set([0x55, 0xaa], 510);
  return sector;
}

const entries = [
  { path: "./a", body: textSegment("first") },
  { path: "./b", body: { kind: "bytes", bytes: sampleBody(70_000) } as const },
];
const files = [
  { name: "a", body: { kind: "bytes", bytes: sampleBody(5000) } as const },
  { name: "b", body: { kind: "bytes", bytes: sampleBody(70_000) } as const },
];
const boot = (hasEntry: boolean) =>
  bytesOfSegments(
    bootImage({
      stage1: stage1(hasEntry),
      stage2: textSegment("90\n"),
      srcfs: srcfs(entries, ["hex0 /a /b"]),
    }),
  );
const padded = Buffer.concat([bytesOfSegments(payload(files, 64)), new Uint8Array(MIB)]);

test.each([
  ["a boot image", boot(true), 1],
  ["a boot image with no entry in its first sector", boot(false), 1],
  ["a payload image", padded, 0],
])("checkWhole() finds that %s ends early, wherever it does", (_, image, zeros) => {
  expect(fault(image)).toBeUndefined();
  const { endOffset } = verifyImage(memorySource(image));
  expect(fault(image.subarray(0, endOffset + zeros))).toBeUndefined();
  fc.assert(fc.property(fc.integer({ min: SECTOR_BYTES, max: endOffset + zeros - 1 }), (length) => {
    expect(fault(image.subarray(0, length))).toStartWith("Cannot read image: ");
  }));
});

test("checkWhole() finds that a boot image with a payload ends early, wherever it does", () => {
  const head = totalSize(payload([{ name: "a", body: textSegment("") }]).slice(0, -1));
  const body = { kind: "bytes", bytes: sampleBody(MIB - head) } as const;
  const image = bytesOfSegments(bootImage({
    stage1: stage1(true),
    stage2: textSegment("90\n"),
    srcfs: srcfs(entries, []),
    payload: payload([{ name: "a", body }]),
  }));
  // No zero follows the payload.
  expect(verifyImage(memorySource(image)).endOffset).toBe(image.length);
  expect(fault(image)).toBeUndefined();
  fc.assert(fc.property(fc.integer({ min: SECTOR_BYTES, max: image.length - 1 }), (length) => {
    expect(fault(image.subarray(0, length))).toStartWith("Cannot read image: ");
  }));
});

/** A disk of 4 MiB with a partition up to its end, and data that is no file system. */
function disk(type = LINUX_PARTITION): Buffer {
  const partition = { isBootable: false, type, startSector: 2048, sectorCount: 3 * 2048 };
  return Buffer.concat([mbr(partition, 1), sampleBody(4 * MIB - SECTOR_BYTES)]);
}

test("checkWhole() finds a partition that ends after the image", () => {
  expect(fault(disk())).toBeUndefined();
  expect(fault(disk().subarray(0, 4 * MIB - SECTOR_BYTES))).toBe(
    "Cannot read image: partition 1 ends at byte 4194304, and the image has 4193792 bytes" +
      " | memory, offset 446",
  );
});

test("checkWhole() finds a GPT that ends after the image", () => {
  const image = disk(GPT_PARTITION);
  image.write("EFI PART", SECTOR_BYTES);
  image.writeBigUInt64LE(BigInt(4 * 2048 - 1), SECTOR_BYTES + 32);
  expect(fault(image)).toBeUndefined();
  expect(fault(image.subarray(0, 4 * MIB - SECTOR_BYTES))).toBe(
    "Cannot read image: the GPT ends at byte 4194304, and the image has 4193792 bytes" +
      " | memory, offset 512",
  );
});

testWith("mke2fs")("checkWhole() finds a file system that ends after the image", () => {
  const dir = temp.make();
  writeFiles(join(dir, "tree"), { "a": "text" });
  const path = join(dir, "disk");
  makeFileSystem(path, join(dir, "tree"), { size: "2M" });
  const image = readFileSync(path);
  expect(detectImage(memorySource(image))).toBe("disk");
  expect(fault(image)).toBeUndefined();
  expect(fault(image.subarray(0, image.length - SECTOR_BYTES))).toBe(
    `Cannot read image: the file system ends at byte ${image.length}, and the image has ` +
      `${image.length - SECTOR_BYTES} bytes | memory, offset 0`,
  );
});
