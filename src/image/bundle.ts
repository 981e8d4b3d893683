// SPDX-License-Identifier: MIT
/**
 * A bundle that is read in place, by its index.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import {
  type BundleIndex,
  type BundleLayout,
  INDEX_PATH,
  layOut,
  MAX_INDEX_BYTES,
  memberHeader,
  parseIndex,
  type PlacedMember,
  SUMS_PATH,
} from "../format/bundle.ts";
import { type ByteSource, readExactly, readRange } from "../format/reader.ts";
import { readTarHeader, TAR_BLOCK_BYTES } from "../format/tar.ts";
import type { BundledFile } from "../format/segment.ts";
import { statIfThere } from "../runtime/stat.ts";
import { type BundlePart, findParts, openParts, runsIn } from "../source/parts.ts";

/** A bundle whose index was verified. */
export interface Bundle {
  /** Absolute path of its first file. */
  readonly path: string;
  readonly parts: readonly BundlePart[];
  readonly index: BundleIndex;
  readonly layout: BundleLayout;
  /** By path. */
  readonly members: ReadonlyMap<string, PlacedMember>;
}

/**
 * Opens a bundle: reads its index, and verifies it against SHA256SUMS and the size of the bundle.
 * Everything else is verified only when it is read.
 *
 * @throws {UserError} "format" for a file that is no bundle, "verify" for a damaged bundle,
 * "target" where it cannot be read.
 */
export function openBundle(path: string): Bundle {
  const parts = findParts(path);
  if (parts === undefined) {
    const isThere = statIfThere(path) !== undefined;
    throw new UserError(
      "target",
      isThere
        ? `Cannot use ${path} as a bundle: it is no regular file`
        : `Cannot find the bundle ${path}`,
      { where: path, hint: "Name a bundle, or the first of its parts" },
    );
  }
  const source = openParts(parts);
  try {
    const layout = readLayout(source);
    const members = new Map(layout.members.map((placed) => [placed.member.path, placed]));
    return { path: source.name, parts, index: layout.index, layout, members };
  } finally {
    source.close();
  }
}

/** Returns a file of a bundle in the form that a segment needs. */
export function bundledFile({ parts }: Bundle, { member, dataOffset, size }: PlacedMember) {
  if (member.kind !== "file") throw new Error(`${member.path} is no file`);
  const runs = runsIn(parts, dataOffset, size);
  return { name: member.path, sha256: member.sha256, runs } satisfies BundledFile;
}

/**
 * Reads a whole file of a bundle.
 *
 * @throws {UserError} "verify" where its SHA-256 is wrong.
 */
export function readBundled(bundle: Bundle, placed: PlacedMember): Uint8Array {
  const { name, sha256 } = bundledFile(bundle, placed);
  const source = openParts(bundle.parts);
  try {
    // Opening has checked that the size is within that of the bundle.
    const bytes = readExactly(source, placed.dataOffset, placed.size);
    if (bytes !== undefined && sha256Of(bytes) === sha256) return bytes;
  } finally {
    source.close();
  }
  throw wrongDigest(bundle, name);
}

/**
 * SHA-256 of a file of a bundle of any size.
 *
 * @throws {UserError} "verify" where it is not that of the index.
 */
export function digestBundled(bundle: Bundle, placed: PlacedMember): string {
  const { name, sha256 } = bundledFile(bundle, placed);
  const source = openParts(bundle.parts);
  try {
    const hash = createHash("sha256");
    for (const part of readRange(source, placed.dataOffset, placed.size)) hash.update(part);
    if (hash.digest("hex") === sha256) return sha256;
  } finally {
    source.close();
  }
  throw wrongDigest(bundle, name);
}

function wrongDigest({ path }: Bundle, name: string): UserError {
  return damaged(path, `${JSON.stringify(name)} does not have the SHA-256 of the index`);
}

/** Reports whether a file begins like a bundle. */
export function isBundle(path: string): boolean {
  const source = openParts([{ path, sizeBytes: TAR_BLOCK_BYTES, startBytes: 0 }]);
  try {
    return headerAt(source, 0)?.name === SUMS_PATH;
  } finally {
    source.close();
  }
}

/**
 * Reads the index of a bundle.
 *
 * @throws {UserError} as {@link openBundle}
 */
export function readLayout(source: ByteSource): BundleLayout {
  const sums = headerAt(source, 0);
  if (sums === undefined && hasNameOfBundle(source)) {
    throw damaged(source.name, `the header of ${SUMS_PATH} is not as seedstrap writes it`);
  }
  if (sums?.name !== SUMS_PATH) {
    throw new UserError("format", `Cannot use ${source.name} as a bundle: it is not one`, {
      where: `${source.name}, offset 0`,
      hint: `A bundle begins with ${SUMS_PATH}: seedstrap bundle create makes one`,
    });
  }
  const sumsBytes = readExactly(source, TAR_BLOCK_BYTES, sums.size);
  const indexOffset = blocksEnd(TAR_BLOCK_BYTES + sums.size);
  const header = headerAt(source, indexOffset);
  if (sumsBytes === undefined || header?.name !== INDEX_PATH) {
    throw damaged(source.name, `there is no ${INDEX_PATH} after ${SUMS_PATH}`);
  }
  const bytes = readExactly(source, indexOffset + TAR_BLOCK_BYTES, header.size);
  if (bytes === undefined) throw damaged(source.name, `it ends within ${INDEX_PATH}`);
  const text = Buffer.from(bytes).toString();
  const index = parseIndex(text);
  if (typeof index === "string") throw damaged(source.name, `${INDEX_PATH}: ${index}`);
  const layout = layOut(index, text);
  if (!Buffer.from(layout.sumsText).equals(sumsBytes)) {
    throw damaged(source.name, `${SUMS_PATH} and ${INDEX_PATH} do not match`);
  }
  for (const { member, headerOffset } of layout.members.slice(0, 2)) {
    const wanted = memberHeader(member);
    const found = readExactly(source, headerOffset, wanted.length);
    if (found === undefined || !Buffer.from(wanted).equals(found)) {
      throw damaged(source.name, `the header of ${member.path} is not as seedstrap writes it`);
    }
  }
  if (layout.sizeBytes !== source.sizeBytes) {
    throw damaged(
      source.name,
      `it has ${source.sizeBytes} bytes, expected ${layout.sizeBytes} by its index`,
    );
  }
  return layout;
}

/** Reports whether a source begins with the name of the first member, in a header or not. */
function hasNameOfBundle(source: ByteSource): boolean {
  const name = Buffer.from(`${SUMS_PATH}\0`);
  const found = readExactly(source, 0, name.length);
  return found !== undefined && name.equals(found);
}

/** Reads the header of a file of up to {@link MAX_INDEX_BYTES}; undefined where there is none. */
export function headerAt(
  source: ByteSource,
  offset: number,
): { readonly name: string; readonly size: number } | undefined {
  const block = readExactly(source, offset, TAR_BLOCK_BYTES);
  const header = block === undefined ? "" : readTarHeader(block);
  if (typeof header === "string" || header.type !== "0" || header.size > MAX_INDEX_BYTES) {
    return undefined;
  }
  return { name: Buffer.from(header.name).toString(), size: header.size };
}

/** Rounds an offset up to a whole number of tar blocks. */
export function blocksEnd(offset: number): number {
  return Math.ceil(offset / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

function damaged(path: string, what: string): UserError {
  return new UserError("verify", `Cannot use the bundle ${path}: ${what}`, {
    where: path,
    hint: "seedstrap bundle verify lists all damage; copy the bundle again",
  });
}
