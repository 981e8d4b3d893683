// SPDX-License-Identifier: MIT
/**
 * An image is a list of segments, known before anything is read or written.
 *
 * Format modules turn entries into segments without opening a file; the one writer streams them.
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
  readonly offset: number;
  /** Length of the run in bytes. */
  readonly size: number;
}

/** A file that lies in a bundle. */
export interface BundledFile {
  /** Path in the bundle. */
  readonly name: string;
  /** Lower-case hex SHA-256. */
  readonly sha256: string;
  /** Where its bytes are, in order: several runs where a part of the bundle ends within it. */
  readonly runs: readonly FileRun[];
}

/** A run of bytes of an existing file: a step, a distfile. */
export interface FileSegment extends FileRun {
  readonly kind: "file";
  /** Lower-case hex SHA-256 that the run must have; absent where nothing is known of it. */
  readonly sha256?: string;
  /** The file may go on behind the run, also behind one that begins it. */
  readonly isPart?: true;
  /** Set where the file lies in a bundle: `path` and `offset` then only say so. */
  readonly bundled?: BundledFile;
}

/** A file of a given size as a segment, whole, whether it lies in a bundle or not. */
export function fileSegment(
  { path, size, bundled }: { path: string; size: number; bundled?: BundledFile | undefined },
  sha256 = bundled?.sha256,
): FileSegment {
  return {
    kind: "file",
    path,
    offset: 0,
    size,
    ...(sha256 !== undefined && { sha256 }),
    ...(bundled && { bundled }),
  };
}

/** Where the bytes of a file segment are. */
export function runsOf(segment: FileSegment): readonly FileRun[] {
  return segment.bundled?.runs ?? [segment];
}

/** The data of a file in an archive, which may be compressed. */
export interface MemberSegment {
  readonly kind: "member";
  /** The archive on this machine. */
  readonly archive: string;
  /** Path in the archive, for messages. */
  readonly member: string;
  /** First byte of the data in the expanded archive. */
  readonly offset: number;
  /** Length of the data in bytes. */
  readonly size: number;
  /** Lower-case hex SHA-256 that the data had when the archive was listed. */
  readonly sha256: string;
}

/** Padding, or the sparse tail of a disk. */
export interface ZerosSegment {
  readonly kind: "zeros";
  /** Length in bytes. */
  readonly size: number;
}

/**
 * The CRC-32 (IEEE 802.3, as zlib has it) of all bytes of the image before it, as 8 lower-case hex
 * digits.
 */
export interface Crc32Segment {
  readonly kind: "crc32";
}

export type Segment = BytesSegment | FileSegment | MemberSegment | ZerosSegment | Crc32Segment;

/** Length of a {@link Crc32Segment}. */
export const CRC32_DIGITS = 8;

/** A segment that can be the content of a file inside an image. */
export type Body = BytesSegment | FileSegment | MemberSegment;

/** Length of one segment in bytes. */
export function segmentSize(segment: Segment): number {
  switch (segment.kind) {
    case "bytes":
      return segment.bytes.length;
    case "crc32":
      return CRC32_DIGITS;
    default:
      return segment.size;
  }
}

/** Length of an image in bytes. */
export function totalSize(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segmentSize(segment), 0);
}

/** Text as a segment, in UTF-8. */
export function textSegment(text: string): BytesSegment {
  return { kind: "bytes", bytes: new TextEncoder().encode(text) };
}

/** Zeros from `size` to the next multiple of `unit` bytes; nothing where it is one already. */
export function paddingTo(size: number, unit: number): ZerosSegment[] {
  const rest = size % unit;
  return rest === 0 ? [] : [{ kind: "zeros", size: unit - rest }];
}

/** Bytes in a KiB, a MiB, a GiB and a BIOS sector. */
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const SECTOR_BYTES = 512;
