// SPDX-License-Identifier: MIT
/**
 * Reads boot and payload images, and those of containers, also hostile ones: with bounded memory,
 * and with every size checked.
 *
 * @module
 */

import {
  type ImageEntry,
  type ImageKind,
  type ImageReport,
  isOfPayload,
  type LinearKind,
  type NodeEntry,
  PAYLOAD_PATH,
  type ReadView,
  type ViewEntry,
} from "./types.ts";
import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import { isBootSector, payloadPartition, readBootHeader } from "../format/boot.ts";
import { isExt } from "../format/ext.ts";
import { LINUX_PARTITION, readMbr } from "../format/mbr.ts";
import { closingCrc32, closingDigits } from "../format/preflight.ts";
import { isContainer, readContainer, readLayer, type TarEntry } from "../format/oci.ts";
import { isPayload, readPayload, readPayloadHeader } from "../format/payload.ts";
import { type ByteSource, firstNonZero, formatError, readRange } from "../format/reader.ts";
import { SECTOR_BYTES } from "../format/segment.ts";
import { readSrcfs } from "../format/srcfs.ts";

/**
 * Detects the kind of an image. A boot image in which a guest has made a partition with a file
 * system is a "disk".
 *
 * @throws {UserError} "format" for a source that is no image.
 */
export function detectImage(source: ByteSource): ImageKind {
  if (isPayload(source)) return "payload";
  if (isContainer(source)) return "container";
  if (findFileSystem(source) !== undefined) return "disk";
  if (isBootSector(source)) return "boot";
  const what = source.sizeBytes === 0
    ? "it is empty"
    : "neither a boot image (55 AA at 510) nor a payload (LBPAYLD1 at 0) nor a disk with ext2, " +
      "ext3 or ext4 nor the image of a container";
  throw new UserError("format", `Cannot read image: ${what}`, {
    where: `${source.name}, offset 0`,
    hint: "Name an image that was built, a copy of it, or a disk that it became",
  });
}

/** The location of a file system on a disk. */
export interface FoundFileSystem {
  /** Offset of its first byte. */
  readonly baseBytes: number;
  /** Number of its partition, from 1; absent where there is no partition table. */
  readonly partition?: number;
}

/** Finds the first ext2, ext3 or ext4 of a disk: bare, or in a primary partition for Linux. */
export function findFileSystem(source: ByteSource): FoundFileSystem | undefined {
  if (isExt(source)) return { baseBytes: 0 };
  if (!isBootSector(source)) return undefined;
  for (const { number, type, startSector } of readMbr(source).partitions) {
    const baseBytes = startSector * SECTOR_BYTES;
    if (type !== LINUX_PARTITION || !isExt(source, baseBytes)) continue;
    return { baseBytes, partition: number };
  }
  return undefined;
}

/** A run of bytes of an image that its entries are in; between two of them are zeros. */
export interface DataSpan {
  readonly startOffset: number;
  /** Offset after the last byte. */
  readonly endOffset: number;
}

/**
 * Walks a boot or payload image, or the layer of a container. The files of a payload on the boot
 * disk follow those of the boot image, below {@link PAYLOAD_PATH}.
 *
 * @returns Its entries in order. The generator's return value says where they are: one span, or
 * two with such a payload.
 * @throws {UserError} "format" with the offset of the fault.
 */
export function readImage(
  source: ByteSource,
  kind?: Exclude<LinearKind, "container">,
): Generator<ImageEntry, readonly DataSpan[], undefined>;
export function readImage(
  source: ByteSource,
  kind: LinearKind,
): Generator<ViewEntry, readonly DataSpan[], undefined>;
export function* readImage(
  source: ByteSource,
  kind: LinearKind = detectStored(source),
): Generator<ViewEntry, readonly DataSpan[], undefined> {
  if (kind === "container") {
    const head = readContainer(source);
    let inode = 0;
    for (const entry of readLayer(source, head)) yield nodeOf(entry, ++inode);
    return [{ startOffset: 0, endOffset: head.endOffsetBytes }];
  }
  if (kind === "payload") return [yield* readFiles(source, 0, "")];
  for (const record of readSrcfs(source, readBootHeader(source).srcfsOffset)) {
    switch (record.kind) {
      case "end": {
        const boot = { startOffset: 0, endOffset: record.offsetBytes };
        const payload = payloadPartition(source, record.offsetBytes);
        if (payload === undefined) return [boot];
        return [boot, yield* readFiles(payload, payload.baseBytes, `${PAYLOAD_PATH}/`)];
      }
      case "command":
        yield { kind: "command", path: record.text, offset: record.offsetBytes };
        break;
      case "entry": {
        const { path, sizeBytes: size, dataOffsetBytes: dataOffset } = record;
        if (isOfPayload(path)) {
          throw formatError(source, dataOffset, `the srcfs has ${JSON.stringify(path)}`);
        }
        yield { kind: size === 0 ? "empty" : "file", path, size, dataOffset };
      }
    }
  }
  throw new Error("a srcfs has an end");
}

