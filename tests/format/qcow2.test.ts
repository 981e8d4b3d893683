// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { qcow2, readQcow2 } from "../../src/format/qcow2.ts";
import { memorySource } from "../../src/format/reader.ts";
import { KIB, MIB } from "../../src/format/segment.ts";
import { findProgram } from "../../src/launch/process.ts";
import { openLayers } from "../../src/source/layers.ts";
import { mergeLayers } from "../../src/write/layers.ts";
import { TempDirs } from "../support/files.ts";
import { copyInto, QEMU } from "../support/layers.ts";
import { damaged, Random } from "../support/mutate.ts";
import { run, testWith } from "../support/run.ts";
import { faultOf, survive, watchedSource } from "../support/sources.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const hasQemu = await findProgram(QEMU) !== undefined;
if (!hasQemu) console.log(`skipped: layers that QEMU writes, as there is no ${QEMU}`);

const BASE = { name: "disk.img", format: "raw" } as const;

test("a layer in which nothing is written has a header, and everything is in its base", () => {
  const bytes = qcow2(16 * MIB, BASE, 64 * KIB);
  expect(bytes.length).toBe(4 * 64 * KIB);
  const hex = Buffer.from(bytes.subarray(0, 136)).toString("hex");
  expect(hex).toBe(
    "514649fb" + "00000003" + "0000000000000080" + "00000008" + "00000010" + "0000000001000000" +
      "00000000" + "00000001" + "0000000000030000" + "0000000000010000" + "00000001" + "00000000" +
      "0000000000000000" + "0000000000000000" + "0000000000000000" + "0000000000000000" +
      "00000004" + "00000068" + "e2792aca" + "00000003" + "7261770000000000" +
      "0000000000000000" + "6469736b2e696d67",
  );
  const layer = readQcow2(memorySource(bytes));
  expect(layer).toMatchObject({ sizeBytes: 16 * MIB, clusterBytes: 64 * KIB, base: "disk.img" });
  expect(layer.find(65530)).toEqual({ sizeBytes: 16 * MIB - 65530, at: "base" });
  expect(layer.find(16 * MIB - 512)).toEqual({ sizeBytes: 512, at: "base" });
});

testWith("qemu-img")("qemu-img finds no fault in a layer of any size", async () => {
  const dir = temp.make();
  writeFileSync(join(dir, "disk.img"), "");
  for (const sizeBytes of [512, 16 * MIB, 20 * 1024 * MIB, 2048 * 1024 * MIB]) {
    for (const clusterBytes of [512, 4 * KIB, 64 * KIB, 2 * MIB]) {
      let bytes: Uint8Array;
      try {
        bytes = qcow2(sizeBytes, BASE, clusterBytes);
      } catch (error) {
        expect(String(error)).toContain("the disk is too large");
        expect(sizeBytes / clusterBytes).toBeGreaterThan(2 ** 31);
        continue;
      }
      writeFileSync(join(dir, "layer"), bytes);
      const checked = await run(["qemu-img", "check", "-f", "qcow2", join(dir, "layer")]);
      expect(checked.stdout + checked.stderr).toStartWith("No errors were found on the image.");
    }
  }
});

test.each([
  [4, 0xff, "it is no qcow2|version"],
  [0, 0x00, "it is no qcow2"],
  [35, 0x01, "encrypted"],
  [23, 0x30, "2\\^48"],
  [79, 0x10, "features 0x10"],
  [39, 0x00, "16777216 bytes in 0 L1 entries"],
  [36, 0xff, "L1 entries"],
  [24, 0x01, "bytes in 1 L1"],
  [18, 0xff, "a name of"],
  [40, 0x01, "L1 table"],
])("readQcow2() refuses a header with another byte %d", (at, value, message) => {
  const bytes = qcow2(16 * MIB, BASE, 64 * KIB);
  bytes[at] = value;
  expect(faultOf(() => readQcow2(memorySource(bytes)))).toMatch(new RegExp(message));
});

const clusters = fc.uniqueArray(fc.integer({ min: 0, max: 2000 }), { maxLength: 40 }).map((all) =>
  all.sort((a, b) => a - b).map((index) => ({ index, isZero: index % 3 === 0 }))
);

test("readQcow2() finds the clusters that were written, and the rest in the base", () =>
  fc.assert(
    fc.property(clusters, fc.constantFrom(512, 4 * KIB), (clusters, clusterBytes) => {
      const sizeBytes = 2001 * clusterBytes - 512;
      const head = qcow2(sizeBytes, BASE, clusterBytes, clusters);
      const layer = readQcow2(memorySource(head));
      let data = head.length;
      let end = 0;
      for (const { index, isZero } of clusters) {
        const at = index * clusterBytes;
        for (; end < at; end += layer.find(end).sizeBytes) expect(layer.find(end).at).toBe("base");
        expect(end).toBe(at);
        const run = layer.find(at);
        expect(run.at).toBe(isZero ? "zeros" : data);
        end += run.sizeBytes;
        if (!isZero) data += clusterBytes;
      }
      for (; end < sizeBytes; end += layer.find(end).sizeBytes) {
        expect(layer.find(end).at).toBe("base");
      }
      expect(end).toBe(sizeBytes);
    }),
  ));

