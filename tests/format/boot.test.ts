// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  bootImage,
  checkStage1,
  checkStage2,
  isBootSector,
  payloadPartition,
  READ_AHEAD_BYTES,
  readBootHeader,
} from "../../src/format/boot.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { payload, readPayload } from "../../src/format/payload.ts";
import { firstNonZero, memorySource, readExactly } from "../../src/format/reader.ts";
import { MIB, textSegment } from "../../src/format/segment.ts";
import { readSrcfs, srcfs } from "../../src/format/srcfs.ts";
import { bytesOfSegments, faultOf, watchedSource } from "../support/sources.ts";
import { STAGE1_TEXT } from "../support/tree.ts";

const encoder = new TextEncoder();
const stage1 = assembleHex0(encoder.encode(STAGE1_TEXT), "stage1");
const files = srcfs([{ path: "." }, { path: "./a", body: textSegment("hello") }], ["hex0 /a /b"]);

function image(stage2: string, segments = files): Uint8Array {
  return bytesOfSegments(bootImage({ stage1, stage2: textSegment(stage2), srcfs: segments }));
}

test("bootImage() is a sector, a text, NULs to the next sector, the srcfs and zeros", () => {
  const bytes = image("90 90\n");
  expect(bytes[510]).toBe(0x55);
  expect(bytes[511]).toBe(0xaa);
  expect(new TextDecoder().decode(bytes.subarray(512, 520))).toBe("90 90\n\0\0");
  expect(new TextDecoder().decode(bytes.subarray(1024, 1032))).toBe("src 0 .\n");
  expect(bytes).toHaveLength(2 * MIB);
});

test("bootImage() adds a sector of NULs to a stage2 that ends at a sector boundary", () => {
  for (const [length, offset] of [[511, 1024], [512, 1536], [513, 1536], [1024, 2048]] as const) {
    const bytes = image("9".repeat(length));
    expect(bytes.subarray(512 + length, offset).every((byte) => byte === 0)).toBe(true);
    expect(new TextDecoder().decode(bytes.subarray(offset, offset + 5))).toBe("src 0");
    expect(readBootHeader(memorySource(bytes))).toEqual({
      stage2Size: length,
      srcfsOffset: offset,
    });
  }
});

test("bootImage() has whole MiB, and a MiB of zeros after the last byte of the srcfs", () =>
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3000 }),
      fc.oneof(fc.nat(5000), fc.integer({ min: MIB - 1200, max: MIB + 100 })),
      (stage2Size, size) => {
        const body = { kind: "bytes", bytes: new Uint8Array(size).fill(0x78) } as const;
        const bytes = image("9".repeat(stage2Size), srcfs([{ path: "./x", body }], []));
        expect(bytes.length % MIB).toBe(0);
        const { srcfsOffset } = readBootHeader(memorySource(bytes));
        const end = [...readSrcfs(memorySource(bytes), srcfsOffset)].at(-1)!.offsetBytes;
        expect(firstNonZero(memorySource(bytes), end)).toBe(-1);
        expect(bytes.length - end).toBeGreaterThanOrEqual(READ_AHEAD_BYTES);
        expect(bytes.length - end).toBeLessThan(READ_AHEAD_BYTES + MIB);
      },
    ),
    { numRuns: 60 },
  ));

test("checkStage1() accepts a sector that ends in 55 AA and nothing else", () => {
  checkStage1(stage1, "stage1");
  const other = stage1.slice();
  other[511] = 0;
  for (const bytes of [new Uint8Array(), stage1.subarray(1), other, new Uint8Array(513)]) {
    expect(faultOf(() => checkStage1(bytes, "s1.hex0"))).toBe(
      `Cannot boot from s1.hex0: it assembles to ${bytes.length} bytes; ` +
        "a boot sector has 512 and ends in 55 AA | s1.hex0",
    );
  }
});

test("checkStage2() refuses a text that is empty or contains a NUL", () => {
  checkStage2(encoder.encode("90"), "s2");
  expect(faultOf(() => checkStage2(encoder.encode("90\0"), "s2"))).toBe(
    "Cannot boot from s2: it contains a NUL, which ends it | s2, offset 2",
  );
  expect(faultOf(() => checkStage2(new Uint8Array(), "s2"))).toStartWith(
    "Cannot boot from s2: it is empty",
  );
});

