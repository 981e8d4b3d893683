// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { closeSync, ftruncateSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { blocksDigest } from "../../src/format/blocks.ts";
import { firstNonZero, memorySource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { extentSegments, readExtents } from "../../src/source/extents.ts";
import { type FileSource, openImage } from "../../src/source/file.ts";
import { openParts } from "../../src/source/parts.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Makes a file with data at these MiB, and holes between. */
function sparse(
  sizeMib: number,
  ...places: readonly (readonly [at: number, mib: number])[]
): string {
  const path = join(temp.make(), "sparse");
  const file = openSync(path, "w");
  for (const [at, mib] of places) writeSync(file, sampleBody(mib * MIB), 0, mib * MIB, at * MIB);
  ftruncateSync(file, sizeMib * MIB);
  closeSync(file);
  return path;
}

test("readExtents() finds data between holes, and takes short holes for data", () => {
  const path = sparse(20, [2, 1], [3.5, 0.5], [10, 2]);
  expect(readExtents(path, 20 * MIB)).toEqual([
    { offsetBytes: 2 * MIB, sizeBytes: 2 * MIB },
    { offsetBytes: 10 * MIB, sizeBytes: 2 * MIB },
  ]);
  expect(readExtents(path, 11 * MIB).at(-1)).toEqual({ offsetBytes: 10 * MIB, sizeBytes: MIB });
  expect(readExtents(sparse(5), 5 * MIB)).toEqual([]);
});

test("extentSegments() has zeros for holes, and ends at the given size", () => {
  const extents = [{ offsetBytes: 2, sizeBytes: 3 }, { offsetBytes: 10, sizeBytes: 5 }];
  const kinds = (dataBytes: number) =>
    extentSegments("x", extents, dataBytes).map((segment) =>
      segment.kind === "file"
        ? [segment.offsetBytes, segment.sizeBytes]
        : segment.kind === "zeros" && segment.sizeBytes
    );
  expect(kinds(20)).toEqual([2, [2, 3], 5, [10, 5], 5]);
  expect(kinds(12)).toEqual([2, [2, 3], 5, [10, 2]]);
  expect(kinds(7)).toEqual([2, [2, 3], 2]);
  expect(kinds(0)).toEqual([]);
});

function withImage<T>(path: string, use: (source: FileSource) => T): T {
  const source = openImage(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}

test("openImage() and openParts() read holes as zeros, wherever a read begins and ends", () => {
  const path = sparse(8, [1, 1], [3.5, 0.5], [6, 1]);
  const bytes = readFileSync(path);
  const sizeBytes = bytes.length;
  const parts = openParts([
    { path, sizeBytes, startBytes: 0 },
    { path, sizeBytes, startBytes: sizeBytes },
  ]);
  withImage(path, (source) => {
    for (let at = 0; at < 9 * MIB; at += 250_007) {
      for (const size of [1, 4096, 65_536, MIB, 3 * MIB]) {
        const [one, other] = [new Uint8Array(size).fill(9), new Uint8Array(size).fill(9)];
        const read = source.read(at, one);
        expect(read).toBe(Math.max(0, Math.min(size, sizeBytes - at)));
        expect(Buffer.compare(one.subarray(0, read), bytes.subarray(at, at + read))).toBe(0);
        parts.read(sizeBytes + at, other);
        expect(Buffer.compare(other.subarray(0, read), one.subarray(0, read))).toBe(0);
      }
    }
  });
  parts.close();
});

test("nextData() never passes a byte that is not zero", () => {
  const path = sparse(8, [1, 1], [3.5, 0.5], [6, 1]);
  const bytes = readFileSync(path);
  withImage(path, (source) => {
    for (let at = 0; at < 8 * MIB; at += 100_003) {
      const next = source.nextData!(at);
      expect(next).toBeGreaterThanOrEqual(at);
      expect(bytes.subarray(at, next).every((byte) => byte === 0)).toBe(true);
    }
    expect(source.nextData!(7 * MIB)).toBe(8 * MIB);
    // A read back there is asked for again.
    expect(source.nextData!(0)).toBe(MIB);
  });
});

test("a file that is cut while it is open does not end in a hole", () => {
  const path = sparse(8, [1, 1]);
  withImage(path, (source) => {
    truncateSync(path, 4 * MIB);
    expect(source.read(4 * MIB, new Uint8Array(MIB))).toBe(0);
    expect(source.read(3.5 * MIB, new Uint8Array(MIB))).toBe(MIB / 2);
  });
});

test("the zeros of a TiB of holes are not read", async () => {
  const path = sparse(1024 * 1024, [1, 1], [1024 * 1024 - 1, 0.5]);
  const source = openImage(path);
  expect(firstNonZero(source, 2 * MIB)).toBe((1024 * 1024 - 1) * MIB);
  expect(await blocksDigest(source)).toHaveLength(64);
  source.close();
});

test("blocksDigest() of a file with holes is that of its bytes", async () => {
  const path = sparse(8, [1, 1], [3.5, 0.5], [6, 1]);
  const source = openImage(path);
  expect(await blocksDigest(source)).toBe(await blocksDigest(memorySource(readFileSync(path))));
  source.close();
});
