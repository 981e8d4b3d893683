// SPDX-License-Identifier: MIT
/**
 * Extracts files of an image.
 *
 * An image may be hostile: a path could lead out of the directory, or through a link that the image
 * has before it. So files are only written into directories that were made here, under new names,
 * and nothing that exists is followed or replaced. Owners are not restored, nor setuid, setgid and
 * sticky; devices, fifos and sockets are skipped.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { isZero } from "../bytes.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import type { Progress } from "../progress.ts";
import { underUmask } from "../runtime/umask.ts";
import { writing } from "../refused.ts";
import { plainPath, type ReadView, type ViewEntry } from "../image/types.ts";
import { writeAll } from "../hash/piece.ts";

export interface ExtractOptions {
  /** Extracts only entries at or below these paths, see {@link plainPath}; all where absent. */
  readonly paths?: readonly string[];
  /** Extracts only the content of this directory, see {@link plainPath}, without its path. */
  readonly under?: string;
  /** Reports whether an entry is left out. */
  readonly except?: (path: string) => boolean;
  /** Paths of the "empty" entries of a boot image that are files; the others are directories. */
  readonly emptyFiles?: ReadonlySet<string>;
  /** Whether symbolic links are skipped: where it may lead is nothing of the image. */
  readonly skipsLinks?: boolean;
  /** Syncs every file, and computes its digest. */
  readonly isDurable?: boolean;
  /** Told how much there is to extract; what is done is for the view to tell. */
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** What {@link extract} did. */
export interface Extracted {
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly bytes: number;
  /** SHA-256 and size of each regular file by its path in the directory; only if `isDurable`. */
  readonly digests: ReadonlyMap<string, { readonly sha256: string; readonly size: number }>;
  /** The entries that were skipped, and the reasons, such as "it is a fifo". */
  readonly skipped: readonly { readonly path: string; readonly why: string }[];
}

/**
 * Extracts an image into an empty directory that no other process writes to.
 *
 * @throws {UserError} "format" for a path that leads out of the directory or a duplicate name,
 * "usage" for a path that the image does not have, "target" for a failed write, "interrupt" when
 * the signal is raised.
 */
export async function extract(
  view: ReadView,
  dir: string,
  options: ExtractOptions = {},
): Promise<Extracted> {
  const writer = new Extraction(view, dir, options);
  if (options.progress !== undefined) {
    options.progress.begin("looking");
    options.progress.begin("extracting", writer.countBytes());
  }
  for (const entry of view.entries(options.under)) {
    if (writer.wants(entry)) await writer.add(entry);
  }
  return writer.finish();
}

class Extraction {
  readonly #view: ReadView;
  readonly #dir: string;
  readonly #options: ExtractOptions;
  readonly #paths: readonly string[];
  readonly #found = new Set<string>();
  readonly #inner: ReadonlySet<string>;
  /** Modes of the directories that were made, by path. */
  readonly #directories = new Map<string, number>();
  /** Paths of the files of a boot image that were made. */
  readonly #files = new Set<string>();
  /** Paths of the files that have hard links, by inode. */
  readonly #linked = new Map<number, string>();
  readonly #skipped: { path: string; why: string }[] = [];
  readonly #digests = new Map<string, { sha256: string; size: number }>();
  readonly #count = { files: 0, symlinks: 0, bytes: 0 };

  constructor(view: ReadView, dir: string, options: ExtractOptions) {
    this.#view = view;
    this.#dir = dir;
    this.#options = options;
    this.#paths = (options.paths ?? []).map(plainPath);
    this.#inner = view.kind === "boot" ? innerPaths(view) : new Set();
  }

