// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describeContent, zfsPool } from "../../src/device/content.ts";
import { bootImage } from "../../src/format/boot.ts";
import { payload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { openImage } from "../../src/source/file.ts";
import { TempDirs } from "../support/files.ts";
import { must } from "../support/loop.ts";
import { testWith } from "../support/run.ts";
import { concat } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Describes a file of 64 MiB that a tool has formatted. */
function contentOf(program: string, ...options: string[]): string {
  const path = join(temp.make(), "disk");
  writeFileSync(path, "");
  truncateSync(path, 64 * MIB);
  if (program !== "") must(program, ...options, path);
  const source = openImage(path);
  try {
    return describeContent(source, []);
  } finally {
    source.close();
  }
}

const TOOLS: readonly (readonly [string, readonly string[], string])[] = [
  ["mke2fs", ["-q", "-F", "-t", "ext4"], "ext2/3/4"],
  ["mkswap", [], "swap"],
  ["mkfs.fat", ["-F", "32"], "FAT"],
  ["mkfs.fat", ["-F", "16"], "FAT"],
];
for (const [program, options, expected] of TOOLS) {
  testWith(program)(`describeContent() knows what ${program} ${options.join(" ")} makes`, () => {
    expect(contentOf(program, ...options)).toBe(expected);
  });
}

testWith("sfdisk")("describeContent() knows partition tables, and what is in partitions", () => {
  const path = join(temp.make(), "disk");
  for (const [label, expected] of [["dos", "MBR of 2"], ["gpt", "GPT"]] as const) {
    writeFileSync(path, "");
    truncateSync(path, 64 * MIB);
    const table = Bun.spawnSync(["sfdisk", "-q", path], {
      stdin: new TextEncoder().encode(`label: ${label}\n2048,20480\n22528,20480\n`),
    });
    expect(table.exitCode).toBe(0);
    const file = openSync(path, "r+");
    writeSync(file, "SWAPSPACE2", 11 * MIB + 4086);
    closeSync(file);
    const source = openImage(path);
    const partitions = [
      { name: "x1", startBytes: MIB, sizeBytes: 10 * MIB },
      { name: "x2", startBytes: 11 * MIB, sizeBytes: 10 * MIB },
    ];
    expect(describeContent(source, partitions)).toBe(`${expected}; x1 unknown; x2 swap`);
    source.close();
  }
});

test("describeContent() knows our own images, zeros, and unknown data", () => {
  const [first] = payload([{ name: "a", body: { kind: "bytes", bytes: new Uint8Array(9) } }], 64);
  if (first?.kind !== "bytes") throw new Error("a payload begins with its header");
  expect(describeContent(memorySource(first.bytes), [])).toBe("payload image");
  const stage1 = new Uint8Array(512);
  stage1.set([0xb5], 446 + 4);
  stage1.set([0x55, 0xaa], 510);
  const boot = bootImage({ stage1, stage2: { kind: "bytes", bytes: stage1 }, srcfs: [] });
  const bytes = concat(boot.flatMap((part) => part.kind === "bytes" ? [part.bytes] : []));
  expect(describeContent(memorySource(bytes), [])).toBe("boot image");
  expect(contentOf("")).toBe("zeros in its first MiB");
  expect(describeContent(memorySource(new Uint8Array(MIB).fill(7)), [])).toBe("unknown data");
  expect(describeContent(memorySource(new Uint8Array()), [])).toBe("zeros in its first MiB");
});

test("zfsPool() reads the name out of a label", () => {
  const label = new Uint8Array(256 * 1024);
  expect(zfsPool(memorySource(label))).toBeUndefined();
  label.set([0x0c, 0xb1, 0xba], 128 * 1024 + 4096);
  expect(zfsPool(memorySource(label))).toBe("");
  // As nvlist_pack(3) packs it in XDR: sizes, name, type, count, value.
  const pair = "\0\0\0\x28\0\0\0\x28\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0\x05tank1\0\0\0";
  label.set(new TextEncoder().encode(pair), 16 * 1024 + 40);
  expect(zfsPool(memorySource(label))).toBe("tank1");
});
