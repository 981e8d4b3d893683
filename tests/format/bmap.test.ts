// SPDX-License-Identifier: MIT
import { expect, test } from "bun:test";
import fc from "fast-check";
import { UserError } from "../../src/errors.ts";
import { type Bmap, formatBmap, mappedRanges, readBmap } from "../../src/format/bmap.ts";
import type { ByteSource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { sha256 } from "../fetch/servers.ts";
import { sealedBmap } from "../support/bmap.ts";
import { damaged, Random } from "../support/mutate.ts";
import { faultOf } from "../support/sources.ts";

const BLOCK = 4096;
const read = (text: string | Uint8Array) =>
  readBmap(typeof text === "string" ? Buffer.from(text) : text, "x.bmap");

/** Maps of images, which may end within a block. */
const bmaps = fc.record({
  gaps: fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 5 }), fc.nat()), { maxLength: 9 }),
  tailBlocks: fc.nat(2),
  missingBytes: fc.nat(BLOCK - 1),
}).map(({ gaps, tailBlocks, missingBytes }): Bmap => {
  let end = 0;
  const ranges = gaps.map(([gap, count, seed]) => {
    const offsetBytes = (end + gap) * BLOCK;
    end += gap + count;
    return { offsetBytes, sizeBytes: count * BLOCK, sha256: sha256(String(seed)) };
  });
  const sizeBytes = Math.max(1, (end + tailBlocks) * BLOCK - missingBytes);
  const clipped = ranges.map((range) => ({
    ...range,
    sizeBytes: Math.min(range.sizeBytes, sizeBytes - range.offsetBytes),
  }));
  return { sizeBytes, ranges: clipped };
});

test("readBmap() reads what formatBmap() writes", () => {
  fc.assert(fc.property(bmaps, (bmap) => {
    expect(read(formatBmap(bmap))).toEqual(bmap);
  }));
});

test("readBmap() refuses every bmap that was changed", () => {
  fc.assert(
    fc.property(bmaps, fc.integer(), (bmap, seed) => {
      const bytes = Buffer.from(formatBmap(bmap));
      const changed = damaged(new Random(seed), { bytes, isText: true });
      if (Buffer.compare(bytes, changed) === 0) return;
      expect(() => read(changed)).toThrow(UserError);
    }),
    { numRuns: 1000 },
  );
});

const EXAMPLE = formatBmap({
  sizeBytes: 20 * BLOCK + 1,
  ranges: [
    { offsetBytes: 0, sizeBytes: 2 * BLOCK, sha256: sha256("a") },
    { offsetBytes: 20 * BLOCK, sizeBytes: 1, sha256: sha256("b") },
  ],
});

test("formatBmap() writes what bmaptool reads: white space around values, - between blocks", () => {
  const lines = EXAMPLE.split("\n").map((line) => line.trim());
  expect(lines).toContain("<ImageSize> 81921 </ImageSize>");
  expect(lines).toContain("<BlocksCount> 21 </BlocksCount>");
  expect(lines).toContain("<MappedBlocksCount> 3 </MappedBlocksCount>");
  expect(lines).toContain(`<Range chksum="${sha256("a")}"> 0-1 </Range>`);
  expect(lines).toContain(`<Range chksum="${sha256("b")}"> 20 </Range>`);
  expect(sealedBmap(EXAMPLE)).toBe(EXAMPLE);
});

test("readBmap() reads comments, other white space, quotes, blocks and an order of its own", () => {
  const same = sealedBmap(
    EXAMPLE.replace(/(.*"2.0".*\n)(.*\n)([^]*)(<.bmap>)/, "$1$3$2$4").replace("2.0", "1.4")
      .replaceAll("> ", ">\t\n").replaceAll('"', "'").replace("0-1 ", "0 - 1")
      .replace("<bmap", "<!-- caf\xe9 -->\n<bmap") + "<!-- the end -->",
  );
  expect(same).not.toContain('"');
  expect(read(Buffer.from(same, "latin1"))).toEqual(read(EXAMPLE));
  const larger = EXAMPLE.replace(" 4096 ", " 8192 ").replace(" 21 ", " 11 ").replace(" 20 ", "10");
  expect(read(sealedBmap(larger)).ranges.map(({ sizeBytes }) => sizeBytes)).toEqual([4 * BLOCK, 1]);
});

