// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { BlocksDigest, blocksDigest } from "../../src/format/blocks.ts";
import { memorySource } from "../../src/format/reader.ts";

const BLOCK = 4096;
const u64 = (value: number) => new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);

test("blocksDigest() is SHA-256 over offset and content of blocks that are not zero", async () => {
  const disk = new Uint8Array(4 * BLOCK + 100);
  disk[BLOCK + 7] = 1;
  disk[4 * BLOCK + 99] = 2;
  const expected = createHash("sha256")
    .update(u64(BLOCK)).update(disk.subarray(BLOCK, 2 * BLOCK))
    .update(u64(4 * BLOCK)).update(disk.subarray(4 * BLOCK))
    .update(u64(disk.length)).digest("hex");
  expect(await blocksDigest(memorySource(disk))).toBe(expected);
});

test("blocksDigest() of a disk equals that of its ranges that may have data", async () => {
  const blocks = fc.uniqueArray(fc.nat(700), { maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(blocks, async (used) => {
      const disk = new Uint8Array(701 * BLOCK);
      for (const block of used) disk[block * BLOCK + block] = 1 + block % 255;
      const ranges = [...used].sort((a, b) => a - b)
        .map((block) => ({ offset: block * BLOCK, size: BLOCK }));
      const source = memorySource(disk);
      expect(await blocksDigest(source, ranges)).toBe(await blocksDigest(source));
    }),
    { numRuns: 20 },
  );
});

test("blocksDigest() depends on content, offset and size", async () => {
  const disk = (size: number, at: number, value: number) => {
    const bytes = new Uint8Array(size);
    bytes[at] = value;
    return blocksDigest(memorySource(bytes));
  };
  const all = await Promise.all([
    disk(3 * BLOCK, 0, 0),
    disk(2 * BLOCK, 0, 0),
    disk(3 * BLOCK, 0, 1),
    disk(3 * BLOCK, BLOCK, 1),
    disk(3 * BLOCK, BLOCK, 2),
  ]);
  expect(new Set(all).size).toBe(all.length);
});

test("BlocksDigest of bytes and zeros that are cut anywhere is blocksDigest()", async () => {
  const parts = fc.array(fc.tuple(fc.nat(3 * BLOCK), fc.constantFrom(0, 0, 7)), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(parts, async (given) => {
      const digest = new BlocksDigest();
      const all = given.map(([size, value]) => {
        const bytes = new Uint8Array(size);
        if (value > 0) bytes.fill(value, size >> 1);
        if (value > 0) digest.add(bytes);
        else digest.skip(size);
        return bytes;
      });
      const disk = Buffer.concat(all);
      expect(digest.sizeBytes).toBe(disk.length);
      expect(digest.end()).toBe(await blocksDigest(memorySource(disk)));
    }),
  );
});
