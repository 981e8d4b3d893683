// SPDX-License-Identifier: MIT
/**
 * bmap: the block map of an image, version 2.0 of bmaptool's format. It lists which blocks of the
 * image have data, in ranges with a digest each; all other blocks are zeros.
 *
 *   bmap  = '<bmap version="2.0">' field* "<BlockMap>" range* "</BlockMap>" "</bmap>"
 *   field = "<" NAME ">" value "</" NAME ">"
 *   range = '<Range chksum="' SHA-256 '">' first [ "-" last ] "</Range>"    numbers of blocks
 *
 *   ImageSize          in bytes
 *   BlockSize          in bytes; here 4,096
 *   BlocksCount        ImageSize / BlockSize, rounded up
 *   MappedBlocksCount  number of blocks in all ranges
 *   ChecksumType       sha256
 *   BmapFileChecksum   SHA-256 of the bmap itself, with 64 "0" in place of this value
 *
 * It is XML, with white space and comments between the elements, and around each value. The last
 * block of an image may be shorter: digests are of the bytes that there are.
 *
 * Which ranges we write depends on the content of the image only, and not on where the file system
 * that has it keeps holes: left out are all zeros in runs of at least 256 blocks (1 MiB), everything
 * else is in a range. A range ends where such a run begins, and at each multiple of 4,096 blocks
 * (16 MiB) of the image, so that ranges are hashed side by side, and a fault is located.
 *
 * We read version 2.0, and 1.4, which is the same, of any block size, with a digest in each range.
 * Versions up to 1.3 have SHA-1 (`sha1=`, BmapFileSHA1) or no digests, and are refused, as are
 * ranges that overlap or are not in order.
 *
 * Sources: bmap-tools 3.6, the comments of BmapCreate.py and what its bmaptool writes and accepts.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { isZero, sha256Of } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { BLOCK_BYTES, type ByteRange } from "./blocks.ts";
import { type ByteSource, firstNonZero } from "./reader.ts";
import { MIB } from "./segment.ts";

/** What follows the name of an image in that of its bmap. */
export const BMAP_SUFFIX = ".bmap";
/** The longest bmap that is read: it has some 150,000 ranges. */
export const MAX_BMAP_BYTES = 16 * MIB;

/** Shorter runs of zeros are part of a range. */
const HOLE_BLOCKS = MIB / BLOCK_BYTES;
/** A range ends at each multiple of this. */
const RANGE_BYTES = 16 * MIB;

