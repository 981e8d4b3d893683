// SPDX-License-Identifier: MIT
/**
 * What an image is, and what lies in it.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";

/** What an image is: "disk" is one with an ext2, ext3 or ext4, in a partition or bare. */
export const IMAGE_KINDS = ["boot", "payload", "disk"] as const;
export type ImageKind = (typeof IMAGE_KINDS)[number];
/** An image whose files lie in it one behind the other. */
export type LinearKind = Exclude<ImageKind, "disk">;

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

/** What {@link verifyImage} found. */
export interface ImageReport {
  readonly kind: LinearKind;
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

/** What is known of a bundle without reading it whole. */
export interface BundleStructure {
  readonly kind: "bundle";
  readonly files: number;
  readonly directories: number;
  readonly fileBytes: number;
  readonly sizeBytes: number;
}

/** An entry of a file system. */
export interface NodeEntry {
  readonly kind: "file" | "directory" | "symlink" | "device" | "fifo" | "socket";
  /** From the root of the file system, beginning with a slash. */
  readonly path: string;
  readonly size: number;
  /** Offset of the first byte of the content; absent where none is stored. */
  readonly dataOffset?: number;
  readonly inode: number;
  /** Permissions with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Time of change in seconds. */
  readonly mtime: number;
  readonly links: number;
  /** Where a symbolic link leads. */
  readonly target?: string;
}

export type ViewEntry = ImageEntry | NodeEntry;

/** What a check of a disk found. */
export interface DiskReport {
  readonly kind: "disk";
  readonly fileSystem: "ext2" | "ext3" | "ext4";
  /** Offset of the file system, and its partition where it has one. */
  readonly startOffset: number;
  readonly partition?: number;
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  /** Devices, fifos and sockets. */
  readonly others: number;
  readonly fileBytes: number;
  /** Offset behind the file system. */
  readonly endOffset: number;
  readonly sizeBytes: number;
}

/** What can be looked into: images, and bundles. */
export const VIEW_KINDS = [...IMAGE_KINDS, "bundle"] as const;
export type ViewKind = (typeof VIEW_KINDS)[number];

/** An image that was opened. */
export interface ImageView {
  readonly kind: ViewKind;
  readonly source: ByteSource;
  /** What its reader has to know, as sentences without a period. */
  readonly warnings: readonly string[];
  /**
   * What it holds, a directory ahead of its content, in an order that depends on it alone.
   *
   * @param under Path of a directory in the form of {@link plainPath}: only what lies in it.
   */
  entries(under?: string): Generator<ViewEntry, void, undefined>;
  /**
   * Content of a file, in parts that are valid until the next one; of everything else nothing.
   *
   * @throws {UserError} "format"
   */
  read(entry: ViewEntry): Generator<Uint8Array, void, undefined>;
  /** The entry at a path in the form of {@link plainPath}; the last one of several. */
  find(path: string): ViewEntry | undefined;
  /**
   * Checks its structure.
   *
   * @throws {UserError} "format" with the offset of the fault.
   */
  verify(): ImageReport | DiskReport | BundleStructure;
}

/** A path without `./` or slashes ahead: the same for an entry of every kind of image. */
export function plainPath(path: string): string {
  return path.replace(/^(?:\.?\/+)+/, "").replace(/^\.$/, "");
}
