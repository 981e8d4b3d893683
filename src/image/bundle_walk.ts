// SPDX-License-Identifier: MIT
/**
 * Finds the members of a bundle by their headers, for a bundle whose index is damaged.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type ByteSource, readExactly } from "../format/reader.ts";
import { MIB } from "../format/segment.ts";
import {
  isTarHeader,
  readPaxRecords,
  readTarHeader,
  TAR_BLOCK_BYTES,
  tarHeader,
} from "../format/tar.ts";
import { isZero } from "../bytes.ts";
import { blocksEnd } from "./bundle.ts";

/** Largest pax header that is read; those of a bundle have a path and a size. */
const MAX_PAX_BYTES = 16 * 1024;

/** A member, or a run of bytes without a sound header. */
export type FoundMember =
  | {
    readonly kind: "member";
    readonly path: string;
    readonly isFile: boolean;
    readonly headerOffset: number;
    readonly dataOffset: number;
    readonly size: number;
    /** Whether its header is as `tarHeader()` writes it. */
    readonly isCanonical: boolean;
  }
  | { readonly kind: "damaged"; readonly offset: number; readonly size: number };

/** Walks from header to header; after a damaged one it goes on at the next sound one. */
export function* membersByHeader(source: ByteSource): Generator<FoundMember, void, undefined> {
  for (let offset = 0; offset < source.sizeBytes;) {
    const found = memberAt(source, offset);
    if (found === "end") return;
    if (found !== undefined) {
      yield found;
      offset = blocksEnd(found.dataOffset + found.size);
      continue;
    }
    const next = nextHeader(source, offset + TAR_BLOCK_BYTES);
    yield { kind: "damaged", offset, size: next - offset };
    offset = next;
  }
}

function memberAt(
  source: ByteSource,
  offset: number,
): (FoundMember & { kind: "member" }) | "end" | undefined {
  const block = readExactly(source, offset, TAR_BLOCK_BYTES);
  if (block === undefined) return undefined;
  if (isZero(block)) return "end";
  const first = readTarHeader(block);
  if (typeof first === "string") return undefined;
  if (first.type !== "x") return describe(source, offset, offset, first, new Map());
  const bytes = first.size > MAX_PAX_BYTES
    ? undefined
    : readExactly(source, offset + TAR_BLOCK_BYTES, first.size);
  const records = bytes === undefined ? "" : readPaxRecords(bytes);
  const at = blocksEnd(offset + TAR_BLOCK_BYTES + first.size);
  const second = readExactly(source, at, TAR_BLOCK_BYTES);
  const header = second === undefined ? "" : readTarHeader(second);
  if (typeof records === "string" || typeof header === "string") return undefined;
  return describe(source, offset, at, header, records);
}

function describe(
  source: ByteSource,
  headerOffset: number,
  offset: number,
  header: Exclude<ReturnType<typeof readTarHeader>, string>,
  pax: ReadonlyMap<string, Uint8Array>,
): (FoundMember & { kind: "member" }) | undefined {
  const isFile = header.type === "0";
  const paxSize = pax.get("size");
  const size = paxSize === undefined ? header.size : Number(Buffer.from(paxSize).toString());
  const dataOffset = offset + TAR_BLOCK_BYTES;
  if (!Number.isSafeInteger(size) || size < 0 || size > source.sizeBytes - dataOffset) {
    return undefined;
  }
  const path = Buffer.from(pax.get("path") ?? header.name).toString().replace(/\/$/, "");
  if (!isFile && header.type !== "5") return undefined;
  const found = readExactly(source, headerOffset, dataOffset - headerOffset);
  const isCanonical = path !== "" && !path.includes("\n") && found !== undefined &&
    Buffer.from(tarHeader({
      path,
      kind: isFile ? "file" : "directory",
      size,
      isExecutable: header.mode === 0o755,
    })).equals(found);
  return { kind: "member", path, isFile, headerOffset, dataOffset, size, isCanonical };
}

/** Returns the offset of the next block with the checksum of a header, or of the end. */
function nextHeader(source: ByteSource, from: number): number {
  const buffer = new Uint8Array(MIB);
  // Starts small: a file can consist of headers that only `describe()` rejects.
  let length = 8 * TAR_BLOCK_BYTES;
  for (let offset = from; offset < source.sizeBytes;) {
    const window = buffer.subarray(0, length);
    const read = source.read(offset, window);
    for (let at = 0; at + TAR_BLOCK_BYTES <= read; at += TAR_BLOCK_BYTES) {
      const block = window.subarray(at, at + TAR_BLOCK_BYTES);
      if (block[257] === 0x75 && isTarHeader(block)) return offset + at;
    }
    offset += length;
    length = Math.min(2 * length, MIB);
  }
  return source.sizeBytes;
}