/** A range of an image, and the SHA-256 of its bytes in lower-case hex. */
export interface MappedRange {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** The block map of an image. */
export interface Bmap {
  /** Size of the image. */
  readonly sizeBytes: number;
  /** In order, and apart from each other; what is in none of them is zeros. */
  readonly ranges: readonly MappedRange[];
}

/** Finds the ranges of an image that a bmap lists; reads a block of each MiB of data. */
export function* mappedRanges(source: ByteSource): Generator<ByteRange, void, undefined> {
  let at = 0;
  for (const { offset, size } of zeroRuns(source)) {
    yield* cutRange(at, offset);
    at = offset + size;
  }
  yield* cutRange(at, source.sizeBytes);
}

function* cutRange(from: number, end: number): Generator<ByteRange, void, undefined> {
  for (let at = from; at < end;) {
    const next = Math.min(end, at - at % RANGE_BYTES + RANGE_BYTES);
    yield { offset: at, size: next - at };
    at = next;
  }
}

/** Finds the runs of zeros that are left out. */
function* zeroRuns(source: ByteSource): Generator<ByteRange, void, undefined> {
  const count = countBlocks(source.sizeBytes, BLOCK_BYTES);
  const block = new Uint8Array(BLOCK_BYTES);
  const isZeroAt = (index: number) =>
    isZero(block.subarray(0, source.read(index * BLOCK_BYTES, block)));
  // A run that begins at `from` or later has the last block before `end`, if it is long enough: where
  // that block is not zero, none of those before it is read.
  let from = 0;
  let knownEnd = 0;
  while (from + HOLE_BLOCKS <= count) {
    const end = from + HOLE_BLOCKS;
    let first = end;
    while (first > knownEnd && isZeroAt(first - 1)) first--;
    if (first > knownEnd) {
      from = first;
      knownEnd = end;
      continue;
    }
    const data = firstNonZero(source, end * BLOCK_BYTES);
    const offset = from * BLOCK_BYTES;
    const stop = data < 0 ? source.sizeBytes : data - data % BLOCK_BYTES;
    yield { offset, size: stop - offset };
    from = knownEnd = stop / BLOCK_BYTES + 1;
  }
}

function countBlocks(sizeBytes: number, blockBytes: number): number {
  const rest = sizeBytes % blockBytes;
  return (sizeBytes - rest) / blockBytes + (rest > 0 ? 1 : 0);
}

const NO_CHECKSUM = "0".repeat(64);

/**
 * Formats a bmap.
 *
 * @param bmap With ranges that begin at multiples of 4,096 bytes.
 */
export function formatBmap({ sizeBytes, ranges }: Bmap): string {
  const blocksOf = (range: MappedRange) => countBlocks(range.sizeBytes, BLOCK_BYTES);
  const field = (name: string, value: string | number) => `  <${name}> ${value} </${name}>\n`;
  const rangeLine = (range: MappedRange) => {
    const first = range.offsetBytes / BLOCK_BYTES;
    const blocks = blocksOf(range);
    const numbers = blocks === 1 ? `${first}` : `${first}-${first + blocks - 1}`;
    return `    <Range chksum="${range.sha256}"> ${numbers} </Range>\n`;
  };
  const withChecksum = (checksum: string) =>
    [
      '<?xml version="1.0" ?>\n',
      '<bmap version="2.0">\n',
      field("ImageSize", sizeBytes),
      field("BlockSize", BLOCK_BYTES),
      field("BlocksCount", countBlocks(sizeBytes, BLOCK_BYTES)),
      field("MappedBlocksCount", ranges.reduce((sum, range) => sum + blocksOf(range), 0)),
      field("ChecksumType", "sha256"),
      field("BmapFileChecksum", checksum),
      "  <BlockMap>\n",
      ...ranges.map(rangeLine),
      "  </BlockMap>\n",
      "</bmap>\n",
    ].join("");
  return withChecksum(sha256Of(withChecksum(NO_CHECKSUM)));
}

const VERSIONS = ["2.0", "1.4"];
const FIELDS = [
  "ImageSize",
  "BlockSize",
  "BlocksCount",
  "MappedBlocksCount",
  "ChecksumType",
  "BmapFileChecksum",
] as const;
type Field = (typeof FIELDS)[number];

/** White space of XML. */
const S = "[ \\t\\r\\n]*";
const sticky = (...parts: string[]) => new RegExp(parts.join(S), "y");
const SPACE = sticky(S);
/** Only at the very beginning. */
const PROLOGUE = sticky("(?<![^])<\\?xml[^<>?]*\\?>");
const BMAP = sticky("<bmap[ \\t\\r\\n]", "version", "=", "([\"'])([\\w.]{1,16})\\1", ">");
const BMAP_END = sticky("</bmap", ">");
const FIELD = sticky("<([A-Za-z]{1,32})", ">", "([\\w.-]{1,128})", "</\\1", ">");
const MAP = sticky("<BlockMap", ">");
const MAP_END = sticky("</BlockMap", ">");
const NUMBERS = "(\\d{1,16})(?:[ \\t\\r\\n]*-[ \\t\\r\\n]*(\\d{1,16}))?";
const RANGE = sticky(
  ...["<Range[ \\t\\r\\n]", "chksum", "=", "([\"'])([0-9a-f]{64})\\1", ">"],
  ...[NUMBERS, "</Range", ">"],
);

/**
 * Reads a bmap.
 *
 * @param bytes The whole file, of at most {@link MAX_BMAP_BYTES}.
 * @param name Name for messages.
 * @throws {UserError} "format", with the offset, for what is no bmap of a version that is read, or
 * contradicts itself; "verify" for one whose own checksum is wrong.
 */
export function readBmap(bytes: Uint8Array, name: string): Bmap {
  const scanner = new Scanner(bytes, name);
  scanner.take(PROLOGUE);
  const version = scanner.need(BMAP, "no <bmap version=...> here")[2]!;
  if (!VERSIONS.includes(version)) {
    throw scanner.fault(
      `its version is ${version}; 2.0 is read, and before that digests were SHA-1 or missing`,
    );
  }
  const fields = new Map<Field, string>();
  let checksumAt = 0;
  let spans: readonly Span[] | undefined;
  while (scanner.take(BMAP_END) === undefined) {
    if (spans === undefined && scanner.take(MAP)) {
      spans = readSpans(scanner);
      continue;
    }
    const [text, tag, value] = scanner.need(FIELD, "neither a field nor the block map, once each");
    const field = FIELDS.find((known) => known === tag);
    if (field === undefined || fields.has(field)) {
      throw scanner.fault(`<${tag}> is ${field === undefined ? "not known" : "there twice"}`);
    }
    if (field === "ChecksumType" && value !== "sha256") {
      throw scanner.fault(`its digests are ${value}, and only sha256 is read`);
    }
    if (field === "BmapFileChecksum") checksumAt = scanner.at - text.length + text.indexOf(value!);
    fields.set(field, value!);
  }
  scanner.needEnd();
  const missing = FIELDS.find((field) => !fields.has(field));
  if (missing !== undefined) throw scanner.fault(`it has no ${missing}`);
  if (spans === undefined) throw scanner.fault("it has no block map");
  checkOwnDigest(bytes, checksumAt, fields.get("BmapFileChecksum")!, name);
  return bmapOfSpans(fields, spans, scanner);
}

/** A range in blocks. */
interface Span {
  readonly first: number;
  readonly last: number;
  readonly sha256: string;
}

/** Reads the ranges up to the end of the block map. */
function readSpans(scanner: Scanner): Span[] {
  const spans: Span[] = [];
  let next = 0;
  while (scanner.take(MAP_END) === undefined) {
    const [, , sha256, from, to = from] = scanner.need(RANGE, "no range with a SHA-256 here");
    const [first, last] = [Number(from), Number(to)];
    if (first < next || last < first) {
      throw scanner.fault(`the range ${first}-${last} is not after the one before it`);
    }
    spans.push({ first, last, sha256: sha256! });
    next = last + 1;
  }
  return spans;
}

/** Checks the BmapFileChecksum of a bmap, which is at an offset. */
function checkOwnDigest(bytes: Uint8Array, offset: number, wanted: string, name: string): void {
  const zeroed = Buffer.from(bytes);
  zeroed.fill(NO_CHECKSUM, offset, offset + wanted.length, "latin1");
  const sha256 = sha256Of(zeroed);
  if (sha256 === wanted) return;
  throw new UserError("verify", `Cannot trust ${name}: its SHA-256 is ${sha256}, not ${wanted}`, {
    where: `${name}, offset ${offset}`,
    hint: "It was changed after it was made: copy it again",
  });
}

/** Checks that the numbers of a bmap agree, and converts its ranges to bytes. */
function bmapOfSpans(
  fields: ReadonlyMap<Field, string>,
  spans: readonly Span[],
  scanner: Scanner,
): Bmap {
  const number = (field: Field) => {
    const value = /^\d{1,16}$/.test(fields.get(field)!) ? Number(fields.get(field)) : NaN;
    if (!Number.isSafeInteger(value)) throw scanner.fault(`its ${field} is no number of use`);
    return value;
  };
  const sizeBytes = number("ImageSize");
  const blockBytes = number("BlockSize");
  const count = number("BlocksCount");
  if (sizeBytes === 0 || blockBytes === 0 || countBlocks(sizeBytes, blockBytes) !== count) {
    throw scanner.fault(`${count} blocks of ${blockBytes} bytes are not ${sizeBytes} bytes`);
  }
  const mapped = spans.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  const last = spans.at(-1)?.last ?? 0;
  if (mapped !== number("MappedBlocksCount") || last >= count) {
    throw scanner.fault(`its ranges have ${mapped} blocks up to ${last}, not what its numbers say`);
  }
  const ranges = spans.map(({ first, last, sha256 }) => {
    const offsetBytes = first * blockBytes;
    const endBytes = last === count - 1 ? sizeBytes : (last + 1) * blockBytes;
    return { offsetBytes, sizeBytes: endBytes - offsetBytes, sha256 };
  });
  return { sizeBytes, ranges };
}

/** A position in the text of a bmap. Each byte is a character, so that it is an offset too. */
class Scanner {
  at = 0;
  readonly #text: string;
  readonly #name: string;

