// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { testWith } from "../support/run.ts";
import { faultOf } from "../support/sources.ts";

const assemble = (text: string) => assembleHex0(new TextEncoder().encode(text), "a.hex0");
const fault = (text: string) => faultOf(() => assemble(text));

const digits = fc.constantFrom(..."0123456789abcdefABCDEF");
const space = fc.constantFrom(" ", "\t", "\n", "\r\n", "   ", "\v", "\f");
const comment = fc.tuple(
  fc.constantFrom("#", ";"),
  fc.string({ unit: "binary" }).map((text) => text.replaceAll("\n", "")),
).map(([mark, text]) => `${mark}${text}\n`);
/** Pieces of hex0: digits, white space and comments. */
const pieces = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: digits.map((text) => ({ text, counts: true })) },
    { weight: 2, arbitrary: space.map((text) => ({ text, counts: false })) },
    { weight: 1, arbitrary: comment.map((text) => ({ text, counts: false })) },
  ),
  { maxLength: 400 },
).map((list) => {
  const isOdd = list.filter(({ counts }) => counts).length % 2 === 1;
  return isOdd ? [...list, { text: "0", counts: true }] : list;
});

testWith("xxd")("assembleHex0() gives the same bytes as xxd for the same digits", () => {
  fc.assert(
    fc.property(pieces, (list) => {
      const plain = list.filter(({ counts }) => counts).map(({ text }) => text).join("");
      const xxd = Bun.spawnSync(["xxd", "-r", "-p"], { stdin: new TextEncoder().encode(plain) });
      expect(xxd.exitCode).toBe(0);
      const got = assemble(list.map(({ text }) => text).join(""));
      expect(Buffer.from(got).equals(xxd.stdout)).toBe(true);
    }),
    { numRuns: 150 },
  );
});

test("assembleHex0() ignores comments and white space at any position", () =>
  fc.assert(
    fc.property(pieces, (list) => {
      const plain = list.filter(({ counts }) => counts).map(({ text }) => text).join("");
      const got = assemble(list.map(({ text }) => text).join(""));
      expect(Buffer.from(got).toString("hex")).toBe(plain.toLowerCase());
    }),
  ));

test("assembleHex0() allows white space between the two digits of a byte", () => {
  expect([...assemble("4 # F\n 1\n;\nf\tF")]).toEqual([0x41, 0xff]);
  expect([...assemble("")]).toEqual([]);
  expect([...assemble("# only a comment without an end")]).toEqual([]);
  expect([...assemble("7f#45")]).toEqual([0x7f]);
});

test("assembleHex0() names line and column of a character that is not a digit", () => {
  const text = 'Cannot assemble hex0: "g" is not a hex digit | a.hex0:';
  expect(fault("g")).toBe(`${text}1:1`);
  expect(fault("00\n0 g")).toBe(`${text}2:3`);
  expect(fault("\n\n# x\n00 g0\n")).toBe(`${text}4:4`);
  expect(fault("00 \0")).toBe("Cannot assemble hex0: byte 0x00 is not a hex digit | a.hex0:1:4");
  expect(fault("# ä\nä")).toBe("Cannot assemble hex0: byte 0xc3 is not a hex digit | a.hex0:2:1");
});

test("assembleHex0() refuses every other byte", () => {
  for (let byte = 0; byte < 256; byte++) {
    const isSpace = byte === 0x20 || (byte >= 9 && byte <= 13);
    const isMark = byte === 0x23 || byte === 0x3b;
    if (isSpace || isMark || /[0-9a-fA-F]/.test(String.fromCharCode(byte))) continue;
    expect(faultOf(() => assembleHex0(new Uint8Array([0x30, 0x30, byte]), "a"))).toEndWith(
      " is not a hex digit | a:1:3",
    );
  }
});

test("assembleHex0() refuses an odd number of digits and names the last one", () => {
  const text = "Cannot assemble hex0: the number of hex digits is odd | a.hex0:";
  expect(fault("0")).toBe(`${text}1:1`);
  expect(fault("00\n 0 # end\n\n")).toBe(`${text}2:2`);
});