  wants({ path, kind }: ViewEntry): boolean {
    if (kind === "command") return false;
    const plain = this.#plain(path);
    if (this.#options.except?.(plain)) return false;
    if (this.#paths.length === 0) return true;
    const wanted = this.#paths.find((wanted) =>
      wanted === "" || plain === wanted || plain.startsWith(`${wanted}/`)
    );
    if (wanted === undefined) return false;
    this.#found.add(wanted);
    return true;
  }

  /** Size of the content of all that will be extracted; of hard links once. */
  countBytes(): number {
    const inodes = new Set<number>();
    let bytes = 0;
    for (const entry of this.#view.entries(this.#options.under)) {
      if (entry.kind !== "file" || !this.wants(entry)) continue;
      if ("inode" in entry && entry.links > 1) {
        if (inodes.has(entry.inode)) continue;
        inodes.add(entry.inode);
      }
      bytes += entry.size;
    }
    return bytes;
  }

  async add(entry: ViewEntry): Promise<void> {
    const path = this.#plain(entry.path);
    const parts = path.split("/");
    if (parts.some((part) => part === "." || part === "..") || path.includes("\0")) {
      throw this.#refusal(entry, "it leads out of the directory");
    }
    if (!path.isWellFormed()) return this.#skip(entry, "its name is not UTF-8");
    switch (entry.kind) {
      case "directory":
        return this.#makeDirectory(path, entry.mode);
      case "empty":
        if (path === "" || this.#inner.has(path)) return this.#makeDirectory(path);
        if (this.#options.emptyFiles?.has(path) === false) return this.#makeDirectory(path);
        return await this.#putFile(entry, path);
      case "file":
        return await this.#putFile(entry, path);
      case "symlink":
        if (this.#options.skipsLinks) return this.#skip(entry, "it is a symbolic link");
        if (!entry.target!.isWellFormed()) return this.#skip(entry, "its target is not UTF-8");
        this.#makeParents(entry, path);
        this.#make(entry, () => symlinkSync(entry.target!, join(this.#dir, path)));
        this.#count.symlinks++;
        return;
      default:
        return this.#skip(entry, `it is a ${entry.kind}`);
    }
  }

  finish(): Extracted {
    const missing = this.#paths.find((path) => !this.#found.has(path));
    if (missing !== undefined) {
      throw new UserError(
        "usage",
        `Cannot find ${JSON.stringify(missing)} in ${this.#view.source.name}`,
        {
          hint: `${
            shellQuote(["seedstrap", "image", "ls", this.#view.source.name])
          } lists what is there`,
        },
      );
    }
    // Inner ones first: the mode of an outer one may deny access.
    for (const [path, mode] of [...this.#directories].reverse()) {
      if (path !== "") writing(this.#dir, () => chmodSync(join(this.#dir, path), underUmask(mode)));
    }
    return {
      ...this.#count,
      directories: [...this.#directories.keys()].filter((path) => path !== "").length,
      digests: this.#digests,
      skipped: this.#skipped,
    };
  }

  #plain(path: string): string {
    const plain = plainPath(path);
    const { under } = this.#options;
    return under === undefined ? plain : plain.slice(under.length + 1);
  }

  #makeDirectory(path: string, mode = 0o755): void {
    if (path === "") return;
    if (this.#directories.has(path)) {
      this.#directories.set(path, mode % 0o1000);
      return;
    }
    this.#makeParents({ path }, path);
    this.#make({ path }, () => mkdirSync(join(this.#dir, path), { mode: 0o700 }));
    this.#directories.set(path, mode % 0o1000);
  }

  /** Makes missing parents: a boot image may lack a directory before its content. */
  #makeParents(entry: Pick<ViewEntry, "path">, path: string): void {
    const parts = path.split("/").slice(0, -1);
    if (parts.includes("")) throw this.#refusal(entry, "a part of its path is empty");
    let parent = "";
    for (const part of parts) {
      parent = parent === "" ? part : `${parent}/${part}`;
      if (this.#directories.has(parent)) continue;
      this.#make(entry, () => mkdirSync(join(this.#dir, parent), { mode: 0o700 }));
      this.#directories.set(parent, 0o755);
    }
  }

  async #putFile(entry: ViewEntry, path: string): Promise<void> {
    this.#makeParents(entry, path);
    const place = join(this.#dir, path);
    const known = "inode" in entry && entry.links > 1 ? this.#linked.get(entry.inode) : undefined;
    if (known !== undefined) {
      this.#make(entry, () => linkSync(join(this.#dir, known), place));
      const digest = this.#digests.get(known);
      if (digest !== undefined) this.#digests.set(path, digest);
      this.#count.files++;
      return;
    }
    // In builder-hex0 the last file of a path wins.
    if (this.#view.kind === "boot" && this.#files.has(path)) {
      writing(this.#dir, () => unlinkSync(place));
      this.#count.files--;
    }
    const file = this.#make(entry, () => openSync(place, "wx", 0o600));
    const hash = this.#options.isDurable ? createHash("sha256") : undefined;
    let size = 0;
    try {
      for (const part of this.#view.read(entry)) {
        hash?.update(part);
        if (!isZero(part)) writing(this.#dir, () => writeAll(file, part, size));
        size += part.length;
        await this.#pause();
      }
      writing(this.#dir, () => {
        ftruncateSync(file, size);
        if (this.#options.isDurable) fsyncSync(file);
      });
    } finally {
      closeSync(file);
    }
    const mode = "mode" in entry ? entry.mode % 0o1000 : 0o644;
    writing(this.#dir, () => {
      if ("mtime" in entry) utimesSync(place, entry.mtime, entry.mtime);
      chmodSync(place, underUmask(mode));
    });
    if (hash !== undefined) this.#digests.set(path, { sha256: hash.digest("hex"), size });
    if (this.#view.kind === "boot") this.#files.add(path);
    if ("inode" in entry && entry.links > 1) this.#linked.set(entry.inode, path);
    this.#count.files++;
    this.#count.bytes += size;
    await this.#pause();
  }

  /** Signals are only seen between two tasks. */
  async #pause(): Promise<void> {
    await setImmediate();
    throwIfInterrupted(this.#options.signal);
  }

  /** Makes something that must not exist: a duplicate name is damage, or an attack. */
  #make<T>(entry: Pick<ViewEntry, "path">, make: () => T): T {
    return writing(this.#dir, () => {
      try {
        return make();
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "EEXIST") {
          throw this.#refusal(entry, "it conflicts with an entry before it");
        }
        throw error;
      }
    });
  }

  #skip({ path }: ViewEntry, why: string): void {
    this.#skipped.push({ path, why });
  }

  #refusal({ path }: Pick<ViewEntry, "path">, why: string): UserError {
    return new UserError("format", `Cannot extract ${JSON.stringify(path)}: ${why}`, {
      where: this.#view.source.name,
      hint: "The image is damaged or malicious: nothing of it was kept",
    });
  }
}

/** Returns the empty entries of a boot image that are directories: a path or a command is below. */
function innerPaths(view: ReadView): Set<string> {
  const empty: string[] = [];
  const all: string[] = [];
  for (const { kind, path } of view.entries()) {
    const paths = kind === "command" ? path.split(" ") : [path];
    all.push(...paths.map(plainPath));
    if (kind === "empty") empty.push(plainPath(path));
  }
  all.sort();
  return new Set(empty.filter((path) => {
    const start = `${path}/`;
    let [low, high] = [0, all.length];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (all[middle]! < start) low = middle + 1;
      else high = middle;
    }
    return all[low]?.startsWith(start) === true;
  }));
}
