// SPDX-License-Identifier: MIT
/**
 * Disks with an ext2, ext3 or ext4: bare, or in a partition.
 *
 * @module
 */

import { type ExtFs, type ExtInode, openExt, ROOT_INODE } from "../format/ext.ts";
import {
  extentsOf,
  type ExtRecord,
  readExtDirectory,
  readExtFile,
  readExtLink,
  readInode,
} from "../format/ext_inode.ts";
import { type ByteSource, formatError } from "../format/reader.ts";
import type { FileRun } from "../format/segment.ts";
import { findFileSystem } from "./linear.ts";
import type { DiskReport, ImageView, NodeEntry } from "./types.ts";

/** PATH_MAX without the NUL; also limits how deep directories are nested. */
const MAX_PATH = 4095;
/** Limit of names that were read and not yet visited: a hostile disk would fill the memory. */
const MAX_PENDING = 2_000_000;
/** Limit of the runs of one file that are kept in memory. */
const MAX_RUNS = 4096;

/**
 * Opens a disk as a view.
 *
 * @throws {UserError} "format"
 */
export function openDisk(source: ByteSource): ImageView {
  const found = findFileSystem(source);
  if (found === undefined) throw formatError(source, 0, "no disk with ext2, ext3 or ext4");
  const fs = openExt(source, found.baseBytes);
  return {
    kind: "disk",
    source,
    warnings: fs.needsRecovery
      ? [
        "the file system was not unmounted: changes that are only in its journal are not seen (e2fsck on a copy replays it)",
      ]
      : [],
    *entries(under) {
      const directory = under === undefined ? undefined : find(fs, under);
      if (under === undefined) yield* walk(fs);
      else if (directory?.kind === "directory") yield* walk(fs, directory.inode, directory.path);
    },
    *read(entry) {
      if (entry.kind === "file" && "inode" in entry) {
        yield* readExtFile(fs, readInode(fs, entry.inode));
      }
    },
    runs: source.runs &&
      ((entry) =>
        entry.kind === "file" && "inode" in entry ? denseRuns(fs, readInode(fs, entry.inode)) : []),
    find: (path) => find(fs, path),
    verify: () => ({ ...verify(fs), ...found.partition && { partition: found.partition } }),
  };
}

/** Returns the runs of a file; undefined if it has holes, or very many runs. */
function denseRuns(fs: ExtFs, inode: ExtInode): readonly FileRun[] | undefined {
  const { source } = fs;
  const runs: FileRun[] = [];
  let done = 0;
  for (const { atBytes, offsetBytes, sizeBytes } of extentsOf(fs, inode)) {
    const length = Math.min(sizeBytes, inode.sizeBytes - atBytes);
    // Extents past the end of the file are preallocated.
    if (length <= 0) break;
    const isCut = offsetBytes + length > source.sizeBytes;
    if (atBytes !== done || isCut || runs.length >= MAX_RUNS) return undefined;
    runs.push(...source.runs!(offsetBytes, length));
    done += length;
  }
  if (done < inode.sizeBytes) return undefined;
  fs.spend(done, inode.offsetBytes);
  return runs;
}

/** Yields the entries below a directory, depth first. */
function* walk(
  fs: ExtFs,
  top = ROOT_INODE,
  topPath = "",
): Generator<NodeEntry, void, undefined> {
  const seen = new Bitmap();
  seen.add(ROOT_INODE, 1);
  seen.add(top, 1);
  const stack = [{ path: topPath, records: recordsOf(fs, readInode(fs, top)) }];
  let pending = stack[0]!.records.length;
  for (let level = stack.at(-1); level !== undefined; level = stack.at(-1)) {
    const record = level.records.pop();
    if (record === undefined) {
      stack.pop();
      continue;
    }
    pending--;
    const path = `${level.path}/${record.name}`;
    if (path.length > MAX_PATH) {
      throw formatError(fs.source, record.offsetBytes, `a path of more than ${MAX_PATH} bytes`);
    }
    const inode = readInode(fs, record.inode, record.offsetBytes);
    yield entryOf(fs, path, inode);
    if (inode.kind !== "directory") continue;
    if (!seen.add(inode.number, 1)) {
      throw formatError(fs.source, record.offsetBytes, `directory ${inode.number} has two parents`);
    }
    const records = recordsOf(fs, inode);
    pending += records.length;
    if (pending > MAX_PENDING) {
      throw formatError(fs.source, record.offsetBytes, `more than ${MAX_PENDING} names at once`);
    }
    stack.push({ path, records });
  }
}

