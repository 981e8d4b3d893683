// SPDX-License-Identifier: MIT
/**
 * The root of a bootstrap that is a directory, read as the file system of a disk is.
 *
 * It may be hostile: no link in it is followed, and a file is read only if what is opened is what
 * was found. What is mounted below it, and the content of dev, proc and sys, is not of it.
 *
 * @module
 */

import { lstatSync, readdirSync, readlinkSync, readSync, realpathSync, type Stats } from "node:fs";
import { join } from "node:path";
import { compareBytes } from "../bytes.ts";
import { decodeName } from "../format/ext.ts";
import { type FileSegment, fileSegment } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { changedFile, openRun } from "../source/run.ts";
import type { NodeEntry, ReadView, ViewEntry } from "./types.ts";

/** Directories whose content a kernel makes, or a bootstrap for its time. */
const KERNEL_DIRS: readonly string[] = ["/dev", "/proc", "/sys"];
const READ_BYTES = 1024 * 1024;

/** A view of a directory. */
export interface DirectoryView extends ReadView {
  entries(under?: string): Generator<NodeEntry, void, undefined>;
  /** The owner of the directory itself: in a sandbox of that user, root. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Returns the path of an entry on this machine, and what was found there. */
  located(entry: NodeEntry): { readonly path: string; readonly stat: Stats };
}

/**
 * Opens a directory as a view. A directory comes before its content, names in bytewise order.
 *
 * @throws {UserError} "target" where it cannot be read; so do its methods.
 */
export function openDirectoryView(dir: string): DirectoryView {
  const root = reading(dir, () => realpathSync(dir));
  const mounts = new Set(mountsBelow(root));
  const found = new WeakMap<NodeEntry, Stats>();
  const pathOf = (plain: string) => join(root, plain);
  const { uid, gid } = reading(root, () => lstatSync(root));
  const owner = { uid, gid };
  const statOf = (plain: string) => reading(pathOf(plain), () => lstatSync(pathOf(plain)));

  const isForeign = (plain: string) =>
    KERNEL_DIRS.includes(`/${plain}`) || (plain !== "" && mounts.has(pathOf(plain)));

  function entryAt(plain: string, stat: Stats): NodeEntry {
    const kind = kindOf(stat);
    // Mode and owner of a mount are not those of the directory under it.
    const { mode, uid, gid } = isForeign(plain) ? { ...owner, mode: 0o755 } : stat;
    const path = pathOf(plain);
    const entry: NodeEntry = {
      kind,
      path: `/${plain}`,
      size: kind === "file" ? stat.size : 0,
      inode: stat.ino,
      mode: mode & 0o7777,
      uid,
      gid,
      mtime: Math.floor(stat.mtimeMs / 1000),
      links: stat.nlink,
      ...(kind === "symlink" && {
        target: reading(path, () => decodeName(readlinkSync(path, { encoding: "buffer" }))),
      }),
    };
    found.set(entry, stat);
    return entry;
  }

  function* below(plain: string): Generator<NodeEntry, void, undefined> {
    if (isForeign(plain)) return;
    const names = reading(pathOf(plain), () => readdirSync(pathOf(plain), { encoding: "buffer" }));
    for (const bytes of names.sort(compareBytes)) {
      const name = decodeName(bytes);
      const inner = plain === "" ? name : `${plain}/${name}`;
      // Names that are not UTF-8 cannot be opened by a string: such an entry is only named.
      if (!name.isWellFormed()) {
        yield { ...entryAt(plain, statOf(plain)), kind: "fifo", path: `/${inner}`, size: 0 };
        continue;
      }
      const entry = entryAt(inner, statOf(inner));
      yield entry;
      if (entry.kind === "directory") yield* below(inner);
    }
  }

  function find(plain: string): NodeEntry | undefined {
    const parts = plain.split("/");
    for (let depth = 1; depth <= parts.length; depth++) {
      const path = parts.slice(0, depth).join("/");
      const stat = reading(pathOf(path), () => lstatSync(pathOf(path), { throwIfNoEntry: false }));
      if (stat === undefined) return undefined;
      if (depth === parts.length) return entryAt(path, stat);
      // A link would lead elsewhere.
      if (!stat.isDirectory()) return undefined;
    }
    return undefined;
  }

  function fileOf(entry: ViewEntry): FileSegment {
    const { size: sizeBytes, dev, ino } = found.get(entry as NodeEntry)!;
    return fileSegment({ path: pathOf(entry.path.slice(1)), sizeBytes, identity: { dev, ino } });
  }

  return {
    // Its entries are those of a file system.
    kind: "disk",
    source: { name: dir, sizeBytes: 0, read: () => 0 },
    warnings: [],
    owner,
    located: (entry) => ({ path: pathOf(entry.path.slice(1)), stat: found.get(entry)! }),
    entries: (under = "") => below(under),
    find,
    fileOf,
    *read(entry) {
      if (entry.kind !== "file") return;
      const segment = fileOf(entry);
      const { path, sizeBytes } = segment;
      const { file, close } = openRun(segment, segment, "target");
      try {
        const buffer = new Uint8Array(Math.min(sizeBytes, READ_BYTES));
        for (let done = 0; done < sizeBytes;) {
          const most = Math.min(sizeBytes - done, buffer.length);
          const got = reading(path, () => readSync(file, buffer, 0, most, null));
          if (got === 0) throw changedFile(segment, `it ends after ${done} bytes`, "target");
          done += got;
          yield buffer.subarray(0, got);
        }
      } finally {
        close();
      }
    },
  };
}

function kindOf(stat: Stats): NodeEntry["kind"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  return stat.isSocket() ? "socket" : "device";
}
