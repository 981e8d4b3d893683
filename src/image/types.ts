// SPDX-License-Identifier: MIT
/**
 * The kinds of images and of their entries.
 *
 * @module
 */

import type { ByteSource } from "../format/reader.ts";
import type { FileRun, FileSegment } from "../format/segment.ts";

/**
 * The kinds of images; "disk" has an ext2, ext3 or ext4, in a partition or bare, and "container" is
 * one that podman and docker load.
 */
export const IMAGE_KINDS = ["boot", "payload", "disk", "container"] as const;
export type ImageKind = (typeof IMAGE_KINDS)[number];
/** The kind of an image whose files are stored in sequence. */
export type LinearKind = Exclude<ImageKind, "disk">;

/** A file, directory or command of an image. */
export type ImageEntry =
  | {
    /** "empty" is a directory or an empty file of a boot image, where both look the same. */
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
 * Directory that the files of a payload on a boot disk have in the view of that. No path of a srcfs
 * that a build makes is below it, as those begin with `./` or a slash, and none is read that is.
 */
export const PAYLOAD_PATH = "payload";

/** Reports whether an entry of a boot image is a file of the payload on its disk. */
export function isOfPayload(path: string): boolean {
  return path.startsWith(`${PAYLOAD_PATH}/`);
}

/** The result of {@link verifyImage}. */
export interface ImageReport {
  readonly kind: LinearKind;
  /** Offset of the payload on the disk of a boot image. */
  readonly payloadOffset?: number;
  /** Layout of a payload. */
  readonly layout?: 64 | 32;
  /** Its last entry is a checksum of all bytes before, as in a preflight image, and is right. */
  readonly hasChecksum?: boolean;
  readonly files: number;
  /** Directories and links of a container are among them. */
  readonly empty: number;
  readonly commands: number;
  /** Total size of all files. */
  readonly fileBytes: number;
  /** Offset after the last entry; only zeros follow, and are between a srcfs and a payload. */
  readonly endOffset: number;
  readonly sizeBytes: number;
}

/** The content of a bundle by its index; its files are not verified. */
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
  /** Time of the last modification, in seconds since 1970. */
  readonly mtime: number;
  readonly links: number;
  /** The target of a symbolic link. */
  readonly target?: string;
}

export type ViewEntry = ImageEntry | NodeEntry;

/** The result of a check of a disk. */
export interface DiskReport {
  readonly kind: "disk";
  readonly fileSystem: "ext2" | "ext3" | "ext4";
  /** Offset of the file system. */
  readonly startOffset: number;
  /** Number of its partition, where it has one. */
  readonly partition?: number;
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  /** Devices, fifos and sockets. */
  readonly others: number;
  readonly fileBytes: number;
  /** Offset after the file system. */
  readonly endOffset: number;
  readonly sizeBytes: number;
}

/** The kinds of what can be opened as a view: images and bundles. */
export const VIEW_KINDS = [...IMAGE_KINDS, "bundle"] as const;
export type ViewKind = (typeof VIEW_KINDS)[number];

/** An open image or bundle. */
export interface ImageView {
  readonly kind: ViewKind;
  readonly source: ByteSource;
  /** Warnings for the user, as sentences without a period. */
  readonly warnings: readonly string[];
  /**
   * Yields its entries, a directory before its content, in an order that depends on the image only.
   *
   * @param under Path of a directory in the form of {@link plainPath}: only entries below it.
   */
  entries(under?: string): Generator<ViewEntry, void, undefined>;
  /**
   * Reads the content of a file, in parts that are valid until the next one; yields nothing for
   * other entries.
   *
   * @throws {UserError} "format"
   */
  read(entry: ViewEntry): Generator<Uint8Array, void, undefined>;
  /** Returns where the content of a file is in the source; undefined if only `read` finds it. */
  readonly runs?: ((file: ViewEntry) => readonly FileRun[] | undefined) | undefined;
  /** Returns the file of this machine that has the content, where each is in one of its own. */
  readonly fileOf?: ((file: ViewEntry) => FileSegment) | undefined;
  /** Finds the entry at a path in the form of {@link plainPath}; the last one of several. */
  find(path: string): ViewEntry | undefined;
  /**
   * Checks its structure.
   *
   * @throws {UserError} "format" with the offset of the fault.
   */
  verify(): ImageReport | DiskReport | BundleStructure;
}

/** What of a view its content is read by; a directory has no structure to verify. */
export type ReadView = Omit<ImageView, "verify">;

/** Returns a path without leading `./` or slashes, which depend on the kind of the image. */
export function plainPath(path: string): string {
  return path.replace(/^(?:\.?\/+)+/, "").replace(/^\.$/, "");
}
