// SPDX-License-Identifier: MIT
/**
 * Readers of archives: tar, and what it is compressed with.
 *
 * @module
 */
import { crc32, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { readArchiveFrom } from "../../src/archive/archive.ts";
import { diffMembers } from "../../src/archive/diff.ts";
import { archiveEntries, fileFinder, flatEntries } from "../../src/archive/entries.ts";
import { memorySource } from "../../src/format/reader.ts";
import { MIB } from "../../src/format/segment.ts";
import {
  compress,
  COMPRESSIONS,
  noise,
  paxMember,
  type Program,
  rawTar,
} from "../../tests/archive/support.ts";
import { damaged } from "../../tests/support/mutate.ts";
import { demand, type Prepared, type Reader, soundsOf } from "./reader.ts";

const MAX_BYTES = 64 * MIB;
const TAR = rawTar([
  { name: "./", type: "5", mode: 0o755 },
  { name: "dir/", type: "5", mode: 0o755 },
  { name: "dir/file", data: noise(700) },
  { name: "dir/text", data: "text\n".repeat(300), mode: 0o4755 },
  { name: "hard", type: "1", link: "dir/file" },
  { name: "soft", type: "2", link: "dir/text" },
  { name: "around", type: "2", link: "dir/../soft" },
  paxMember({ path: `long/${"n".repeat(120)}`, size: "3" }),
  { name: "short", data: "abc" },
  { name: "././@LongLink", type: "L", data: `${"l".repeat(130)}\0` },
  { name: "cut", data: "x" },
  { name: "dev/null", type: "3", major: 1, minor: 3 },
  { name: "empty", prefix: "pre/fix" },
]);
/** Archives that lead out of their root. */
const OUTSIDE = [
  { name: "../up", data: "a" },
  { name: "dir/../../up", data: "a" },
  paxMember({ path: "../up" }),
  { name: "link", type: "1", link: "../up" },
  { name: "link", type: "2", link: "../../up" },
].map((member) => rawTar([{ name: "dir/", type: "5" }, member, { name: "last", data: "b" }]));
const WORDS = ["../x", "/etc/x", "ustar\0" + "00", "path=", "linkpath=", "size=", "././@LongLink"];

/** Gives every block that begins like a header the checksum that it needs. */
export function repairTar(bytes: Uint8Array): Uint8Array {
  const tar = Buffer.from(bytes);
  for (let at = 0; at + 512 <= tar.length; at += 512) {
    if (tar.toString("latin1", at + 257, at + 262) !== "ustar") continue;
    tar.write(" ".repeat(8), at + 148);
    const sum = tar.subarray(at, at + 512).reduce((sum, byte) => sum + byte, 0);
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148);
  }
  return tar;
}

/** Lists an archive, and makes entries of it. */
async function list(bytes: Uint8Array): Promise<readonly { readonly path: string }[]> {
  const archive = await readArchiveFrom(memorySource(bytes, "archive"), { maxBytes: MAX_BYTES });
  demand(archive.expandedBytes <= MAX_BYTES, "the limit holds");
  for (const { path } of archive.members) {
    const parts = path.split("/");
    const isInside = parts.every((part) => part !== "" && part !== "." && part !== "..");
    demand(isInside, `a path: ${JSON.stringify(path)}`);
  }
  const isFile = fileFinder(archive);
  for (const { path, body } of [...flatEntries(archive).entries, ...archiveEntries(archive)]) {
    isFile(path);
    if (body !== undefined) {
      demand(body.offsetBytes + body.sizeBytes <= archive.expandedBytes, "data is in the archive");
    }
  }
  return archive.members;
}

const tar: Reader = {
  name: "tar",
  prepare: () => ({
    sounds: soundsOf([...Array<Uint8Array>(5).fill(TAR), ...OUTSIDE], { words: WORDS }),
    repair: repairTar,
    async read(bytes, sound) {
      const members = await list(bytes);
      const differences = await diffMembers(memorySource(sound.bytes), memorySource(bytes));
      if (differences.length > 0) return;
      const before = await list(sound.bytes);
      demand(JSON.stringify(properties(before)) === JSON.stringify(properties(members)), "equal");
    },
  }),
};

/** Members by path, without what a comparison ignores. */
function properties(members: readonly { readonly path: string }[]) {
  return members.map((member) => ({ ...member, offset: 0 }))
    .sort((a, b) => a.path < b.path ? -1 : 1);
}

/** Gives headers of xz the CRC-32 that they need. */
function repairXz(bytes: Uint8Array): Uint8Array {
  const xz = Buffer.from(bytes);
  if (xz.length < 64) return bytes;
  xz.writeUInt32LE(crc32(xz.subarray(6, 8)), 8);
  const blockHeader = 4 * (xz[12]! + 1);
  if (12 + blockHeader < xz.length) {
    xz.writeUInt32LE(crc32(xz.subarray(12, 8 + blockHeader)), 8 + blockHeader);
  }
  const footer = xz.length - 12;
  xz.writeUInt32LE(crc32(xz.subarray(footer + 4, footer + 10)), footer);
  const indexBytes = 4 * (xz.readUInt32LE(footer + 4) + 1);
  const index = footer - indexBytes;
  if (index > 12) xz.writeUInt32LE(crc32(xz.subarray(index, footer - 4)), footer - 4);
  return xz;
}

type Change = (bytes: Uint8Array) => Uint8Array;

/** Compresses an archive that was damaged before. */
function damagedContent(expand: Change, pack: Change): NonNullable<Prepared["repair"]> {
  return (_, random, sound) => {
    const bytes = damaged(random, { bytes: expand(sound.bytes), words: WORDS });
    return pack(repairTar(bytes));
  };
}

const REPAIRS: Readonly<Partial<Record<Program, Prepared["repair"]>>> = {
  gzip: damagedContent(gunzipSync, gzipSync),
  zstd: damagedContent(zstdDecompressSync, zstdCompressSync),
  xz: repairXz,
};

const compressed = COMPRESSIONS.map((program): Reader => ({
  name: program,
  async prepare() {
    const repair = REPAIRS[program];
    const archives = [TAR, rawTar([{ name: "zeros", data: new Uint8Array(300_000) }])];
    const known = await Promise.all(archives.map(async (tar) => JSON.stringify(await list(tar))));
    return {
      sounds: soundsOf(archives.map((bytes) => compress(program, bytes))),
      ...(repair && { repair }),
      async read(bytes) {
        const members = JSON.stringify(await list(bytes));
        // Every byte of the content is under a checksum: what is still read is what it was.
        const isChecked = program === "bzip2" || program === "xz";
        demand(!isChecked || known.includes(members), "changed content is not read");
      },
    };
  },
}));

export const archiveReaders: readonly Reader[] = [tar, ...compressed];