  constructor(bytes: Uint8Array, name: string) {
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    this.#name = name;
  }

  /** Advances past white space and comments, and past a pattern if it is there. */
  take(pattern: RegExp): RegExpExecArray | undefined {
    this.#skip();
    return this.#match(pattern);
  }

  /** @throws {UserError} "format" if the pattern is not there. */
  need(pattern: RegExp, fault: string): RegExpExecArray {
    const match = this.take(pattern);
    if (match === undefined) throw this.fault(fault);
    return match;
  }

  /** @throws {UserError} "format" if something follows. */
  needEnd(): void {
    this.#skip();
    if (this.at < this.#text.length) throw this.fault("something follows </bmap>");
  }

  fault(what: string): UserError {
    return new UserError("format", `Cannot read ${this.#name} as a bmap: ${what}`, {
      where: `${this.#name}, offset ${this.at}`,
      hint:
        "Make it again, from an image that is known to be right (seedstrap image bmap), or move it away",
    });
  }

  #skip(): void {
    this.#match(SPACE);
    while (this.#text.startsWith("<!--", this.at)) {
      // XML has no "--" in a comment.
      const end = this.#text.indexOf("--", this.at + 4);
      if (end < 0 || this.#text[end + 2] !== ">") throw this.fault("a comment does not end");
      this.at = end + 3;
      this.#match(SPACE);
    }
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.at += match[0].length;
    return match;
  }
}
