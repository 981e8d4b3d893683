// SPDX-License-Identifier: MIT
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { crc32 } from "node:zlib";
import { detectCompression } from "../../src/archive/compression.ts";
import { expand } from "../../src/archive/expand.ts";
import { UserError } from "../../src/errors.ts";
import { type ByteSource, memorySource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import { rejection } from "../fetch/harness.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { concat } from "../support/sources.ts";
import { compress, COMPRESSIONS, listed, noise, output, rawTar, refusal } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

async function expanded(bytes: Uint8Array): Promise<Uint8Array> {
  const source = memorySource(bytes, "the archive");
  const pieces: Uint8Array[] = [];
  for await (const piece of expand(source, detectCompression(source))) pieces.push(piece);
  return concat(pieces);
}

/** Reports whether bytes are refused as a damaged file. */
async function isRefused(bytes: Uint8Array): Promise<boolean> {
  return await faultOf(bytes) !== undefined;
}

/** Returns the message about a damaged file. */
async function faultOf(bytes: Uint8Array): Promise<string | undefined> {
  try {
    await expanded(bytes);
    return undefined;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    expect(error.kind).toBe("format");
    expect(error.where).toStartWith("the archive, offset ");
    return error.message;
  }
}

const sample = concat([
  noise(180_000),
  new Uint8Array(300_000),
  new TextEncoder().encode("a line of text\n".repeat(9000)),
]);

for (const program of COMPRESSIONS) {
  const withIt = testWith(program);
  describe(program, () => {
    withIt("files made by the program are expanded, empty and long ones", async () => {
      for (const bytes of [new Uint8Array(), new Uint8Array([7]), sample]) {
        expect(await expanded(compress(program, bytes))).toEqual(bytes);
      }
    });

    withIt("any bytes survive a round trip", async () => {
      const runs = fc.array(
        fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 900 })),
        { maxLength: 30 },
      );
      await fc.assert(
        fc.asyncProperty(runs, async (runs) => {
          const bytes = concat(runs.flatMap(([run, times]) => Array(times).fill(run)));
          expect(await expanded(compress(program, bytes))).toEqual(bytes);
        }),
        { numRuns: 15 },
      );
    });

    withIt("several files in a row are expanded as one", async () => {
      const parts = [sample, new Uint8Array(), noise(70_000, 2), sample];
      const bytes = concat(parts.map((part) => compress(program, part)));
      expect(await expanded(bytes)).toEqual(concat(parts));
    });

    withIt("a file truncated at any offset is refused", async () => {
      const first = compress(program, noise(3000));
      const bytes = concat([first, compress(program, sample)]);
      const magic = 6;
      const cuts = [...Array(40).keys()].flatMap((i) => [
        magic + i,
        first.length + 1 + i,
        bytes.length - 1 - i,
        Math.floor((bytes.length * (i + 1)) / 42),
      ]);
      for (const cut of cuts) {
        if (cut === first.length) continue;
        // A few bytes after the first file could be anything.
        const isHead = cut > first.length && cut < first.length + magic;
        const fault = await faultOf(bytes.subarray(0, cut));
        expect(`${cut}: ${fault}`).toMatch(isHead ? /too early|follows its end/ : /ends too early/);
      }
    });

    withIt("data after the end is refused", async () => {
      const bytes = compress(program, sample);
      const zeros = new Uint8Array(300_000);
      for (const more of ["x", "garbage", "more of it\n".repeat(40_000)]) {
        const garbage = new TextEncoder().encode(more);
        expect(await isRefused(concat([bytes, garbage]))).toBe(true);
        expect(await isRefused(concat([bytes, zeros, garbage]))).toBe(true);
      }
    });

    withIt("a flipped bit is refused, or changes nothing", async () => {
      const bytes = compress(program, sample);
      let refused = 0;
      const places = [...Array(30).keys()].map((i) => Math.floor((bytes.length * i) / 30) + 6);
      for (const place of [...places, 7, 8, 9, bytes.length - 3, bytes.length - 9]) {
        const damaged = bytes.slice();
        damaged[place] = damaged[place]! ^ (1 << (place % 8));
        if (await isRefused(damaged)) refused++;
        // Some bits have no effect, such as time and system in the header of a gzip file.
        else expect(await expanded(damaged)).toEqual(sample);
      }
      expect(refused).toBeGreaterThan(25);
    });

    withIt("an archive that expands beyond the limit is refused at the limit", async () => {
      const zeros = compress(program, new Uint8Array(16 * MIB));
      const bomb = concat(Array(64).fill(zeros));
      const error = await refusal(temp.make(), bomb, undefined, { maxBytes: 20 * MIB });
      expect(error.message).toEndWith(`it expands to more than ${20 * MIB} bytes`);
      const file = rawTar([{ name: "zeros", size: 64 * 16 * MIB }]).subarray(0, 512);
      const announced = concat([compress(program, file), bomb]);
      const early = await refusal(temp.make(), announced, undefined, { maxBytes: 20 * MIB });
      expect(early.message).toEndWith(
        `member "zeros": with it, the archive expands to more than ${20 * MIB} bytes`,
      );
    });

    withIt("a reader that stops early leaves nothing open, and the next one works", async () => {
      const bytes = compress(program, sample);
      for (let round = 0; round < 3; round++) {
        const source = memorySource(bytes, "the archive");
        for await (const piece of expand(source, program)) {
          expect(piece.length).toBeGreaterThan(0);
          break;
        }
      }
      expect(await expanded(bytes)).toEqual(sample);
    });
  });
}

