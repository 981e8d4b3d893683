// SPDX-License-Identifier: MIT
/** Images that are damaged at random: reading them ends, in bounded memory, without a bug. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { bootImage } from "../../src/format/boot.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { payload, readPayload } from "../../src/format/payload.ts";
import { memorySource } from "../../src/format/reader.ts";
import { textSegment } from "../../src/format/segment.ts";
import { srcfs } from "../../src/format/srcfs.ts";
import { readImage, verifyImage } from "../../src/image/linear.ts";
import { findEntry, openView } from "../../src/image/view.ts";
import { sampleBody } from "../fetch/servers.ts";
import { oneDisk } from "../support/one_disk.ts";
import { damaged, Random } from "../support/mutate.ts";
import {
  assertBounded,
  bytesOfSegments,
  concat,
  survive,
  watchedSource,
} from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const sizes = [0, 1, 511, 513, 70_000];
const contents = sizes.map((size, i) => ({
  path: `./file ${i}`,
  body: { kind: "bytes", bytes: sampleBody(size, i + 1) } as const,
}));
const named = contents.map(({ path, body }) => ({ name: path.slice(2), body }));
const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");

/** Sound images without most of the padding after them. */
const WHOLE = [
  [
    "a boot image",
    bytesOfSegments(bootImage({
      stage1,
      stage2: textSegment("90 F4\n".repeat(100)),
      srcfs: srcfs([{ path: "." }, ...contents], ["hex0 /a /b"]),
    })),
  ],
  [
    "a boot image with a payload on its disk",
    oneDisk(
      bytesOfSegments(bootImage({
        stage1,
        stage2: textSegment("90 F4\n"),
        srcfs: srcfs(contents.slice(0, 4), ["hex0 /a /b"]),
      })).subarray(0, 4096),
      bytesOfSegments(payload(named.slice(0, 4), 64)).subarray(0, 2048),
    ),
  ],
  ["a payload of layout 64", bytesOfSegments(payload(named, 64))],
  ["a payload of layout 32", bytesOfSegments(payload(named, 32))],
] as const;
const KEPT = 73_000;

const WORDS = ["src 9999999999999999", "src 0 a"];

/** Reads all entries of an image; there are few, as each takes some bytes of it. */
function walk(image: Uint8Array): void {
  const source = watchedSource(image);
  let count = 0;
  survive(() => {
    for (const entry of readImage(source)) {
      count++;
      if (entry.kind === "command") continue;
      if (entry.dataOffset + entry.size > image.length) throw new Error("content past the end");
    }
  });
  expect(count).toBeLessThanOrEqual(image.length / 2);
  survive(() => verifyImage(source));
  // Each record fills the window at most once.
  assertBounded(source, 4 + Math.ceil(2 * count / 10));
}

test("the images are sound before they are damaged", () => {
  expect(WHOLE.map(([, whole]) => verifyImage(memorySource(whole)).files)).toEqual([4, 7, 5, 5]);
});

for (const [what, whole] of WHOLE) {
  test(`reading ${what} that is damaged ends, in bounded memory`, () =>
    fc.assert(
      fc.property(fc.integer(), (number) => {
        walk(damaged(new Random(number), { bytes: whole.slice(0, KEPT), words: WORDS }));
      }),
      { numRuns: 300 },
    ));
}

test("reading any bytes after a magic ends", () =>
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.constantFrom(0, 1, 2), (bytes, kind) => {
      if (kind === 0) return walk(concat([new TextEncoder().encode("LBPAYLD1"), bytes]));
      const text = new TextEncoder().encode("90\n");
      return walk(concat([stage1, kind === 1 ? text : bytes, new Uint8Array(509), bytes]));
    }),
    { numRuns: 300 },
  ));

test("the time to read an image of many small records grows linearly", () => {
  const entries = Array.from({ length: 40_000 }, (_, i) => ({ path: `./${i}` }));
  const image = bytesOfSegments(
    bootImage({ stage1, stage2: textSegment("90\n"), srcfs: srcfs(entries, []) }),
  );
  const source = watchedSource(image);
  expect(verifyImage(source).empty).toBe(40_000);
  assertBounded(source, 3);
  expect(findEntry(openView(memorySource(image)), "39999").path).toBe("./39999");
});

test("the time to read a payload of many empty files grows linearly", () => {
  const files = Array.from({ length: 40_000 }, (_, i) => ({ name: `${i}`, body: textSegment("") }));
  const source = watchedSource(bytesOfSegments(payload(files)));
  expect([...readPayload(source)]).toHaveLength(40_000);
  assertBounded(source, 3);
});
