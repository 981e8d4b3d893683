// SPDX-License-Identifier: MIT
/**
 * Looking into boot and payload images, hostile ones included: with bounded memory, believing no
 * size.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import { isBootSector, readBootHeader } from "../format/boot.ts";
import { closingCrc32, closingDigits } from "../format/preflight.ts";
import { isPayload, readPayload, readPayloadHeader } from "../format/payload.ts";
import { bytesOf, type ByteSource, firstNonZero, formatError } from "../format/reader.ts";
import { readSrcfs } from "../format/srcfs.ts";

/** What an image is. */
export type ImageKind = "boot" | "payload";

/** A file, directory or command of an image. */
export type ImageEntry =
  | {
    /** A directory and an empty file cannot be told apart in a boot image: both are "empty". */
    readonly kind: "file" | "empty";
    readonly path: string;
    readonly size: number;
    /** Offset of the content in the image. */
    readonly dataOffset: number;
  }
  | {
    readonly kind: "command";
    readonly path: string;
    /** Offset of the line in the image. */
    readonly offset: number;
  };

/**
 * Says what an image is.
 *
 * @throws {UserError} "format" for what is neither.
 */
export function detectImage(source: ByteSource): ImageKind {
  if (isPayload(source)) return "payload";
  if (isBootSector(source)) return "boot";
  throw formatError(source, 0, "neither a boot image (55 AA at 510) nor a payload (LBPAYLD1 at 0)");
}

/**
 * Walks an image.
 *
 * @returns Its entries in order. The generator's return value is the offset behind the last one.
 * @throws {UserError} "format" with the offset of the fault.
 */
export function* readImage(source: ByteSource): Generator<ImageEntry, number, undefined> {
  if (detectImage(source) === "payload") {
    const files = readPayload(source);
    for (;;) {
      const { done, value } = files.next();
      if (done) return value;
      yield { kind: "file", path: value.name, size: value.size, dataOffset: value.dataOffset };
    }
  }
  for (const record of readSrcfs(source, readBootHeader(source).srcfsOffset)) {
    switch (record.kind) {
      case "end":
        return record.offset;
      case "command":
        yield { kind: "command", path: record.text, offset: record.offset };
        break;
      case "entry": {
        const { path, size, dataOffset } = record;
        yield { kind: size === 0 ? "empty" : "file", path, size, dataOffset };
      }
    }
  }
  return source.size;
}

/** SHA-256 of a run of bytes. */
export function digestOf(source: ByteSource, offset: number, size: number): string {
  const hash = createHash("sha256");
  for (const part of bytesOf(source, offset, size)) hash.update(part);
  return hash.digest("hex");
}

/**
 * Finds a file in an image by its path or name; the last one wins, as in builder-hex0.
 *
 * @param path As `image ls` prints it; the leading `./` may be left out.
 * @throws {UserError} "usage" where it is not there.
 */
export function findEntry(
  source: ByteSource,
  path: string,
): Extract<ImageEntry, { kind: "file" | "empty" }> {
  let found: Extract<ImageEntry, { kind: "file" | "empty" }> | undefined;
  for (const entry of readImage(source)) {
    if (entry.kind !== "command" && (entry.path === path || entry.path === `./${path}`)) {
      found = entry;
    }
  }
  if (found === undefined) {
    throw new UserError("usage", `Cannot find ${JSON.stringify(path)} in ${source.name}`, {
      hint: `seedstrap image ls ${source.name} lists what is there`,
    });
  }
  return found;
}

/** What {@link verifyImage} found. */
export interface ImageReport {
  readonly kind: ImageKind;
  /** Layout of a payload. */
  readonly layout?: 64 | 32;
  readonly files: number;
  readonly empty: number;
  readonly commands: number;
  /** Bytes of all files. */
  readonly fileBytes: number;
  /** Offset behind the last entry; from here on there are only zeros. */
  readonly endOffset: number;
  readonly sizeBytes: number;
}

/**
 * Checks the structure of an image to its last byte.
 *
 * @throws {UserError} "format", with the offset, for anything that does not belong there.
 */
export function verifyImage(source: ByteSource): ImageReport {
  const kind = detectImage(source);
  let files = 0;
  let empty = 0;
  let commands = 0;
  let fileBytes = 0;
  let last: ImageEntry | undefined;
  const entries = readImage(source);
  for (;;) {
    const { done, value } = entries.next();
    if (done) {
      // Only the last line closes: a checksum for every line would take for ever.
      if (last?.kind === "command") checkClosing(source, last);
      const stray = firstNonZero(source, value);
      if (stray >= 0) throw formatError(source, stray, "a byte behind the last entry is not zero");
      const layout = kind === "payload" ? readPayloadHeader(source).layout : undefined;
      return {
        kind,
        ...(layout && { layout }),
        files,
        empty,
        commands,
        fileBytes,
        endOffset: value,
        sizeBytes: source.size,
      };
    }
    last = value;
    if (value.kind === "command") commands++;
    if (value.kind === "empty") empty++;
    if (value.kind === "file") files++;
    fileBytes += value.kind === "command" ? 0 : value.size;
  }
}

/** The closing record of a preflight image holds a checksum of all before it. */
function checkClosing(
  source: ByteSource,
  { path, offset }: Extract<ImageEntry, { kind: "command" }>,
): void {
  const digits = closingDigits(path);
  if (digits === undefined) return;
  const got = closingCrc32(source, offset, path);
  if (got === digits) return;
  throw formatError(source, offset, `CRC-32 of what is before is ${got}, recorded is ${digits}`);
}
