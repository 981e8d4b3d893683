// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootImage } from "../../src/format/boot.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { payload } from "../../src/format/payload.ts";
import { closingRecord } from "../../src/format/preflight.ts";
import { memorySource } from "../../src/format/reader.ts";
import { type Segment, textSegment } from "../../src/format/segment.ts";
import { srcfs } from "../../src/format/srcfs.ts";
import { openImage } from "../../src/source/file.ts";
import { detectImage, readImage, verifyImage } from "../../src/image/linear.ts";
import { digestEntry, findEntry, openView } from "../../src/image/view.ts";
import { sampleBody, sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import {
  assertBounded,
  bytesOfSegments,
  concat,
  faultOf,
  watchedSource,
} from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const stage1 = assembleHex0(new TextEncoder().encode(STAGE1_TEXT), "stage1");
function boot(segments: readonly Segment[]): Uint8Array {
  return bytesOfSegments(bootImage({ stage1, stage2: textSegment("90\n"), srcfs: segments }));
}
const files = srcfs([
  { path: "." },
  { path: "./a b", body: textSegment("first") },
  { path: "./a b", body: textSegment("second") },
  { path: "/abs", body: textSegment("third") },
  { path: "./none", body: textSegment("") },
], ["hex0 /a /b"]);

test("detectImage() detects boot images and payloads, and refuses the rest", () => {
  expect(detectImage(memorySource(boot(files)))).toBe("boot");
  expect(detectImage(memorySource(bytesOfSegments(payload([]))))).toBe("payload");
  expect(faultOf(() => detectImage(memorySource(new Uint8Array())))).toStartWith(
    "Cannot read image: it is empty",
  );
  for (const bytes of [new Uint8Array(2000), sampleBody(2000)]) {
    expect(faultOf(() => detectImage(memorySource(bytes)))).toStartWith(
      "Cannot read image: neither a boot image",
    );
  }
});

test("readImage() and verifyImage() agree on a boot image", () => {
  const image = boot(files);
  expect(Array.from(readImage(memorySource(image)), ({ kind, path }) => `${kind} ${path}`))
    .toEqual([
      "empty .",
      "file ./a b",
      "file ./a b",
      "file /abs",
      "empty ./none",
      "command hex0 /a /b",
    ]);
  expect(verifyImage(memorySource(image))).toMatchObject({
    kind: "boot",
    files: 3,
    empty: 2,
    commands: 1,
    fileBytes: 16,
    sizeBytes: image.length,
  });
});

test("verifyImage() reports the layout of a payload, and where its last file ends", () => {
  for (const layout of [64, 32] as const) {
    const image = bytesOfSegments(payload([{ name: "a", body: textSegment("xyz") }], layout));
    const endOffset = 8 + 3 * layout / 8 + 1 + 3;
    expect(verifyImage(memorySource(image))).toMatchObject({
      kind: "payload",
      layout,
      files: 1,
      fileBytes: 3,
      endOffset,
    });
    image[endOffset] = 1;
    expect(faultOf(() => verifyImage(memorySource(image)))).toBe(
      `Cannot read image: a byte after the last entry is not zero | memory, offset ${endOffset}`,
    );
  }
});

test("verifyImage() finds a byte anywhere after the last entry", () => {
  const image = boot(files);
  image[image.length - 1] = 7;
  expect(faultOf(() => verifyImage(memorySource(image)))).toEndWith(
    `offset ${image.length - 1}`,
  );
});

/** A srcfs with a closing record, and commands after it. */
const closed = (...after: string[]) => [
  ...srcfs([{ path: "." }], ["hex0 /a /b"]),
  ...closingRecord({ payload: true, read: true, memory: false }),
  ...srcfs([], after),
];

test("verifyImage() checks the CRC-32 of a closing record", () => {
  const image = boot(closed());
  expect(verifyImage(memorySource(image)).commands).toBe(2);
  image[0]! ^= 1;
  expect(faultOf(() => verifyImage(memorySource(image)))).toContain(
    "the CRC-32 of the bytes before is",
  );
});

test("verifyImage() computes one CRC-32 at most, however many lines ask for it", () => {
  const lines = Array.from({ length: 20_000 }, () => "preflight crc32=00000000");
  const source = watchedSource(boot(srcfs([{ path: "." }], lines)));
  expect(faultOf(() => verifyImage(source))).toContain("expected 00000000");
  assertBounded(source, 4);
  expect(verifyImage(memorySource(boot(closed("hex0 /a /b")))).commands).toBe(3);
});

test("findEntry() finds the last entry of a path, with or without a leading ./ or /", () => {
  const view = openView(memorySource(boot(files)));
  for (const name of ["./a b", "a b", "/a b"]) {
    expect(digestEntry(view, findEntry(view, name))).toBe(sha256("second"));
  }
  expect(findEntry(view, "/abs").path).toBe("/abs");
  expect(findEntry(view, "abs").path).toBe("/abs");
  for (const name of ["ab", "A b", "hex0 /a /b", "", "."]) {
    expect(faultOf(() => findEntry(view, name))).toStartWith(
      `Cannot find ${JSON.stringify(name)} in memory`,
    );
  }
});

test("openImage() reads a file at any offset, also through a link", () => {
  const dir = temp.make();
  const body = sampleBody(200_000);
  writeFileSync(join(dir, "f"), body);
  symlinkSync("f", join(dir, "link"));
  const source = openImage(join(dir, "link"));
  try {
    expect(source.sizeBytes).toBe(200_000);
    const into = new Uint8Array(1000);
    expect(source.read(199_500, into)).toBe(500);
    expect(concat([into.subarray(0, 500)])).toEqual(new Uint8Array(body.subarray(199_500)));
    expect(source.read(300_000, into)).toBe(0);
  } finally {
    source.close();
  }
});

test("openImage() refuses directories and missing files", () => {
  const dir = temp.make();
  expect(faultOf(() => openImage(dir))).toContain(`Cannot read ${dir}: `);
  expect(faultOf(() => openImage(join(dir, "none")))).toStartWith(
    `Cannot read ${join(dir, "none")}: ENOENT`,
  );
});

testWith("mkfifo")("openImage() refuses a fifo, and does not wait for it", () => {
  const pipe = join(temp.make(), "pipe");
  Bun.spawnSync(["mkfifo", pipe]);
  const child = Bun.spawnSync([
    process.execPath,
    "-e",
    `import { openImage } from ${
      JSON.stringify(new URL("../../src/source/file.ts", import.meta.url).pathname)
    };
     try { openImage(${JSON.stringify(pipe)}); } catch (error) { console.log(error.message); }`,
  ], { timeout: 5000 });
  expect(child.stdout.toString()).toBe(
    `Cannot read ${pipe}: it is neither a regular file nor a block device\n`,
  );
});