test("readBootHeader() reports what is damaged, and where", () => {
  const bytes = image("90 90\n");
  const damaged = (change: (bytes: Uint8Array) => Uint8Array | void) => {
    const copy = bytes.slice();
    const source = watchedSource(change(copy) ?? copy);
    return faultOf(() => readBootHeader(source));
  };
  const no = "Cannot read image: no boot sector: 55 AA is missing | image, offset 510";
  expect(damaged((copy) => void (copy[510] = 0))).toBe(no);
  expect(damaged((copy) => copy.subarray(0, 511))).toBe(no);
  expect(damaged(() => new Uint8Array())).toBe(no);
  expect(damaged((copy) => void copy.fill(0, 512))).toEndWith("no stage2 text | image, offset 512");
  expect(damaged((copy) => copy.subarray(0, 512))).toEndWith("has no end | image, offset 512");
  expect(damaged((copy) => copy.subarray(0, 515))).toEndWith("has no end | image, offset 515");
  expect(isBootSector(memorySource(bytes))).toBe(true);
});

test("readBootHeader() refuses a stage2 text that has no end", () => {
  const bytes = new Uint8Array(9 * MIB).fill(0x39);
  bytes.set(stage1);
  const source = watchedSource(bytes);
  expect(faultOf(() => readBootHeader(source))).toContain("the stage2 text has no end");
  expect(source.totalRead).toBeLessThan(5 * MIB);
});

/** A boot image with a payload on the same disk. */
function withPayload(files: Readonly<Record<string, Uint8Array>>, srcfsFiles = filesOf("hello")) {
  const carried = Object.entries(files).map(([name, bytes]) => (
    { name, body: { kind: "bytes", bytes } as const }
  ));
  return bytesOfSegments(bootImage({
    stage1,
    stage2: textSegment("90 90\n"),
    srcfs: srcfsFiles,
    payload: payload(carried),
  }));
}

function filesOf(text: string) {
  return srcfs([{ path: "./a", body: textSegment(text) }], []);
}

test("a payload on the disk of a boot image is its second partition, and reads as it was written", () =>
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string({ minLength: 1, maxLength: 9, unit: "grapheme" })
          .filter((name) => !/[/\\\0]/.test(name) && name !== "." && name !== ".."),
        fc.uint8Array({ maxLength: 2000 }),
        { maxKeys: 6 },
      ),
      fc.nat(3 * MIB),
      (files, size) => {
        const bytes = withPayload(files, filesOf("x".repeat(size)));
        const source = memorySource(bytes);
        const { srcfsOffset } = readBootHeader(source);
        const end = [...readSrcfs(source, srcfsOffset)].at(-1)!.offsetBytes;
        const found = payloadPartition(source, end)!;
        expect(found.baseBytes % MIB).toBe(0);
        expect(found.baseBytes - end).toBeGreaterThanOrEqual(READ_AHEAD_BYTES);
        expect(found.baseBytes + found.sizeBytes).toBe(bytes.length);
        expect(firstNonZero(source, end, found.baseBytes)).toBe(-1);
        const read = [...readPayload(found)].map((
          { name, dataOffsetBytes, sizeBytes },
        ) => [name, readExactly(found, dataOffsetBytes, sizeBytes)]);
        expect(Object.fromEntries(read)).toEqual(files);
      },
    ),
  ));

test("with a payload, only the second entry of the table differs in stage1", () => {
  const bytes = withPayload({ one: new Uint8Array(9) });
  const changed = [...bytes.subarray(0, 512).entries()]
    .filter(([at, byte]) => byte !== stage1[at]).map(([at]) => at);
  expect(changed.length).toBeGreaterThan(0);
  expect(changed.every((at) => at >= 462 && at < 478)).toBe(true);
  const used = stage1.slice();
  used[470] = 1;
  const parts = { stage2: textSegment("90\n"), srcfs: files, payload: payload([]) };
  expect(() => bootImage({ stage1: used, ...parts })).toThrow("entry 2 is used");
});

test("a partition that is within the srcfs, or ends after the image, is a fault at its entry", () => {
  const bytes = withPayload({ one: new Uint8Array(9) });
  const end = 2048;
  const changed = (at: number, value: number) => {
    const copy = bytes.slice();
    new DataView(copy.buffer).setUint32(at, value, true);
    return memorySource(copy);
  };
  for (const [at, value] of [[470, 3], [470, 0xfffffff0], [474, 0xffffffff]] as const) {
    expect(faultOf(() => payloadPartition(changed(at, value), end)))
      .toMatch(/the partition of the payload (begins|ends) at byte .* \| memory, offset 462$/);
  }
  const other = bytes.slice();
  other[466] = 0x83;
  expect(payloadPartition(memorySource(other), end)).toBeUndefined();
  // The script that installs the system looks at the second entry only.
  const third = bytes.slice();
  third.set(bytes.subarray(462, 478), 478);
  third.fill(0, 462, 478);
  expect(payloadPartition(memorySource(third), end)).toBeUndefined();
});