const FAULTS: readonly (readonly [what: string, text: string, fault: string | RegExp])[] = [
  ["nothing", "", "no <bmap"],
  ["a signed text", "-----BEGIN PGP SIGNED MESSAGE-----\n" + EXAMPLE, "no <bmap"],
  ["a document type", EXAMPLE.replace("<bmap", "<!DOCTYPE bmap>\n<bmap"), "no <bmap"],
  ["a second prologue", EXAMPLE.replace("<bmap", '<?xml version="1.0" ?><bmap'), "no <bmap"],
  ["version 1.3", EXAMPLE.replace('"2.0"', '"1.3"'), "its version is 1.3"],
  ["version 3.0", EXAMPLE.replace('"2.0"', '"3.0"'), "its version is 3.0"],
  ["SHA-1", EXAMPLE.replace("> sha256 <", "> sha1 <"), "its digests are sha1"],
  ["a field that is not known", EXAMPLE.replaceAll("BlockSize", "BlokSize"), "<BlokSize> is not"],
  ["a field twice", EXAMPLE.replace(/(.*BlockSize.*)/, "$1$1"), "<BlockSize> is there twice"],
  ["no size", EXAMPLE.replace(/.*ImageSize.*/, ""), "it has no ImageSize"],
  ["no checksum", EXAMPLE.replace(/.*BmapFile.*/, ""), "it has no BmapFileChecksum"],
  ["no block map", EXAMPLE.replace(/ {2}<BlockMap>[^]*<\/BlockMap>/, ""), "it has no block map"],
  ["two block maps", EXAMPLE.replace("</bmap>", "<BlockMap></BlockMap></bmap>"), "neither a field"],
  ["a range without digest", EXAMPLE.replace(/Range chksum="\w+"/, "Range"), "no range with"],
  ["an entity", EXAMPLE.replace(" 0-1 ", "&#48;"), "no range with"],
  ["a range backwards", EXAMPLE.replace(" 0-1 ", " 1-0 "), "the range 1-0 is not after"],
  ["ranges that overlap", EXAMPLE.replace(" 20 ", " 1-2 "), "the range 1-2 is not after"],
  ["a range past the end", EXAMPLE.replace(" 20 ", " 21 "), "its ranges have 3 blocks up to 21"],
  ["a wrong count", EXAMPLE.replace(" 3 ", " 4 "), "its ranges have 3 blocks up to 20"],
  ["a count of other blocks", EXAMPLE.replace(" 21 ", " 22 "), "22 blocks of 4096 bytes are not"],
  ["blocks of no bytes", EXAMPLE.replace("4096", "0"), "21 blocks of 0 bytes are not 81921"],
  ["an empty image", EXAMPLE.replace("81921", "0"), "21 blocks of 4096 bytes are not 0"],
  ["a size past 2^53", EXAMPLE.replace("81921", "9007199254740993"), "its ImageSize is no number"],
  ["a size that is no number", EXAMPLE.replace("81921", "-1"), "its ImageSize is no number"],
  ["a comment without end", EXAMPLE.replace("</bmap>", "<!-- a -- b -->"), "a comment does not"],
  ["text after it", EXAMPLE + "more", "something follows </bmap>"],
  ["a cut", EXAMPLE.slice(0, -9), "neither a field"],
];

for (const [what, text, fault] of FAULTS) {
  test(`readBmap() refuses ${what}`, () => {
    expect(faultOf(() => read(sealedBmap(text)))).toMatch(fault);
  });
}