/** Walks a payload that begins at `startOffset` of an image. */
function* readFiles(
  payload: ByteSource,
  startOffset: number,
  prefix: string,
): Generator<ImageEntry, DataSpan, undefined> {
  const files = readPayload(payload);
  for (;;) {
    const { done, value } = files.next();
    if (done) return { startOffset, endOffset: startOffset + value };
    yield {
      kind: "file",
      path: `${prefix}${value.name}`,
      size: value.sizeBytes,
      dataOffset: startOffset + value.dataOffsetBytes,
    };
  }
}

function nodeOf(
  { kind, path, mode, uid, gid, sizeBytes, dataOffsetBytes, target }: TarEntry,
  inode: number,
): NodeEntry {
  return {
    kind,
    path: `/${path}`,
    size: sizeBytes,
    ...(kind === "file" && { dataOffset: dataOffsetBytes }),
    inode,
    mode,
    uid,
    gid,
    mtime: 0,
    links: 1,
    ...(target !== undefined && { target }),
  };
}

/** @throws {UserError} "format" for a source that is neither. */
function detectLinear(source: ByteSource): LinearKind {
  const kind = detectImage(source);
  return kind === "disk" ? "boot" : kind;
}

/** The same, for who does not know the entries of a container: it is no boot image then. */
function detectStored(source: ByteSource): Exclude<LinearKind, "container"> {
  const kind = detectLinear(source);
  return kind === "container" ? "boot" : kind;
}

/** Returns the SHA-256 of a run of bytes. */
export function digestRange(source: ByteSource, offset: number, size: number): string {
  const hash = createHash("sha256");
  for (const part of readRange(source, offset, size)) hash.update(part);
  return hash.digest("hex");
}

/**
 * Checks the structure of a boot or payload image to its last byte, and the digest of the layer of
 * a container.
 *
 * @throws {UserError} "format", with the offset, for anything that is not part of the format;
 * "verify" for a layer that is another than its manifest says.
 */
export function verifyImage(
  source: ByteSource,
  kind: LinearKind = detectLinear(source),
): ImageReport {
  let files = 0;
  let empty = 0;
  let commands = 0;
  let fileBytes = 0;
  let last: Extract<ImageEntry, { kind: "command" }> | undefined;
  const entries = readImage(source, kind);
  for (;;) {
    const { done, value } = entries.next();
    if (done) {
      const [first, second] = value;
      // Only the last line is a closing record: a checksum for every line would take for ever.
      const hasChecksum = kind === "container" ? checkLayer(source) : last !== undefined &&
        last.offset + last.path.length + 1 === first!.endOffset && checkClosing(source, last);
      checkZeros(source, first!.endOffset, second?.startOffset);
      if (second !== undefined) checkZeros(source, second.endOffset);
      const layout = kind === "payload" ? readPayloadHeader(source).layout : undefined;
      return {
        kind,
        ...(second && { payloadOffset: second.startOffset }),
        ...(layout && { layout }),
        ...(hasChecksum && { hasChecksum }),
        files,
        empty,
        commands,
        fileBytes,
        endOffset: (second ?? first!).endOffset,
        sizeBytes: source.sizeBytes,
      };
    }
    if (value.kind === "command") {
      last = value;
      commands++;
    } else if (value.kind === "file") files++;
    else empty++;
    fileBytes += value.kind === "command" ? 0 : value.size;
  }
}

function checkZeros(source: ByteSource, offset: number, end?: number): void {
  const stray = firstNonZero(source, offset, end);
  if (stray >= 0) throw formatError(source, stray, "a byte after the last entry is not zero");
}

/** Verifies the digest of the layer of a container, by which its manifest names it. */
function checkLayer(source: ByteSource): true {
  const { layerSha256, layerOffsetBytes, layerSizeBytes } = readContainer(source);
  const got = digestRange(source, layerOffsetBytes, layerSizeBytes);
  if (got === layerSha256) return true;
  throw new UserError("verify", `Cannot trust ${source.name}: the SHA-256 of its layer is ${got}`, {
    where: `${source.name}, offset ${layerOffsetBytes}`,
    hint: "Copy or build it again",
  });
}

/**
 * Verifies the closing record of a preflight image: a checksum of all bytes before it.
 *
 * @returns Whether there is one.
 */
function checkClosing(
  source: ByteSource,
  { path, offset }: Extract<ImageEntry, { kind: "command" }>,
): boolean {
  const digits = closingDigits(path);
  if (digits === undefined) return false;
  const got = closingCrc32(source, offset, path);
  if (got === digits) return true;
  throw formatError(source, offset, `the CRC-32 of the bytes before is ${got}, expected ${digits}`);
}

/**
 * Returns `runs` of a view of files that are stored in one piece, which throws {@link UserError}
 * "format" where the source is too short.
 */
export function storedRuns(source: ByteSource): ReadView["runs"] {
  return source.runs && ((entry) => {
    if (entry.kind !== "file" || entry.dataOffset === undefined) return [];
    const { dataOffset, size } = entry;
    const missing = dataOffset + size - source.sizeBytes;
    if (missing <= 0) return source.runs!(dataOffset, size);
    const message = `the image ends ${Math.min(missing, size)} bytes too early`;
    throw formatError(source, source.sizeBytes, message);
  });
}
