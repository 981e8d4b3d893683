// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LINUX_PARTITION, mbr, readMbr } from "../../src/format/mbr.ts";
import { memorySource } from "../../src/format/reader.ts";
import { GIB, MIB, SECTOR_BYTES } from "../../src/format/segment.ts";
import { TempDirs } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const partition = fc.record({
  isBootable: fc.boolean(),
  type: fc.integer({ min: 1, max: 255 }),
  startSector: fc.integer({ min: 1, max: 0x7fffffff }),
  sectorCount: fc.integer({ min: 1, max: 0x7fffffff }),
});
const signature = fc.integer({ min: 0, max: 0xffffffff });

test("readMbr() returns what was written", () =>
  fc.assert(
    fc.property(partition, signature, (partition, diskSignature) => {
      const sector = mbr(partition, diskSignature);
      expect(sector).toHaveLength(SECTOR_BYTES);
      expect(readMbr(memorySource(sector))).toEqual({
        diskSignature,
        types: [partition.type],
        partitions: [{ number: 1, ...partition }],
      });
    }),
  ));

test("mbr() writes the bytes that sfdisk writes for a partition at 1 MiB of a disk of 1 GiB", () => {
  const sector = mbr(
    { isBootable: true, type: LINUX_PARTITION, startSector: 2048, sectorCount: 2095104 },
    0x12345678,
  );
  expect(Buffer.from(sector.subarray(440, 462)).toString("hex")).toBe(
    "78563412" + "0000" + "80202100" + "83" + "8a0882" + "00080000" + "00f81f00",
  );
  expect(sector.subarray(0, 440).every((byte) => byte === 0)).toBe(true);
});

test.each([
  [{ startSector: 0 }, 0, "first sector is 0"],
  [{ startSector: 2 ** 32 }, 0, "first sector is 4294967296"],
  [{ sectorCount: 0 }, 0, "number of sectors is 0"],
  [{ sectorCount: 1.5 }, 0, "number of sectors is 1.5"],
  [{ startSector: 2 ** 32 - 1, sectorCount: 2 }, 0, "last sector is 4294967296"],
  [{ type: 0 }, 0, "type is 0"],
  [{ type: 256 }, 0, "type is 256"],
  [{}, 2 ** 32, "disk signature is 4294967296"],
  [{}, -1, "disk signature is -1"],
])("mbr() refuses %j with signature %d", (change, diskSignature, message) => {
  const whole = { isBootable: false, type: 0x83, startSector: 2048, sectorCount: 10, ...change };
  expect(faultOf(() => mbr(whole, diskSignature))).toContain(message);
});

test("readMbr() refuses a sector without 55 AA, and a source shorter than a sector", () => {
  const sector = mbr({ isBootable: false, type: 0x83, startSector: 1, sectorCount: 1 }, 0);
  sector[510] = 0;
  for (const bytes of [sector, sector.subarray(0, 511), new Uint8Array()]) {
    expect(faultOf(() => readMbr(memorySource(bytes)))).toBe(
      "Cannot read image: no partition table: 55 AA is missing | memory, offset 510",
    );
  }
});

test("readMbr() reads any bytes, and leaves out entries that are not used", () =>
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 510, maxLength: 510 }), (bytes) => {
      const sector = new Uint8Array([...bytes, 0x55, 0xaa]);
      const { types, partitions } = readMbr(memorySource(sector));
      const all = [450, 466, 482, 498].map((at) => sector[at]!);
      expect(types).toEqual(all.filter((type) => type !== 0));
      for (const { number, type, startSector, sectorCount } of partitions) {
        expect(Math.min(type, startSector, sectorCount)).toBeGreaterThan(0);
        expect(sector[446 + 16 * (number - 1) + 4]).toBe(type);
      }
    }),
  ));

testWith("sfdisk").each([
  ["1 MiB, bootable", MIB, 64 * MIB, true],
  ["1 GiB, past the range of CHS", GIB, 16 * GIB, false],
])(
  "sfdisk finds no fault in a table with a partition at %s",
  async (_, start, size, isBootable) => {
    const disk = join(temp.make(), "disk.img");
    const [startSector, sectorCount] = [start / SECTOR_BYTES, (size - start) / SECTOR_BYTES];
    writeFileSync(
      disk,
      mbr({ isBootable, type: LINUX_PARTITION, startSector, sectorCount }, 0xabc),
    );
    truncateSync(disk, size);
    const verified = await run(["sfdisk", "--verify", disk]);
    expect(verified.stdout).toContain("No errors detected");
    const dump = await run(["sfdisk", "--dump", disk]);
    expect(dump.stdout).toContain("label: dos\nlabel-id: 0x00000abc");
    expect(dump.stdout.replace(/ +/g, " ")).toContain(
      `start= ${startSector}, size= ${sectorCount}, type=83${isBootable ? ", bootable" : ""}\n`,
    );
  },
);
