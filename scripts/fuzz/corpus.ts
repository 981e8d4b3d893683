// SPDX-License-Identifier: MIT
/**
 * Writes cases for scripts/fuzz/importer.c that are sound, and a dictionary for AFL++.
 *
 * usage: bun scripts/fuzz/corpus.ts DIR DICTIONARY
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { sha256Of } from "../../src/bytes.ts";
import {
  MAX_PAYLOAD_NAME_BYTES,
  payload,
  PAYLOAD_MAGIC,
  type PayloadLayout,
} from "../../src/format/payload.ts";
import { formatSums } from "../../src/format/sums.ts";
import { sampleBody } from "../../tests/fetch/servers.ts";
import { bytesOfSegments } from "../../tests/support/sources.ts";

/** Flags of a case, as importer.c names them. */
const [VERIFY, LIST, SEARCH, FIWIX, REPAIR, PROBE, AGAIN, SPOILED] = [1, 2, 4, 8, 16, 32, 64, 128];
const [SIZE_UNKNOWN, SIZE_LARGER, NO_PROC, READ_FAILS] = [0x100, 0x200, 0x400, 0x800];
const [OTHERS, WRONG_NODES, NO_NODES, PIPES] = [0x1000, 0x2000, 0x4000, 0x8000];
const [DIRECTORIES, IN_USE, WRITE_FAILS, SYNC_FAILS] = [0x10000, 0x20000, 0x40000, 0x80000];
const EDIT = 0x100000;

const SUMS = "SHA256SUMS";
const FILES: Files = {
  "a.tar": sampleBody(5),
  "empty": new Uint8Array(),
  "ü \u200b": sampleBody(64),
  "z.tar.gz": sampleBody(200),
};
const PARTITIONS = `major minor  #blocks  name

   3        0     204800 hda
   3        1 2147483647 hda1
  22       64     204800 hdd
   8       16     204800 sdb
   8       17     204000 sdb1
 259        0     204800 nvme0n1
 259        1     204800 nvme0n1p1
 104        0     204800 cciss!c0d0
   1        0       4096 ram0
   8       32     204800 .sdc
`;

type Files = Readonly<Record<string, Uint8Array>>;

/** A payload of the product's writer, without the padding at its end. */
function payloadOf(files: Files, layout: PayloadLayout): Uint8Array {
  const entries = Object.entries(files).map(([name, bytes]) => ({
    name,
    body: { kind: "bytes", bytes } as const,
  }));
  const segments = payload(entries, layout);
  return bytesOfSegments(segments.at(-1)?.kind === "zeros" ? segments.slice(0, -1) : segments);
}

function withSums(files: Files): Files {
  const sums = formatSums(
    Object.entries(files).map(([path, bytes]) => ({ path, sha256: sha256Of(bytes) })),
  );
  return { ...files, [SUMS]: new TextEncoder().encode(sums) };
}

/** A payload whose second name is no longer above the first one. */
function outOfOrder(layout: PayloadLayout): Uint8Array {
  const image = Buffer.from(
    payloadOf({ "first": new Uint8Array(), "next": sampleBody(3) }, layout),
  );
  image.write("a", image.lastIndexOf("next"));
  return image;
}

function caseOf(
  flags: number,
  image: Uint8Array,
  { place = 0, list = "", partitions = "" } = {},
): Uint8Array {
  const head = Buffer.alloc(10);
  head.writeUInt32LE(flags);
  [place, list.length, partitions.length].forEach((n, i) => head.writeUInt16LE(n, 4 + 2 * i));
  return Buffer.concat([head, Buffer.from(list + partitions), image]);
}

const [dir, dictionary] = process.argv.slice(2);
if (dir === undefined || dictionary === undefined) {
  console.error("usage: bun scripts/fuzz/corpus.ts DIR DICTIONARY");
  process.exit(2);
}
mkdirSync(dir, { recursive: true });
const list = "z.tar.gz\na.tar\n\n";
const partitions = PARTITIONS;
for (const layout of [64, 32] as const) {
  const image = payloadOf(withSums(FILES), layout);
  const longName = payloadOf({
    ["n".repeat(MAX_PAYLOAD_NAME_BYTES)]: sampleBody(9),
    "next": sampleBody(3),
  }, layout);
  const cases: readonly Uint8Array[] = [
    caseOf(0, image),
    caseOf(FIWIX, image),
    caseOf(VERIFY | REPAIR, image),
    caseOf(VERIFY, image, { place: 40 }),
    caseOf(LIST, image, { list }),
    caseOf(LIST | VERIFY | REPAIR, image, { list }),
    caseOf(LIST, image, { list: "absent\n" }),
    caseOf(PROBE, image),
    caseOf(VERIFY | REPAIR | AGAIN, image),
    caseOf(VERIFY | REPAIR | AGAIN | SPOILED, image),
    caseOf(AGAIN | SPOILED | PIPES, image),
    caseOf(SIZE_UNKNOWN, image),
    caseOf(SIZE_LARGER, image),
    caseOf(READ_FAILS, image, { place: 100 }),
    caseOf(SEARCH, image, { partitions }),
    caseOf(SEARCH | FIWIX | NO_PROC | NO_NODES, image, { partitions }),
    caseOf(SEARCH | WRONG_NODES, image, { partitions }),
    caseOf(SEARCH | OTHERS | VERIFY | REPAIR, image, { partitions, place: image.length - 1 }),
    caseOf(SEARCH | OTHERS, image, { partitions, place: 8 + layout / 8 + layout / 4 }),
    caseOf(SEARCH | IN_USE, image, { partitions }),
    caseOf(AGAIN | SPOILED | DIRECTORIES, image),
    caseOf(WRITE_FAILS, image, { place: 30 }),
    caseOf(SYNC_FAILS, image),
    caseOf(0, payloadOf({}, layout)),
    caseOf(0, longName),
    caseOf(EDIT, longName),
    caseOf(0, outOfOrder(layout)),
    caseOf(EDIT, image, { place: 1 }),
  ];
  cases.forEach((bytes, i) => writeFileSync(join(dir, `${layout}-${i}`), bytes));
}

const twoPieces = payloadOf(withSums({ "two pieces": sampleBody(65_537) }), 64);
writeFileSync(join(dir, "two-pieces"), caseOf(VERIFY | REPAIR, twoPieces));

const hex = (text: string) =>
  [...Buffer.from(text, "latin1")].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join(
    "",
  );
const tokens = [
  PAYLOAD_MAGIC,
  SUMS,
  "\x00".repeat(8),
  "\xff".repeat(8),
  "\xff".repeat(4),
  "\x00\x00\x00\x80",
  "\x00\x04\x00\x00",
  "\x01\x04\x00\x00",
  ".payload-import\\part",
  "../",
  "/",
  "\\",
  "..",
  "\x1b[2J",
  "\xe2\x80\xae",
  "a.tar",
  "z.tar.gz",
  "   8        0     204800 sda\n",
  "nvme0n1p1",
  "cciss!c0d0",
  "hdb1",
  "18446744073709551616",
  "0".repeat(64),
];
writeFileSync(dictionary, tokens.map((token) => `"${hex(token)}"\n`).join(""));
