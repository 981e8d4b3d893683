// SPDX-License-Identifier: MIT
import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assemble } from "../../scripts/preflight/hex0.ts";
import { GUEST_LISTING } from "../../src/doctor/guest.ts";
import { ROOT_LISTING } from "../../src/doctor/seed.ts";
import { assembleHex0 } from "../../src/format/hex0.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

/** Returns the assembler source in the comments of a listing: labels, directives, instructions. */
function sourceOf(listing: string): string {
  return listing.split("\n").flatMap((line) => {
    const [, bytes, text = ""] = /^([0-9A-F ]*)#(.*)$/.exec(line) ?? [];
    const label = /^:(\w+) /.exec(text)?.[1];
    if (label !== undefined) return [`${label}:`];
    const [code = ""] = text.trim().split(/\s+[;#] /);
    return bytes !== "" || code.startsWith(".") ? [code] : [];
  }).join("\n") + "\n";
}

testWith("as").each([
  ["the guest", GUEST_LISTING, 0x7c00],
  ["the program for a directory", ROOT_LISTING, 0x08048000],
])("the comments of %s say what its bytes do", (_, listing, address) => {
  const path = join(temp.make(), "listing.S");
  writeFileSync(path, sourceOf(listing));
  const bytes = assembleHex0(new TextEncoder().encode(listing), "listing");
  expect(bytes.length).toBeGreaterThan(400);
  expect(assemble(path, address).bytes).toEqual(bytes);
});

test("the guest fits the sectors that its boot sector reads", () => {
  const bytes = assembleHex0(new TextEncoder().encode(GUEST_LISTING), "listing");
  expect(bytes.length).toBeLessThanOrEqual(4 * 512);
  expect([...bytes.subarray(510, 512)]).toEqual([0x55, 0xaa]);
});
