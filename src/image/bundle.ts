// SPDX-License-Identifier: MIT
/**
 * A bundle that is read in place: everything in it is found by its index.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { Buffer } from "node:buffer";
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
import { type ByteSource, readExactly } from "../format/reader.ts";
import { readTarHeader, TAR_BLOCK_BYTES } from "../format/tar.ts";
import type { BundledFile } from "../format/segment.ts";
import { type BundlePart, findParts, openParts, runsIn } from "../source/parts.ts";

/** A bundle whose index is sound. */
export interface Bundle {
  /** Its first file, absolute. */
  readonly path: string;
  readonly parts: readonly BundlePart[];
  readonly index: BundleIndex;
  readonly layout: BundleLayout;
  /** By path. */
  readonly members: ReadonlyMap<string, PlacedMember>;
}

/**
 * Opens a bundle: reads its index, and checks that it goes with SHA256SUMS and with the size of
 * the file. Nothing else is verified before it is read.
 *
 * @throws {UserError} "format" for what is no bundle, "verify" for one that is damaged, "target"
 * where it cannot be read.
 */
export function openBundle(path: string): Bundle {
  const parts = findParts(path);
  if (parts === undefined) {
    throw new UserError("target", `Cannot find the bundle ${path}`, {
      where: path,
      hint: "Name a bundle, or the first of its parts",
    });
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

/** A file of a bundle, for a segment. */
export function bundledFile({ parts }: Bundle, { member, dataOffset, size }: PlacedMember) {
  if (member.kind !== "file") throw new Error(`${member.path} is no file`);
  const runs = runsIn(parts, dataOffset, size);
  return { name: member.path, sha256: member.sha256, runs } satisfies BundledFile;
}

/**
 * Reads a file of a bundle whole.
 *
 * @throws {UserError} "verify" where its SHA-256 is wrong.
 */
export function readBundled(bundle: Bundle, placed: PlacedMember): Uint8Array {
  const { name, sha256 } = bundledFile(bundle, placed);
  const source = openParts(bundle.parts);
  try {
    // The size is within that of the file: opening has checked it.
    const bytes = readExactly(source, placed.dataOffset, placed.size);
    if (bytes !== undefined && sha256Of(bytes) === sha256) return bytes;
  } finally {
    source.close();
  }
  throw damaged(bundle.path, `${JSON.stringify(name)} does not have the SHA-256 of the index`);
}

/** Whether a file begins like a bundle. */
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
  if (sums?.name !== SUMS_PATH) {
    throw new UserError("format", `Cannot use ${source.name} as a bundle: it is none`, {
      where: `${source.name}, offset 0`,
      hint: `A bundle begins with ${SUMS_PATH}: seedstrap bundle create makes it`,
    });
  }
  const sumsBytes = readExactly(source, TAR_BLOCK_BYTES, sums.size);
  const indexOffset = blocksEnd(TAR_BLOCK_BYTES + sums.size);
  const header = headerAt(source, indexOffset);
  if (sumsBytes === undefined || header?.name !== INDEX_PATH) {
    throw damaged(source.name, `there is no ${INDEX_PATH} behind ${SUMS_PATH}`);
  }
  const bytes = readExactly(source, indexOffset + TAR_BLOCK_BYTES, header.size);
  if (bytes === undefined) throw damaged(source.name, `it ends within ${INDEX_PATH}`);
  const text = Buffer.from(bytes).toString();
  const index = parseIndex(text);
  if (typeof index === "string") throw damaged(source.name, `${INDEX_PATH}: ${index}`);
  const layout = layOut(index, text);
  if (!Buffer.from(layout.sumsText).equals(sumsBytes)) {
    throw damaged(source.name, `${SUMS_PATH} and ${INDEX_PATH} do not go together`);
  }
  for (const { member, headerOffset } of layout.members.slice(0, 2)) {
    const wanted = memberHeader(member);
    const found = readExactly(source, headerOffset, wanted.length);
    if (found === undefined || !Buffer.from(wanted).equals(found)) {
      throw damaged(source.name, `the header of ${member.path} is not as we write it`);
    }
  }
  if (layout.sizeBytes !== source.size) {
    throw damaged(
      source.name,
      `it has ${source.size} bytes, by its index it should have ${layout.sizeBytes}`,
    );
  }
  return layout;
}

/** Name and size of the header at an offset, where there is one of a size that is reasonable. */
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

/** The offset of the first block that begins at an offset or behind it. */
export function blocksEnd(offset: number): number {
  return Math.ceil(offset / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

function damaged(path: string, what: string): UserError {
  return new UserError("verify", `Cannot use the bundle ${path}: ${what}`, {
    where: path,
    hint: "seedstrap bundle verify names everything that is damaged; copy the bundle again",
  });
}
