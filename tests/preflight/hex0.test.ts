// SPDX-License-Identifier: MIT
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import {
  assemble,
  crcRegister,
  formatHex0,
  STAGES,
  STAGES_DIR,
} from "../../scripts/preflight/hex0.ts";
import { stageBytes, stageText } from "./boot.ts";

const missing = ["as", "ld", "objcopy"].filter((tool) =>
  spawnSync(tool, ["--version"]).status !== 0
);
if (missing.length > 0) console.warn(`skipped: comparing hex0 with binutils needs ${missing}`);

describe("preflight's hex0", () => {
  for (const { name, address } of STAGES) {
    const source = join(STAGES_DIR, `${name}.S`);

    test.skipIf(missing.length > 0)(`${name}.hex0 has the bytes that binutils assemble`, () => {
      const { bytes } = assemble(source, address);
      expect(stageBytes(name)).toEqual(bytes);
    });

    test.skipIf(missing.length > 0)(`${name}.hex0 contains each line of ${name}.S`, () => {
      const text = formatHex0(readFileSync(source, "utf8"), assemble(source, address), address);
      expect(stageText(name)).toBe(text);
    });

    test(`${name}.hex0 is plain ASCII with no tabs and no NUL`, () => {
      expect(stageText(name)).toMatch(/^[\n\x20-\x7e]*\n$/);
    });
  }
});

describe("preflight's stage1", () => {
  const sector = stageBytes("stage1");

  test("is one sector that ends in 55 AA", () => {
    expect(sector.length).toBe(512);
    expect([...sector.subarray(510)]).toEqual([0x55, 0xaa]);
  });

  test("does not use the disk signature, bytes 440 to 445, so its code has at most 440 bytes", () => {
    expect([...sector.subarray(440, 446)]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("has one active partition that begins at sector 1", () => {
    const view = new DataView(sector.buffer, 446, 16);
    expect(view.getUint8(0)).toBe(0x80);
    expect(view.getUint8(4)).toBe(0xb5);
    expect(view.getUint32(8, true)).toBe(1);
    expect(view.getUint32(12, true)).toBe(0xffffffff);
    expect(sector.subarray(462, 510).every((byte) => byte === 0)).toBe(true);
  });
});

describe("preflight's stage2", () => {
  const program = stageBytes("stage2");

  test("ends with the CRC that makes the CRC of the whole stage zero", () => {
    expect(crcRegister(program)).toBe(0);
  });

  test("ends below F000, where stage1 stops to load it", () => {
    expect(0x7e00 + program.length).toBeLessThan(0xf000);
  });
});
