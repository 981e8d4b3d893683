// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/format/segment.ts";
import { extentSegments, readExtents } from "../../src/source/extents.ts";
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
