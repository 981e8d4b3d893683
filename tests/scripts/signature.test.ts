// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { checkSignature, signed } from "../../scripts/signature.ts";

const FIXTURE = new URL("../fixtures/signed.macho.gz", import.meta.url).href;
const LINKED = new Uint8Array(gunzipSync(readFileSync(fileURLToPath(FIXTURE))));
const CPU_AT = 4;
const ARM64 = 0x0100000c;
const LC_CODE_SIGNATURE = 0x1d;
const LC_NOTE = 0x31;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function commandAt(file: DataView): number {
  let at = 32;
  while (file.getUint32(at, true) !== LC_CODE_SIGNATURE) at += file.getUint32(at + 4, true);
  return at;
}

/** The program without a signature, for another processor if need be. */
function unsigned(cpu?: number): Uint8Array {
  const bytes = LINKED.slice();
  const file = view(bytes);
  if (cpu !== undefined) file.setUint32(CPU_AT, cpu, true);
  file.setUint32(commandAt(file), LC_NOTE, true);
  return bytes;
}

test("signed() makes the bytes that a linker makes", () => {
  expect(checkSignature(LINKED)).toEqual({ cpu: "x64", pages: 3 });
  const stale = LINKED.slice();
  stale.fill(0, view(LINKED).getUint32(commandAt(view(LINKED)) + 8, true) + 8);
  expect(() => checkSignature(stale)).toThrow("no code directory");
  expect(Buffer.compare(signed(stale), LINKED)).toBe(0);
});

test("checkSignature() finds a change in any page, and in the hashes", () => {
  const limit = view(LINKED).getUint32(commandAt(view(LINKED)) + 8, true);
  const last = LINKED.length - 1;
  for (const [at, page] of [[5000, 4096], [limit - 1, 8192], [last, 8192]] as const) {
    const changed = LINKED.slice();
    changed[at]! ^= 1;
    expect(() => checkSignature(changed)).toThrow(`the page at ${page} is not as it was signed`);
  }
});

test("checkSignature() refuses a signature of a shorter file, as Bun leaves it for x64", () => {
  const command = commandAt(view(LINKED));
  const limit = view(LINKED).getUint32(command + 8, true);
  const grown = new Uint8Array(LINKED.length + 4096);
  grown.set(LINKED.subarray(0, limit));
  grown.set(LINKED.subarray(limit), limit + 4096);
  view(grown).setUint32(command + 8, limit + 4096, true);
  expect(() => checkSignature(grown)).toThrow(
    `it is signed up to ${limit}, and its signature is at ${limit + 4096}`,
  );
  expect(checkSignature(signed(grown))).toEqual({ cpu: "x64", pages: 4 });
});

test("only a program for arm64 needs a signature", () => {
  expect(checkSignature(unsigned())).toEqual({ cpu: "x64", pages: 0 });
  expect(() => checkSignature(unsigned(ARM64))).toThrow("it has no signature");
  expect(() => signed(unsigned())).toThrow("it has no signature to replace");
});

test("what is no binary for macOS is refused", () => {
  expect(() => checkSignature(new Uint8Array(readFileSync(process.execPath).subarray(0, 4096))))
    .toThrow("it is no 64-bit Mach-O file");
  const other = LINKED.slice();
  view(other).setUint32(CPU_AT, 7, true);
  expect(() => checkSignature(other)).toThrow("another processor");
});
