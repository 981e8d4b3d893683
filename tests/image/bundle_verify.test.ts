// SPDX-License-Identifier: MIT
/** A bundle with each class of bytes damaged once, and the faults that are reported. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBundle } from "../../src/image/bundle.ts";
import { findParts, openParts } from "../../src/source/parts.ts";
import {
  type BundleFault,
  type BundleReport,
  verifyBundle,
} from "../../src/image/bundle_verify.ts";
import type { PlacedMember } from "../../src/format/bundle.ts";
import { memorySource } from "../../src/format/reader.ts";
import { createBundle } from "../../src/job/bundle.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf, watchedSource } from "../support/sources.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const dir = temp.make();
const path = join(dir, "b.tar");
let whole: Buffer;
let members: ReadonlyMap<string, PlacedMember>;
const ALPHA = "distfiles/alpha-1.0.tar.gz";
const SUMS = "seedstrap-bundle/SHA256SUMS";
const INDEX = "seedstrap-bundle/plan.json";

beforeAll(async () => {
  const { tree, mirror } = writeMiniTree(dir, miniTree());
  const mirrors = [{ kind: "directory", path: mirror }] as const;
  const request = { tree, store: join(dir, "store"), mirrors, jobs: 1, output: path };
  await createBundle({ ...request, isOffline: false, preNetwork: false, hasBinary: false });
  whole = readFileSync(path);
  members = openBundle(path).members;
});

async function verify(bytes: Uint8Array): Promise<BundleReport> {
  const source = watchedSource(bytes);
  const report = await verifyBundle(source);
  expect(source.maxRead).toBeLessThanOrEqual(Math.max(bytes.length, 1 << 20));
  return report;
}
const flipped = (...offsets: readonly number[]) => {
  const bytes = Buffer.from(whole);
  for (const offset of offsets) bytes[offset]! ^= 1;
  return bytes;
};
const named = ({ faults }: BundleReport) =>
  faults.map(({ member, kind, offset, size }) => `${kind} ${member ?? "-"} ${offset} ${size}`);

test("verifyBundle() finds no fault in a sound bundle", async () => {
  const files = [...members.values()].filter(({ member }) => member.kind === "file").length;
  expect(await verify(whole)).toEqual({
    files,
    sizeBytes: whole.length,
    isIndexed: true,
    faults: [],
  });
});

test("verifyBundle() finds every single damaged byte, and the member that has it", async () => {
  // Bytes of each member's header, data and padding, and of the end; a prime step hits all fields.
  for (let offset = 0; offset < whole.length; offset += 97) {
    const { faults } = await verify(flipped(offset));
    const at = [...members.values()].find(({ dataOffset, size }) =>
      offset < Math.ceil((dataOffset + size) / 512) * 512
    );
    const wanted = at?.member.path;
    const isNamed = faults.some(({ member, offset: from, size }) =>
      member === wanted && offset >= from && offset < from + size
    );
    // If the index and its line do not match, the fault names only one of the two.
    const isIndex = wanted === INDEX && faults.some(({ member }) => member === INDEX);
    expect([offset, wanted, isNamed || isIndex]).toEqual([offset, wanted, true]);
  }
}, 120_000);

test.each([0, 99, 100, 107, 124, 136, 148, 155, 156, 257, 300, 345, 511])(
  "verifyBundle() says that byte %d of a header is damaged, and nothing else",
  async (byte) => {
    const at = members.get(ALPHA)!.headerOffset + byte;
    expect(named(await verify(flipped(at)))).toEqual([`header ${ALPHA} ${at} 1`]);
  },
);

test("verifyBundle() names data, padding and the end", async () => {
  const { dataOffset, size } = members.get(ALPHA)!;
  expect(named(await verify(flipped(dataOffset)))).toEqual([`data ${ALPHA} ${dataOffset} ${size}`]);
  const padding = dataOffset + size;
  expect(named(await verify(flipped(padding)))).toEqual([`padding ${ALPHA} ${padding} 1`]);
  const end = whole.length - 1024;
  expect(named(await verify(flipped(end + 7)))).toEqual([`end - ${end} 1024`]);
});

test("verifyBundle() names every damaged member, not only the first", async () => {
  const paths = ["steps/manifest", "distfiles/beta-2.0.tar.gz", "seed/seed.kaem"];
  const offsets = paths.map((path) => members.get(path)!.dataOffset);
  const { faults } = await verify(flipped(...offsets));
  expect(faults.map(({ member }) => member!).sort()).toEqual([...paths].sort());
});

test("verifyBundle() locates a damaged line of SHA256SUMS to the byte", async () => {
  const { dataOffset } = members.get(SUMS)!;
  for (const line of [0, 1]) {
    const text = members.get(SUMS)!;
    const lineAt = whole.indexOf("\n", dataOffset) + 1;
    // The first line is that of the index: its digest is still nearly right.
    const at = (line === 0 ? text.dataOffset : lineAt) + 5;
    expect(named(await verify(flipped(at)))).toEqual([`data ${SUMS} ${at} 1`]);
  }
});

test("verifyBundle() names a damaged index, and finds the rest by headers", async () => {
  const { dataOffset, size } = members.get(INDEX)!;
  const other = members.get(ALPHA)!.headerOffset + 130;
  const report = await verify(flipped(dataOffset + 200, other));
  expect(report.isIndexed).toBe(false);
  expect(named(report)).toContain(`data ${INDEX} ${dataOffset} ${size}`);
  expect(named(report)).toContain(`missing ${ALPHA} 0 0`);
  expect(
    report.faults.some(({ kind, offset, size }) =>
      kind === "header" && offset <= other && other < offset + size
    ),
  ).toBe(true);
  expect(report.faults.every(({ member }) => [INDEX, ALPHA, undefined].includes(member))).toBe(
    true,
  );
});

test("verifyBundle() finds the index also if its header is damaged", async () => {
  for (const path of [SUMS, INDEX]) {
    const at = members.get(path)!.headerOffset + 125;
    expect(named(await verify(flipped(at)))).toEqual([`header ${path} ${at} 1`]);
  }
});

test("verifyBundle() reports where a bundle is truncated, and what is missing", async () => {
  const { dataOffset, size } = members.get(ALPHA)!;
  const cut = await verify(whole.subarray(0, dataOffset + 10));
  expect(named(cut)[0]).toBe(`missing ${ALPHA} ${dataOffset} ${size}`);
  const later = [...members.values()].filter((member) => member.headerOffset > dataOffset);
  expect(named(cut).slice(1, -1)).toEqual(
    later.map(({ member, headerOffset, dataOffset, size }) =>
      `missing ${member.path} ${headerOffset} ${dataOffset + size - headerOffset}`
    ),
  );
  expect((await verify(whole.subarray(0, -512))).faults.map(({ kind }) => kind)).toEqual(["end"]);
  const longer = await verify(Buffer.concat([whole, Buffer.alloc(1)]));
  expect(named(longer)).toEqual([`end - ${whole.length} 1`]);
});

test("verifyBundle() ends on any bytes, with a fault", async () => {
  const noise = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * 7919) % 256));
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(512), Buffer.alloc(4096), noise]) {
    expect((await verify(bytes)).faults.length).toBeGreaterThan(0);
  }
});

test("openBundle() refuses a bundle with a damaged index, and a truncated one", () => {
  const damaged = join(dir, "damaged.tar");
  const line = whole.indexOf("\n", members.get(SUMS)!.dataOffset) + 3;
  for (
    const [offset, fault] of [
      [line, "do not match"],
      [members.get(INDEX)!.dataOffset + 60, INDEX],
      [members.get(INDEX)!.headerOffset + 108, "Cannot use the bundle"],
    ] as const
  ) {
    writeFileSync(damaged, flipped(offset));
    expect(faultOf(() => openBundle(damaged))).toContain(fault);
  }
  writeFileSync(damaged, whole.subarray(0, -512));
  expect(faultOf(() => openBundle(damaged))).toContain(`expected ${whole.length} by its index`);
});

test("missing and short parts are reported, and only members in them are damaged", async () => {
  const partBytes = 16 * 1024;
  const stem = join(temp.make(), "p.tar");
  const count = Math.ceil(whole.length / partBytes);
  const part = (number: number) => `${stem}.${String(number).padStart(3, "0")}`;
  for (let number = 1; number <= count; number++) {
    writeFileSync(part(number), whole.subarray((number - 1) * partBytes, number * partBytes));
  }
  const faults = async (): Promise<readonly BundleFault[]> => {
    const source = openParts(findParts(`${stem}.001`)!);
    try {
      return (await verifyBundle(source)).faults;
    } finally {
      source.close();
    }
  };
  expect(await faults()).toEqual([]);
  expect([...openBundle(stem).members.keys()]).toEqual([...members.keys()]);
  expect(count).toBeGreaterThan(3);
  const cutAt = (count - 1) * partBytes - 1000;
  writeFileSync(part(count - 1), whole.subarray((count - 2) * partBytes, cutAt));
  for (const { member } of await faults()) {
    const { dataOffset, size } = members.get(member!)!;
    expect(dataOffset + size).toBeGreaterThan(cutAt);
  }
  expect((await faults()).length).toBeGreaterThan(0);
  const { rmSync } = await import("node:fs");
  rmSync(part(2));
  expect(faultOf(() => findParts(stem))).toContain(`its part ${part(2)} is missing`);
});

test("verifyBundle() is interrupted", async () => {
  const signal = AbortSignal.abort();
  expect(await rejection(verifyBundle(memorySource(whole), { signal }))).toMatchObject({
    kind: "interrupt",
  });
});
