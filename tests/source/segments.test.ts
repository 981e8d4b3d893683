// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { payload } from "../../src/format/payload.ts";
import { joinedSegment, type Segment, textSegment, totalSize } from "../../src/format/segment.ts";
import { openView } from "../../src/image/view.ts";
import { openSegments } from "../../src/source/segments.ts";
import { writeImage } from "../../src/write/writer.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { faultOf, fileOf } from "../support/sources.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

test("segments have at every offset the bytes of the file that they are written to", async () => {
  const dir = temp.make();
  const whole = fileOf(dir, "parts", sampleBody(900, 3), false);
  const runs = [[100, 300], [0, 100]].map(([offsetBytes, sizeBytes]) => ({
    path: whole.path,
    offsetBytes: offsetBytes!,
    sizeBytes: sizeBytes!,
  }));
  const segments: Segment[] = [
    textSegment("head"),
    fileOf(dir, "a", sampleBody(1000)),
    fileOf(dir, "empty", new Uint8Array()),
    { kind: "zeros", sizeBytes: 50 },
    { kind: "zeros", sizeBytes: 0 },
    { ...whole, sizeBytes: 400, bundled: { name: "f", sha256: "unknown", runs } },
    joinedSegment([textSegment("in"), fileOf(dir, "b", sampleBody(70)), textSegment("!")]),
    textSegment("end"),
  ];
  const sizeBytes = totalSize(segments) + 77;
  const path = join(dir, "image");
  await writeImage(path, segments, { sizeBytes });
  const image = readFileSync(path);
  const source = openSegments(segments, { sizeBytes });
  const range = fc.tuple(fc.nat(sizeBytes + 5), fc.nat(1200));
  fc.assert(fc.property(range, ([offset, size]) => {
    const into = new Uint8Array(size).fill(0xa5);
    const read = source.read(offset, into);
    const wanted = image.subarray(offset, offset + size);
    expect(read).toBe(wanted.length);
    expect(wanted.equals(into.subarray(0, read))).toBe(true);
  }));
  // The hole, the data after it, and the tail.
  expect([0, 1004, 1053, 1054, sizeBytes - 77, sizeBytes].map((at) => source.nextData!(at)))
    .toEqual([0, 1054, 1054, 1054, sizeBytes, sizeBytes]);
  source.close();
});

test("an image that was never written is listed as one that was", () => {
  const dir = temp.make();
  const files = ["one", "two"].map((name, at) => ({
    name,
    body: fileOf(dir, name, sampleBody(2000 + at, at + 1)),
  }));
  const source = openSegments(payload(files), { name: "payload" });
  const found = [...openView(source).entries()].map((entry) =>
    entry.kind === "file" ? [entry.path, entry.size] : entry
  );
  expect(found).toEqual([["one", 2000], ["two", 2001]]);
  truncateSync(join(dir, "one"), 100);
  source.close();
  expect(faultOf(() => source.read(0, new Uint8Array(source.sizeBytes))))
    .toContain("it has 100 bytes");
  source.close();
  expect(faultOf(() => openSegments([{ kind: "crc32" }]))).toContain("it has a CRC-32");
});
