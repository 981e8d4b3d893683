// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { checkVerdict } from "../../src/preflight/run.ts";
import { explainReason, parseReport } from "../../src/preflight/report.ts";

const LOG = [
  "SeaBIOS (version 1.16)\r",
  "preflight: start version=1.0 drive=80 srcfs-lba=189\r",
  "..\r",
  "preflight: boot drive=80 entries=5 crc=bad found=11 expected=22 state=ok\r",
  "preflight: verdict failed crc,memory-map\r",
].join("\n");

test("parseReport() keeps topics and values, and ignores output of the firmware", () => {
  const report = parseReport(LOG);
  expect(report.lines.map(({ topic }) => topic)).toEqual(["start", "boot"]);
  expect(report.lines[1]!.values).toEqual({
    drive: "80",
    entries: "5",
    crc: "bad",
    found: "11",
    expected: "22",
    state: "ok",
  });
  expect(report.verdict).toEqual({ ok: false, reasons: ["crc", "memory-map"] });
});

test("parseReport() returns no verdict if the guest reported none", () => {
  expect(parseReport("preflight: start version=1.0").verdict).toBeUndefined();
  expect(parseReport("preflight: verdict").verdict).toBeUndefined();
  expect(parseReport("x preflight: verdict ok").verdict).toBeUndefined();
});

test("parseReport() returns the last report of a guest that was started twice", () => {
  const report = parseReport(`${LOG}\npreflight: start version=1.0\npreflight: verdict ok\n`);
  expect(report.lines).toHaveLength(1);
  expect(report.verdict).toEqual({ ok: true, reasons: [] });
  expect(parseReport(`${LOG}\npreflight: start version=1.0\n`).verdict).toBeUndefined();
});

test("parseReport() accepts any text", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    expect(parseReport(`preflight: ${text}`).lines.length).toBeLessThanOrEqual(2 + text.length);
  }));
});

test("checkVerdict() turns a bad verdict into an error that explains each reason", () => {
  expect(() => checkVerdict(parseReport("preflight: verdict ok"), "here")).not.toThrow();
  expect(() => checkVerdict(parseReport(LOG), "here")).toThrow(
    `This machine cannot run a bootstrap\n  crc: ${explainReason("crc")}\n` +
      `  memory-map: ${explainReason("memory-map")}`,
  );
  expect(explainReason("of-a-later-version")).toContain("lines above");
  // A property name that every object has.
  expect(explainReason("constructor")).toContain("lines above");
});

test("parseReport() counts lines that have lost something on the way", () => {
  const real = [
    "start version=1.0 drive=80 srcfs-lba=189",
    "e820 base=0000000000100000 end=00000000BFFE0000 type=1",
    "boot drive=80 sectors=4096 entries=5 commands=0 bytes=700022 end=796937 retries=0 crc=ok state=ok",
    "ram use=files base=54000000 end=C0000000 free=1811808256 state=short",
    "memory spans=1 places=49132 passes=4 faults=0 state=ok",
    "disk drive=81 sectors=2048 sector-bytes=512 state=ok",
    "payload drive=81 at=0 layout=64 files=3 of=3 bytes=370001 end=370112 state=ok",
    "payloads found=1 required=1",
    "verdict ok",
  ];
  const log = (lines: readonly string[]) => lines.map((line) => `preflight: ${line}\r\n`).join("");
  expect(parseReport(log(real)).damagedLines).toBe(0);
  for (
    const damaged of [
      "boot",
      "boot drive=80 st",
      "ram use=files base=54000000 free=-1 state=ok",
      "payload bytes=xx state=ok",
      "memory spans=1 spans=1 state=ok",
      "disk drive=8\x1b1 state=ok",
      "verdict o",
    ]
  ) {
    expect(parseReport(log([...real, damaged]))).toMatchObject({ damagedLines: 1 });
  }
});
