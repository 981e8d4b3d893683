// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { flatEntries } from "../../src/archive/entries.ts";
import { MemberReader } from "../../src/archive/reader.ts";
import {
  type MemberSegment,
  type Segment,
  textSegment,
  totalSize,
} from "../../src/format/segment.ts";
import { writeImage } from "../../src/write/writer.ts";
import { rejection } from "../fetch/harness.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs } from "../support/files.ts";
import { testWith } from "../support/run.ts";
import { concat } from "../support/sources.ts";
import { compress, COMPRESSIONS, listed, noise, rawTar } from "./support.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

// Two consecutive files of the same size differ in content.
const SIZES = [0, 1, 511, 512, 513, 70_000, 300_001, 1_500_000, 1_500_000];
const bodies = SIZES.map((size, i) => noise(size, i + 1));
const members = [
  ...bodies.map((data, i) => ({ name: `file${i}`, data })),
  { name: "again", type: "1", link: "file6" },
];
const tar = rawTar(members);

/** Returns segments of all files of the archive, in the order of their data. */
async function segmentsOf(dir: string, bytes: Uint8Array): Promise<MemberSegment[]> {
  const { entries } = flatEntries(await listed(dir, bytes));
  return entries.map(({ body }) => body!);
}

async function write(dir: string, segments: readonly Segment[]) {
  const path = join(dir, "image");
  const written = await writeImage(path, segments, { sizeBytes: totalSize(segments) });
  return { written, bytes: readFileSync(path) };
}

for (const how of ["none", ...COMPRESSIONS] as const) {
  const withIt = how === "none" ? test : testWith(how);
  const packed = () => how === "none" ? tar : compress(how, tar);

  withIt(`writeImage() writes members of a tar file, compression ${how}`, async () => {
    const dir = temp.make();
    const segments = await segmentsOf(dir, packed());
    const framed = segments.flatMap((segment) => [textSegment(`${segment.member}\n`), segment]);
    const { written, bytes } = await write(dir, [...framed, { kind: "crc32" }]);
    const wanted = concat(segments.flatMap(({ member }) => [
      new TextEncoder().encode(`${member}\n`),
      bodies[member === "again" ? 6 : Number(member.slice(4))]!,
    ]));
    expect(bytes.subarray(0, wanted.length).equals(wanted)).toBe(true);
    for (const segment of segments) {
      expect(written.fileDigests.get(segment)).toBe(segment.sha256);
    }
  });

  withIt(`members are read in any order, compression ${how}`, async () => {
    const dir = temp.make();
    const segments = await segmentsOf(dir, packed());
    const orders = fc.array(fc.nat(segments.length - 1), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(orders, async (order) => {
        const reader = new MemberReader();
        try {
          for (const index of order) {
            const pieces: Uint8Array[] = [];
            for await (const piece of reader.read(segments[index]!)) pieces.push(piece);
            expect(sha256(concat(pieces))).toBe(segments[index]!.sha256);
          }
        } finally {
          await reader.close();
        }
      }),
      { numRuns: 10 },
    );
  });

  withIt(`an archive that changed between the passes is refused, compression ${how}`, async () => {
    const dir = temp.make();
    const segments = await segmentsOf(dir, packed());
    const other = rawTar(
      members.map((member) =>
        member.name === "file5" ? { name: "file5", data: noise(70_000, 77) } : member
      ),
    );
    const archive = join(dir, "archive");
    writeFileSync(archive, how === "none" ? other : compress(how, other));
    const changed = await rejection(write(dir, segments));
    expect(changed).toMatchObject({ kind: "verify", where: `${archive}: "file5"` });
    const shorter = rawTar([{ name: "a", data: "x" }]);
    writeFileSync(archive, how === "none" ? shorter : compress(how, shorter));
    expect(await rejection(write(temp.make(), segments.slice(4)))).toMatchObject({
      kind: "format",
    });
    writeFileSync(archive, "no archive any more");
    expect(await rejection(write(temp.make(), segments))).toMatchObject({ kind: "format" });
  });
}

testWith("xz")("members of two archives are read alternately", async () => {
  const [one, two] = [temp.make(), temp.make()];
  const first = await segmentsOf(one, compress("xz", tar));
  const second = await segmentsOf(two, compress("xz", rawTar([{ name: "x", data: "other" }])));
  const segments = [first[5]!, second[0]!, first[6]!, second[0]!];
  const { bytes } = await write(one, segments);
  const other = new TextEncoder().encode("other");
  expect(bytes.equals(concat([bodies[5]!, other, bodies[6]!, other]))).toBe(true);
});

testWith("gzip")("a member that is used twice in a row is expanded once", async () => {
  const dir = temp.make();
  const segments = await segmentsOf(dir, compress("gzip", tar));
  const [file, link] = segments.filter(({ sizeBytes }) => sizeBytes === 300_001);
  expect(link!.offsetBytes).toBe(file!.offsetBytes);
  const reader = new MemberReader();
  const read = async (segment: MemberSegment) => {
    const pieces: Uint8Array[] = [];
    for await (const piece of reader.read(segment)) pieces.push(piece);
    return sha256(concat(pieces));
  };
  expect(await read(file!)).toBe(file!.sha256);
  // Without its archive, only a cached member can still be read.
  writeFileSync(join(dir, "archive"), "");
  expect(await read(link!)).toBe(file!.sha256);
  await reader.close();
  await expect(read(link!)).rejects.toThrow("it is not a tar archive");
});

testWith("bzip2")("writing members stops when its signal is aborted", async () => {
  const dir = temp.make();
  const segments = await segmentsOf(dir, compress("bzip2", tar));
  const stop = new AbortController();
  const writing = writeImage(join(dir, "image"), segments, {
    sizeBytes: totalSize(segments),
    signal: stop.signal,
    onBytes: () => stop.abort(),
  });
  expect(await rejection(writing)).toMatchObject({ kind: "interrupt" });
});
