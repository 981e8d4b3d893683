// SPDX-License-Identifier: MIT
/**
 * Segments: an image is a list of them, which is complete before anything is read or written.
 *
 * Format modules turn entries into segments without opening a file; the writer streams them.
 *
 * @module
 */

/** Bytes made by the program: headers, commands, a boot sector, a generated file. */
export interface BytesSegment {
  readonly kind: "bytes";
  readonly bytes: Uint8Array;
}

/** A run of bytes in a file on this machine. */
export interface FileRun {
  readonly path: string;
  /** First byte of the run within the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Which file a path led to: its device and inode, as stat(2) has them. */
export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

/** A file in a bundle. */
export interface BundledFile {
  /** Path in the bundle. */
  readonly name: string;
  /** Lower-case hex SHA-256. */
  readonly sha256: string;
  /** Where its bytes are, in order: several runs if a part of the bundle ends within the file. */
  readonly runs: readonly FileRun[];
}

/** A run of bytes of an existing file: a step, a distfile. */
export interface FileSegment extends FileRun {
  readonly kind: "file";
  /** SHA-256 that the run must have, in lower-case hex; absent if it is not known. */
  readonly sha256?: string;
  /** The file that was found at the path, which has to be there still; absent if any may be. */
  readonly identity?: FileIdentity;
  /** The file may be longer than the run, even if the run starts at offset 0. */
  readonly isPart?: true;
  /** Set if the file is in a bundle; `path` and `offset` are then for messages only. */
  readonly bundled?: BundledFile;
}

/** Returns the segment of a whole file, which may be in a bundle. */
export function fileSegment(
  { path, sizeBytes, bundled, identity }: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly identity?: FileIdentity | undefined;
    readonly bundled?: BundledFile | undefined;
  },
  sha256 = bundled?.sha256,
): FileSegment {
  return {
    kind: "file",
    path,
    offsetBytes: 0,
    sizeBytes,
    ...(sha256 !== undefined && { sha256 }),
    ...(bundled && { bundled }),
    ...(identity && { identity }),
  };
}

/** Joins parts to one file of an image. */
export function joinedSegment(parts: JoinedSegment["parts"]): JoinedSegment {
  return { kind: "joined", parts, sizeBytes: totalSize(parts) };
}

/** Returns the runs with the bytes of a file segment. */
export function runsOf(segment: FileSegment): readonly FileRun[] {
  return segment.bundled?.runs ?? [segment];
}

/** The data of a file in an archive, which may be compressed. */
export interface MemberSegment {
  readonly kind: "member";
  /** Path of the archive. */
  readonly archive: string;
  /** Path in the archive, for messages. */
  readonly member: string;
  /** First byte of the data in the expanded archive. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** SHA-256 of the data when the archive was listed, in lower-case hex. */
  readonly sha256: string;
}

/**
 * A file of an image that is made of parts, such as a tar of files that are elsewhere. It is read,
 * and hashed, as one.
 */
export interface JoinedSegment {
  readonly kind: "joined";
  readonly parts: readonly (BytesSegment | FileSegment | ZerosSegment)[];
  readonly sizeBytes: number;
}

/** Padding, or the sparse tail of a disk. */
export interface ZerosSegment {
  readonly kind: "zeros";
  readonly sizeBytes: number;
}

/**
 * The CRC-32 (IEEE 802.3, as in zlib) of all bytes of the image before it, as 8 lower-case hex
 * digits.
 */
export interface Crc32Segment {
  readonly kind: "crc32";
}

export type Segment =
  | BytesSegment
  | FileSegment
  | MemberSegment
  | JoinedSegment
  | ZerosSegment
  | Crc32Segment;

/** Length of a {@link Crc32Segment}. */
export const CRC32_DIGITS = 8;

/** A segment that can be the content of a file inside an image. */
export type Body = BytesSegment | FileSegment | MemberSegment;

/** Returns the length of a segment in bytes. */
export function segmentSize(segment: Segment): number {
  switch (segment.kind) {
    case "bytes":
      return segment.bytes.length;
    case "crc32":
      return CRC32_DIGITS;
    default:
      return segment.sizeBytes;
  }
}

/** Returns the length of an image in bytes. */
export function totalSize(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segmentSize(segment), 0);
}

/** Returns a segment with a text in UTF-8. */
export function textSegment(text: string): BytesSegment {
  return { kind: "bytes", bytes: new TextEncoder().encode(text) };
}

/** Returns the zeros from `size` to the next multiple of `unit` bytes; none if it is a multiple. */
export function paddingTo(size: number, unit: number): ZerosSegment[] {
  const rest = size % unit;
  return rest === 0 ? [] : [{ kind: "zeros", sizeBytes: unit - rest }];
}

/** Bytes in a KiB, a MiB, a GiB and a BIOS sector. */
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const SECTOR_BYTES = 512;