testWith("bzip2")("an archive with a higher ratio than gzip can reach is refused", async () => {
  const bomb = concat(Array(64).fill(compress("bzip2", new Uint8Array(16 * MIB))));
  const error = await refusal(temp.make(), bomb);
  expect(bomb.length).toBeLessThan(64 * 1000);
  expect(error.message).toEndWith(`it expands to more than ${64 * MIB} bytes`);
});

testWith("bzip2")("a bzip2 stream with a wrong checksum of its own is refused", async () => {
  const bytes = Uint8Array.from(compress("bzip2", sample));
  // This byte is part of the checksum for every bit offset, and never of a block.
  bytes[bytes.length - 2]! ^= 1;
  const error = await rejection(expanded(bytes));
  expect(error.message).toEndWith("the CRC-32 of a stream is wrong");
});

testWith("gzip")("zeros after a gzip file are padding", async () => {
  const bytes = compress("gzip", sample);
  expect(await expanded(concat([bytes, new Uint8Array(70_000)]))).toEqual(sample);
});

testWith("xz")("zeros between and after xz streams are padding, four bytes at a time", async () => {
  const bytes = compress("xz", sample);
  const padded = concat([bytes, new Uint8Array(8), bytes, new Uint8Array(4)]);
  expect(await expanded(padded)).toEqual(concat([sample, sample]));
  expect(await isRefused(concat([bytes, new Uint8Array(3)]))).toBe(true);
});

testWith("xz")("many xz streams, and zeros between them, are found in few reads", async () => {
  const large = noise(3 * MIB / 2);
  const streams = concat([
    compress("xz", large),
    new Uint8Array(2 * MIB + 4),
    compress("xz", large),
    ...Array<Uint8Array>(1000).fill(compress("xz", new Uint8Array())),
    new Uint8Array(MIB + 8),
  ]);
  let reads = 0;
  const source = memorySource(streams, "the archive");
  const counting: ByteSource = {
    ...source,
    read(offset, into) {
      reads++;
      return source.read(offset, into);
    },
  };
  for await (const piece of expand(counting, "xz")) {
    expect(piece.length).toBeGreaterThan(0);
    break;
  }
  expect(reads).toBeLessThan(50);
  expect(await expanded(streams)).toEqual(concat([large, large]));
});

testWith("xz")("xz with a dictionary of more than 64 MiB is refused for its memory", async () => {
  const bytes = Buffer.from(compress("xz", sample));
  // The header of the first block: its size in words, its flags, and LZMA2 with the dictionary.
  const header = bytes.subarray(12, 12 + (bytes[12]! + 1) * 4);
  const at = header.indexOf(Buffer.from([0x21, 1])) + 2;
  for (const [code, isRefused] of [[28, false], [29, true], [37, true]] as const) {
    header[at] = code;
    header.writeUInt32LE(crc32(header.subarray(0, -4)), header.length - 4);
    if (!isRefused) {
      expect(await expanded(bytes)).toEqual(sample);
      continue;
    }
    const error = await rejection(expanded(bytes));
    expect(error.kind).toBe("format");
    expect(error.message).toContain("its dictionary takes too much memory, more than 64 MiB");
    expect(error.hint).toBe("Compress it with the defaults: xz -dc ARCHIVE | xz >OTHER");
  }
});

testWith("xz")("xz with SHA-256 or filters is refused with a hint", async () => {
  for (const options of [["--check=sha256"], ["--x86", "--lzma2=preset=1"]]) {
    const bytes = output(["xz", "-c", ...options], sample);
    const error = await rejection(expanded(bytes));
    expect(error.kind).toBe("format");
    expect(error.hint).toContain("xz -dc ARCHIVE | xz >OTHER");
  }
});

testWith("zstd")(
  "skippable zstd frames are skipped, and frames without checksum are read",
  async () => {
    const skipped = new Uint8Array([0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const plain = output(["zstd", "-qc", "--no-check"], sample);
    const bytes = concat([skipped, plain, skipped, compress("zstd", sample)]);
    for (const cut of [1, 3, 4]) {
      expect(await isRefused(concat([plain, skipped.subarray(0, -cut)]))).toBe(true);
    }
    expect(await expanded(bytes)).toEqual(concat([sample, sample]));
  },
);

testWith("bzip2")(
  "bzip2 is expanded for every block size, and for the longest runs",
  async () => {
    const runs = concat([3, 4, 5, 255, 258, 259, 260, 70_000].flatMap((length) => [
      new Uint8Array(length).fill(65),
      new Uint8Array(length).fill(66),
    ]));
    for (const level of [1, 5, 9]) {
      const bytes = concat([noise(150_000), runs, noise(950_000, 3)]);
      expect(await expanded(output(["bzip2", `-${level}c`], bytes))).toEqual(bytes);
    }
  },
);

test("the compression is detected by the first bytes, and other files are refused", async () => {
  const name = "archive.tar.gz";
  const tar = rawTar([{ name: "a", data: "x" }]);
  expect(detectCompression(memorySource(tar, name))).toBe("none");
  expect((await listed(temp.make(), new Uint8Array(10_240))).members).toEqual([]);
  for (const bytes of [new Uint8Array(), noise(5000), new TextEncoder().encode("BZ"), END_CUT]) {
    const error = await refusal(temp.make(), bytes);
    expect(error.message).toEndWith("it is not a tar archive");
  }
});
const END_CUT = new Uint8Array(100);

testWith("gzip")("expanding stops when its signal is aborted", async () => {
  const bytes = compress("gzip", rawTar([{ name: "a", data: noise(3_000_000) }]));
  const stop = new AbortController();
  stop.abort();
  const error = await rejection(listed(temp.make(), bytes, { signal: stop.signal }));
  expect(error.kind).toBe("interrupt");
});
