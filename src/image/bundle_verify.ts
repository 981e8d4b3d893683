// SPDX-License-Identifier: MIT
/**
 * Verifies every byte of a bundle, and reports what is damaged.
 *
 * If the index is sound, it determines each byte, or a SHA-256 in it covers it. If it is damaged,
 * the members are found by their headers; after a damaged header, the search goes on at the next
 * sound one.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  type BundleLayout,
  type BundleMember,
  END_BYTES,
  INDEX_PATH,
  layOut,
  MAX_INDEX_BYTES,
  memberHeader,
  parseIndex,
  SUMS_PATH,
} from "../format/bundle.ts";
import { type ByteSource, readExactly } from "../format/reader.ts";
import { MIB } from "../format/segment.ts";
import { parseSums } from "../format/sums.ts";
import { TAR_BLOCK_BYTES } from "../format/tar.ts";
import { isZero, sha256Of } from "../bytes.ts";
import { blocksEnd, headerAt } from "./bundle.ts";
import { membersByHeader } from "./bundle_walk.ts";
import { digestRanges, type EntryOptions, type NamedRange } from "./digests.ts";

/** A damaged run of bytes, or a missing or an unknown member. */
export interface BundleFault {
  /** Path of the member; absent for the end of the bundle, and between members. */
  readonly member?: string;
  /** What is damaged; "data" is a file with a wrong SHA-256. */
  readonly kind: "header" | "data" | "padding" | "end" | "missing" | "unknown";
  /** The damaged run of the bundle, in bytes; exact for headers and generated texts. */
  readonly offset: number;
  readonly size: number;
  readonly message: string;
}

/** The result of {@link verifyBundle}. */
export interface BundleReport {
  readonly files: number;
  readonly sizeBytes: number;
  /** Whether the members were found by the index, and not by their headers. */
  readonly isIndexed: boolean;
  /** In the order of the bundle; empty where it is sound. */
  readonly faults: readonly BundleFault[];
}

/**
 * Verifies a bundle to its last byte.
 *
 * @throws {UserError} "target" where it cannot be read, "interrupt".
 */
export async function verifyBundle(
  source: ByteSource,
  options: EntryOptions = {},
): Promise<BundleReport> {
  const { layout, sums } = findIndex(source);
  if (layout === undefined) return await verifyByHeaders(source, sums, options);
  const faults: BundleFault[] = [];
  const texts = generatedTexts(layout);
  const isDigested = ({ kind, path }: BundleMember) => kind === "file" && !texts.has(path);
  const ranges = layout.members.filter(({ member }) => isDigested(member))
    .map(({ member, dataOffset, size }) => ({ name: member.path, offset: dataOffset, size }));
  const digests = digestRanges(source, ranges, options);
  try {
    for (const placed of layout.members) {
      const { member, headerOffset, dataOffset, size } = placed;
      const { path } = member;
      const own = differences(source, headerOffset, memberHeader(member), "header", path);
      const wanted = texts.get(path);
      if (wanted !== undefined) {
        own.push(...differences(source, dataOffset, wanted, "data", path));
      } else if (member.kind === "file") {
        const { value } = await digests.next();
        own.push(...dataFault(path, dataOffset, size, value ?? undefined, member.sha256));
      }
      own.push(...paddingFault(source, dataOffset + size, path));
      const [first, second] = own;
      // A member whose header is missing is reported once, not also for its data.
      if (first?.kind === "missing" && second?.kind === "missing") {
        faults.push({ ...first, size: dataOffset + size - headerOffset });
      } else faults.push(...own);
    }
  } finally {
    await digests.return();
  }
  faults.push(...endFaults(source, layout.endOffset, true));
  const files = layout.members.filter(({ member }) => member.kind === "file").length;
  return { files, sizeBytes: source.sizeBytes, isIndexed: true, faults };
}

/**
 * Compares what is around the files of a bundle with what its index says: every header, the two
 * texts, the padding and the end.
 */
export function frameFaults(source: ByteSource, layout: BundleLayout): BundleFault[] {
  const texts = generatedTexts(layout);
  const faults = layout.members.flatMap(({ member, headerOffset, dataOffset, size }) => {
    const { path } = member;
    const text = texts.get(path);
    return [
      ...differences(source, headerOffset, memberHeader(member), "header", path),
      ...(text === undefined ? [] : differences(source, dataOffset, text, "data", path)),
      ...paddingFault(source, dataOffset + size, path),
    ];
  });
  return [...faults, ...endFaults(source, layout.endOffset, true)];
}