test("reading a layer that is damaged ends, in bounded memory", () => {
  const written = Array.from({ length: 30 }, (_, n) => ({ index: n * 37, isZero: n % 3 === 0 }));
  const head = qcow2(2 * MIB, BASE, 512, written);
  fc.assert(
    fc.property(fc.integer(), (number) => {
      const source = watchedSource(damaged(new Random(number), { bytes: head }));
      survive(() => {
        const layer = readQcow2(source);
        for (let at = 0, runs = 0; at < layer.sizeBytes && runs < 50_000; runs++) {
          const { sizeBytes } = layer.find(at);
          if (!(sizeBytes > 0)) throw new Error(`a run of ${sizeBytes} bytes`);
          at += sizeBytes;
        }
      });
      expect(source.maxRead).toBeLessThanOrEqual(Math.max(MIB, source.sizeBytes));
    }),
    { numRuns: 300 },
  );
});

describe.if(hasQemu)("a layer that QEMU has written", () => {
  test("reads as the disk of the guest, over another layer and an image", async () => {
    const dir = temp.make();
    const sizeBytes = 40 * MIB;
    const disk = new Uint8Array(sizeBytes);
    const random = new Random(15);
    const change = (into: Uint8Array) => {
      for (let round = 0; round < 40; round++) {
        const at = 512 * random.below(sizeBytes / 512 - 300);
        into.fill(random.below(256), at, at + 512 * (1 + random.below(299)));
      }
    };
    change(disk);
    const [image, first, second] = ["disk.img", "1.qcow2", "2.qcow2"].map((n) => join(dir, n));
    writeFileSync(image!, disk);
    const layers: string[] = [];
    for (const path of [first!, second!]) {
      const over = layers.at(-1);
      writeFileSync(
        path,
        qcow2(
          sizeBytes,
          over === undefined ? BASE : { name: "1.qcow2", format: "qcow2" },
          over === undefined ? 64 * KIB : 4 * KIB,
        ),
      );
      layers.push(path);
      change(disk);
      const wanted = join(dir, "wanted");
      writeFileSync(wanted, disk);
      await copyInto(wanted, path);
      const source = openLayers(image!, layers);
      try {
        expect(source.sizeBytes).toBe(sizeBytes);
        expect(digestOf(source)).toBe(createHash("sha256").update(disk).digest("hex"));
        for (let at = source.nextData!(0), last = 0; at < sizeBytes; at = source.nextData!(last)) {
          expect(disk.subarray(last, at).every((byte) => byte === 0)).toBe(true);
          last = at + 512;
        }
      } finally {
        source.close();
      }
    }
    expect(new Uint8Array(readFileSync(image!))).not.toEqual(disk);
    const wanted = createHash("sha256").update(disk).digest("hex");
    const third = join(dir, "3.qcow2");
    writeFileSync(third, qcow2(sizeBytes, { name: "2.qcow2", format: "qcow2" }, 4 * KIB));
    disk.fill(0, 5 * MIB, 7 * MIB);
    change(disk);
    writeFileSync(join(dir, "wanted"), disk);
    await copyInto(join(dir, "wanted"), third);
    const into = join(dir, "merged.qcow2");
    const below = { name: "1.qcow2", format: "qcow2" } as const;
    const paths = { lower: second!, upper: third, into };
    expect(await mergeLayers(paths, below)).toBe(true);
    const merged = openLayers(image!, [first!, into]);
    expect(digestOf(merged)).toBe(createHash("sha256").update(disk).digest("hex"));
    merged.close();
    if (Bun.which("qemu-img") !== null) {
      const checked = await run(["qemu-img", "check", into]);
      expect(checked.stdout).toStartWith("No errors were found on the image.");
    }
    expect(await mergeLayers({ ...paths, lower: first!, into: join(dir, "no") }, below)).toBe(
      false,
    );
    const whole = openLayers(image!, layers);
    expect(digestOf(whole)).toBe(wanted);
    whole.close();
    writeFileSync(second!, readFileSync(second!).subarray(0, 5 * 64 * KIB));
    expect(() => digestOf(openLayers(image!, layers))).toThrow(/cut|table/);
  });
});

function digestOf(source: ReturnType<typeof openLayers>): string {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(100_000);
  for (let at = 0; at < source.sizeBytes;) {
    const read = source.read(at, buffer);
    hash.update(buffer.subarray(0, read));
    at += read;
  }
  return hash.digest("hex");
}
