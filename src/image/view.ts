// SPDX-License-Identifier: MIT
/**
 * One way to look into images of every kind: what the commands work on. Another kind is one more
 * module that gives an {@link ImageView}, and a line in {@link openView}.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import { bytesOf, type ByteSource } from "../format/reader.ts";
import { MIB } from "../format/segment.ts";
import { beginsLikeBundle, type BundleStructure, openBundleView } from "./bundle_view.ts";
import { openDisk } from "./disk.ts";
import {
  detectImage,
  IMAGE_KINDS,
  type ImageEntry,
  type ImageReport,
  type LinearKind,
  readImage,
  verifyImage,
} from "./image.ts";

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

/**
 * Looks into an image.
 *
 * @param kind What to take it for; found out where absent.
 * @throws {UserError} "format" for what is no image.
 */
export function openView(
  source: ByteSource & { readonly isDevice?: boolean },
  kind: ViewKind = beginsLikeBundle(source) ? "bundle" : detectImage(source),
): ImageView {
  switch (kind) {
    case "bundle":
      return openBundleView(source);
    case "disk":
      return openDisk(source);
    default:
      return linearView(source, kind);
  }
}

function linearView(
  source: ByteSource & { readonly isDevice?: boolean },
  kind: LinearKind,
): ImageView {
  function* entries(under?: string): Generator<ImageEntry, void, undefined> {
    for (const entry of readImage(source, kind)) {
      if (under === undefined || plainPath(entry.path).startsWith(`${under}/`)) yield entry;
    }
  }
  return {
    kind,
    source,
    warnings: [],
    entries,
    *read(entry) {
      if (entry.kind === "file" && entry.dataOffset !== undefined) {
        yield* bytesOf(source, entry.dataOffset, entry.size);
      }
    },
    find(path) {
      let found: ImageEntry | undefined;
      for (const entry of entries()) {
        if (entry.kind !== "command" && plainPath(entry.path) === path) found = entry;
      }
      return found;
    },
    verify() {
      if (!source.isDevice) return verifyImage(source, kind);
      // Behind the image lies what the device held before; an image is a whole number of MiB.
      const walk = readImage(source, kind);
      let step = walk.next();
      while (!step.done) step = walk.next();
      const end = Math.min(source.size, Math.ceil(step.value / MIB) * MIB);
      return verifyImage(firstBytes(source, end), kind);
    },
  };
}

/** The beginning of a source as a source. */
export function firstBytes(source: ByteSource, size: number): ByteSource {
  return {
    name: source.name,
    size,
    read: (offset, into) =>
      source.read(offset, into.subarray(0, Math.max(0, Math.min(into.length, size - offset)))),
  };
}

/** A path without `./` or slashes ahead: the same for an entry of every kind of image. */
export function plainPath(path: string): string {
  return path.replace(/^(?:\.?\/+)+/, "").replace(/^\.$/, "");
}

/**
 * Finds an entry.
 *
 * @param path As `image ls` prints it; `./` or a slash ahead may be left out.
 * @throws {UserError} "usage" where it is not there.
 */
export function findEntry(view: ImageView, path: string): ViewEntry {
  const plain = plainPath(path);
  const found = plain === "" ? undefined : view.find(plain);
  if (found !== undefined) return found;
  throw new UserError("usage", `Cannot find ${JSON.stringify(path)} in ${view.source.name}`, {
    hint: `seedstrap image ls ${view.source.name} lists what is there`,
  });
}

/** SHA-256 of the content of a file. */
export function digestEntry(view: ImageView, entry: ViewEntry): string {
  const hash = createHash("sha256");
  for (const part of view.read(entry)) hash.update(part);
  return hash.digest("hex");
}