function generatedTexts({ sumsText, indexText }: BundleLayout): ReadonlyMap<string, Uint8Array> {
  return new Map([[SUMS_PATH, Buffer.from(sumsText)], [INDEX_PATH, Buffer.from(indexText)]]);
}

async function verifyByHeaders(
  source: ByteSource,
  sums: ReadonlyMap<string, string>,
  options: EntryOptions,
): Promise<BundleReport> {
  const faults: BundleFault[] = [];
  const missing = new Map(sums);
  let files = 0;
  let end = 0;
  for (const found of membersByHeader(source)) {
    if (found.kind === "damaged") {
      const { offset, size } = found;
      faults.push({ kind: "header", offset, size, message: "this is not the header of a member" });
      end = offset + size;
      continue;
    }
    const { path, dataOffset, size, isFile, isCanonical, headerOffset } = found;
    if (!isCanonical) {
      const message = "its header is not as seedstrap writes it";
      const length = dataOffset - headerOffset;
      faults.push({ member: path, kind: "header", offset: headerOffset, size: length, message });
    }
    if (isFile) {
      files++;
      const wanted = sums.get(path);
      missing.delete(path);
      const range = { name: path, offset: dataOffset, size };
      const got = await digestOf(source, range, options);
      if (wanted !== undefined) faults.push(...dataFault(path, dataOffset, size, got, wanted));
      else if (path !== SUMS_PATH) {
        const message = `${SUMS_PATH} has no line for it, or the line is damaged`;
        faults.push({ member: path, kind: "unknown", offset: dataOffset, size, message });
      }
    }
    faults.push(...paddingFault(source, dataOffset + size, path));
    end = blocksEnd(dataOffset + size);
  }
  for (const path of missing.keys()) {
    const message = "no sound header has its name";
    faults.push({ member: path, kind: "missing", offset: 0, size: 0, message });
  }
  if (files === 0 || faults.length === 0) {
    const message = `${INDEX_PATH} and ${SUMS_PATH} do not match`;
    faults.push({ member: INDEX_PATH, kind: "data", offset: 0, size: end, message });
  }
  faults.push(...endFaults(source, end, false));
  return { files, sizeBytes: source.sizeBytes, isIndexed: false, faults };
}

/** Returns the layout, if the index is sound, and the digests of SHA256SUMS, perhaps damaged. */
function findIndex(
  source: ByteSource,
): { layout?: BundleLayout; sums: ReadonlyMap<string, string> } {
  const indexOffset = findIndexHeader(source);
  if (indexOffset === undefined) return { sums: new Map() };
  const sumsText = textAt(source, TAR_BLOCK_BYTES, indexOffset - TAR_BLOCK_BYTES);
  const sums = parseSums(sumsText);
  const dataOffset = indexOffset + TAR_BLOCK_BYTES;
  const size = headerAt(source, indexOffset)?.size ?? MAX_INDEX_BYTES;
  const text = textAt(source, dataOffset, Math.min(size, source.sizeBytes - dataOffset));
  // If its header is damaged, the text may run on into the next member.
  const whole = text.slice(0, text.lastIndexOf("\n}\n") + 3);
  const index = parseIndex(whole);
  const got = sha256Of(Buffer.from(whole));
  if (typeof index === "string" || !isMeant(sums.get(INDEX_PATH), got, sumsText)) return { sums };
  return { layout: layOut(index, whole), sums };
}

/**
 * Reports whether a digest equals a recorded one, up to damage to the record: the digests of two
 * different texts agree in about 4 of 64 digits.
 */
function isMeant(written: string | undefined, got: string, sumsText: string): boolean {
  if (written !== undefined && common(written, got) >= 48) return true;
  return sumsText.split("\n").some((line) =>
    common(line.slice(0, 64), got) >= 48 || common(line.slice(1, 65), got) >= 48
  );
}

function common(a: string, b: string): number {
  return [...a].filter((digit, at) => digit === b[at]).length;
}