/** Returns the records of a directory in reverse order of their names. */
function recordsOf(fs: ExtFs, directory: ExtInode): ExtRecord[] {
  return [...readExtDirectory(fs, directory)].sort((a, b) =>
    a.name < b.name ? 1 : a.name > b.name ? -1 : b.offsetBytes - a.offsetBytes
  );
}

function entryOf(fs: ExtFs, path: string, inode: ExtInode): NodeEntry {
  const { kind, mode, uid, gid, sizeBytes: size, mtime, links } = inode;
  const first = kind === "file" ? extentsOf(fs, inode).next() : undefined;
  return {
    kind,
    path,
    size,
    ...(first?.done === false && size > 0 && { dataOffset: first.value.offsetBytes }),
    inode: inode.number,
    mode,
    uid,
    gid,
    mtime,
    links,
    ...(kind === "symlink" && { target: readExtLink(fs, inode) }),
  };
}

function find(fs: ExtFs, path: string): NodeEntry | undefined {
  let inode = readInode(fs, ROOT_INODE);
  for (const name of path.split("/")) {
    if (inode.kind !== "directory") return undefined;
    let found: ExtRecord | undefined;
    for (const record of readExtDirectory(fs, inode)) if (record.name === name) found ??= record;
    if (found === undefined) return undefined;
    inode = readInode(fs, found.inode, found.offsetBytes);
  }
  return entryOf(fs, `/${path}`, inode);
}

function verify(fs: ExtFs): DiskReport {
  const count = { files: 0, directories: 0, symlinks: 0, others: 0, fileBytes: 0 };
  const inodes = new Bitmap();
  const blocks = new Bitmap();
  for (const entry of walk(fs)) {
    switch (entry.kind) {
      case "file":
        count.files++;
        count.fileBytes += entry.size;
        break;
      case "directory":
        count.directories++;
        break;
      case "symlink":
        count.symlinks++;
        break;
      default:
        count.others++;
        continue;
    }
    const inode = readInode(fs, entry.inode);
    if (!inodes.add(inode.number, 1)) continue;
    if (entry.kind === "symlink" && inode.sizeBytes < inode.root.length) continue;
    for (const { offsetBytes, sizeBytes } of extentsOf(fs, inode)) {
      const first = (offsetBytes - fs.baseBytes) / fs.blockBytes;
      if (blocks.add(first, sizeBytes / fs.blockBytes)) continue;
      throw formatError(fs.source, offsetBytes, `a block of ${entry.path} is also in another file`);
    }
  }
  return {
    kind: "disk",
    fileSystem: fs.type,
    startOffset: fs.baseBytes,
    ...count,
    endOffset: fs.baseBytes + fs.blockCount * fs.blockBytes,
    sizeBytes: fs.source.sizeBytes,
  };
}

/** A sparse set of numbers. */
class Bitmap {
  static readonly #PAGE = 32768;
  readonly #pages = new Map<number, Uint8Array>();

  /** Adds a run of numbers, and reports whether all of them were new. */
  add(first: number, count: number): boolean {
    let areNew = true;
    for (let number = first; number < first + count; number++) {
      const index = Math.floor(number / Bitmap.#PAGE);
      let page = this.#pages.get(index);
      if (page === undefined) this.#pages.set(index, page = new Uint8Array(Bitmap.#PAGE / 8));
      const at = Math.floor(number % Bitmap.#PAGE / 8);
      const bit = 2 ** (number % 8);
      if ((page[at]! & bit) !== 0) areNew = false;
      page[at]! |= bit;
    }
    return areNew;
  }
}