test("readBmap() refuses a bmap whose own checksum is wrong", () => {
  expect(faultOf(() => read(EXAMPLE.replace(sha256("a"), sha256("c")))))
    .toMatch("Cannot trust x.bmap: its SHA-256 is ");
});

test("readBmap() reads a hostile text once", () => {
  for (
    const unit of [" ", "<!---->", "<", "<Range ", "a", "<BlockMap>", "<!--", '<bmap version="']
  ) {
    const text = '<bmap version="2.0">' + unit.repeat(2 * MIB / unit.length);
    expect(() => read(text)).toThrow(UserError);
    expect(() => read(text + "<BlockMap>" + text)).toThrow(UserError);
  }
});

/** A source of blocks in runs, by turns of zeros and of data. */
function sourceOf(runs: readonly number[], missingBytes: number): ByteSource & { reads: number } {
  const isData = runs.flatMap((count, index) => new Array<boolean>(count).fill(index % 2 === 1));
  const sizeBytes = Math.max(0, isData.length * BLOCK - missingBytes);
  return {
    name: "runs",
    sizeBytes,
    reads: 0,
    read(offset, into) {
      this.reads++;
      const end = Math.min(offset + into.length, sizeBytes);
      for (let at = offset; at < end;) {
        const next = Math.min(end, at - at % BLOCK + BLOCK);
        into.fill(isData[Math.floor(at / BLOCK)] ? 1 : 0, at - offset, next - offset);
        at = next;
      }
      return Math.max(0, end - offset);
    },
  };
}

/** The rule, block by block: all but runs of 256 zeros, cut at multiples of 4,096. */
function expectedRanges(runs: readonly number[], sizeBytes: number) {
  const merged: boolean[] = [];
  const zeros: number[] = [];
  runs.forEach((count, index) => {
    if (count === 0) return;
    // A run of no blocks joins those around it.
    if (merged.at(-1) === (index % 2 === 1)) zeros[zeros.length - 1]! += count;
    else {
      merged.push(index % 2 === 1);
      zeros.push(count);
    }
  });
  const isMapped = merged.flatMap((isData, index) =>
    new Array<boolean>(zeros[index]!).fill(isData || zeros[index]! < 256)
  );
  const ranges: { offset: number; size: number }[] = [];
  isMapped.forEach((mapped, block) => {
    if (!mapped) return;
    const size = Math.min(BLOCK, sizeBytes - block * BLOCK);
    if (block > 0 && block % 4096 !== 0 && isMapped[block - 1]) ranges.at(-1)!.size += size;
    else ranges.push({ offset: block * BLOCK, size });
  });
  return ranges;
}

test("mappedRanges() leaves out the runs of at least 256 blocks of zeros, and cuts at 16 MiB", () => {
  const lengths = fc.oneof(
    fc.nat(4),
    fc.constantFrom(254, 255, 256, 257, 511, 512, 513),
    fc.nat(900),
  );
  const layouts = fc.array(lengths, { minLength: 1, maxLength: 14 });
  fc.assert(fc.property(layouts, fc.nat(BLOCK - 1), (runs, missingBytes) => {
    const source = sourceOf(runs, missingBytes);
    expect([...mappedRanges(source)]).toEqual(expectedRanges(runs, source.sizeBytes));
  }));
  expect([...mappedRanges(sourceOf([0, 4096 + 10], 1))].map(({ size }) => size))
    .toEqual([16 * MIB, 10 * BLOCK - 1]);
});

test("mappedRanges() reads a block of each MiB of data, and no block twice", () => {
  const dense = sourceOf([0, 64 * 256], 0);
  expect([...mappedRanges(dense)]).toHaveLength(4);
  expect(dense.reads).toBe(64);
  // The worst: each run ends one block too early.
  const worst = sourceOf(Array.from({ length: 64 }, (_, index) => index % 2 === 0 ? 255 : 1), 0);
  expect([...mappedRanges(worst)]).toHaveLength(2);
  expect(worst.reads).toBeLessThanOrEqual(32 * 256);
});