/** Finds the offset of the header of the index. */
function findIndexHeader(source: ByteSource): number | undefined {
  const sums = headerAt(source, 0);
  if (sums?.name === SUMS_PATH) return blocksEnd(TAR_BLOCK_BYTES + sums.size);
  const name = Buffer.from(`${INDEX_PATH}\0`);
  const window = Buffer.alloc(MIB);
  for (let offset = 0; offset < Math.min(source.sizeBytes, MAX_INDEX_BYTES); offset += MIB) {
    const read = source.read(offset, window);
    for (let at = 0; at + TAR_BLOCK_BYTES <= read; at += TAR_BLOCK_BYTES) {
      if (window.subarray(at, at + name.length).equals(name)) return offset + at;
    }
  }
  return undefined;
}

/** Reads text up to the first NUL. */
function textAt(source: ByteSource, offset: number, size: number): string {
  const bytes = Buffer.alloc(
    Math.max(0, Math.min(size, MAX_INDEX_BYTES, source.sizeBytes - offset)),
  );
  const read = source.read(offset, bytes);
  const end = bytes.indexOf(0);
  return bytes.subarray(0, end < 0 ? read : end).toString();
}

/** Compares bytes with the expected ones; a fault runs from the first difference to the last. */
function differences(
  source: ByteSource,
  offset: number,
  wanted: Uint8Array,
  kind: "header" | "data",
  member: string,
): BundleFault[] {
  const found = readExactly(source, offset, wanted.length);
  if (found === undefined) return [missingFault(source, member, offset, wanted.length)];
  const first = found.findIndex((byte, at) => byte !== wanted[at]);
  if (first < 0) return [];
  const last = found.findLastIndex((byte, at) => byte !== wanted[at]);
  const size = last + 1 - first;
  const message = `${size === 1 ? "a byte is" : `${size} bytes are`} not what the index says`;
  return [{ member, kind, offset: offset + first, size, message }];
}

function dataFault(
  member: string,
  offset: number,
  size: number,
  got: string | undefined,
  wanted: string,
): BundleFault[] {
  if (got === wanted) return [];
  const message = got === undefined
    ? "the bundle ends within it, or a part is too short"
    : `SHA-256 is ${got}, expected ${wanted}`;
  return [{ member, kind: got === undefined ? "missing" : "data", offset, size, message }];
}

function missingFault(source: ByteSource, member: string, offset: number, size: number) {
  const message = offset >= source.sizeBytes
    ? "the bundle ends before it"
    : "the bundle ends within it, or a part is too short";
  return { member, kind: "missing", offset, size, message } as const;
}

function paddingFault(source: ByteSource, offset: number, member: string): BundleFault[] {
  const size = blocksEnd(offset) - offset;
  const bytes = readExactly(source, offset, size);
  // Truncation is reported for the data before, or for the member that should follow.
  if (bytes === undefined || isZero(bytes)) return [];
  const first = bytes.findIndex((byte) => byte !== 0);
  const length = bytes.findLastIndex((byte) => byte !== 0) + 1 - first;
  const message = "the padding after its data is not zero";
  return [{ member, kind: "padding", offset: offset + first, size: length, message }];
}

/** @param isIndexed Whether `offset` is that of the index; else members may be missing before it. */
function endFaults(source: ByteSource, offset: number, isIndexed: boolean): BundleFault[] {
  const fault = (at: number, size: number, message: string): BundleFault[] => [
    { kind: "end", offset: at, size, message },
  ];
  const bytes = readExactly(source, offset, END_BYTES);
  if (bytes === undefined) {
    const { sizeBytes } = source;
    const endBytes = offset + END_BYTES;
    const known = isIndexed ? "" : "at least ";
    const message = `the bundle ends too early, at ${sizeBytes} of ${known}${endBytes} bytes`;
    return fault(sizeBytes, endBytes - sizeBytes, message);
  }
  const more = source.sizeBytes - offset - END_BYTES;
  return [
    ...(isZero(bytes) ? [] : fault(offset, END_BYTES, "the end marker is not zero")),
    ...(more === 0 ? [] : fault(offset + END_BYTES, more, "there is data after the end")),
  ];
}

async function digestOf(
  source: ByteSource,
  range: NamedRange,
  options: EntryOptions,
): Promise<string | undefined> {
  for await (const sha256 of digestRanges(source, [range], options)) return sha256;
  return undefined;
}
