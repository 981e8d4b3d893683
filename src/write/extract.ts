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
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { isZero } from "../bytes.ts";
import { systemCode, throwIfInterrupted, UserError } from "../errors.ts";
import { settle, writeAll } from "../hash/piece.ts";
import { digestEach, type HashTask, type NewFilePlace } from "../hash/pool.ts";
import { contentTask } from "../image/digests.ts";
import { plainPath, type ReadView, type ViewEntry } from "../image/types.ts";
import { shellQuote } from "../launch/process.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { writing } from "../refused.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { underUmask } from "../runtime/umask.ts";

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
  /**
   * Told how much there is to extract, and what the threads read of that; what is read in this one,
   * the view tells.
   */
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
  const { progress = UNWATCHED, signal } = options;
  const digestOptions = { onBytes: (bytes: number) => progress.add(bytes), signal };
  for await (const sha256 of digestEach(writer.tasks(), digestOptions)) writer.settle(sha256);
  return writer.finish();
}

/** A file; of a boot image it may be empty. */
type FileEntry = Extract<ViewEntry, { readonly size: number }>;

class Extraction {
  readonly #view: ReadView;
  readonly #dir: string;
  readonly #options: ExtractOptions;
  readonly #paths: readonly string[];
  readonly #found = new Set<string>();
  readonly #inner: ReadonlySet<string>;
  /** Offset of the last file of each path of a boot image. */
  readonly #last: ReadonlyMap<string, number>;
  /** Modes of the directories that were made, by path. */
  readonly #directories = new Map<string, number>();
  /** What is done when a thread is done with a file, in order; undefined for what was made here. */
  readonly #unsettled: ((sha256: string | undefined) => void)[] = [];
  /** Paths of what is made by then. */
  readonly #coming = new Set<string>();
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
    this.#last = view.kind === "boot" ? this.#lastFiles() : new Map();
  }

  #lastFiles(): Map<string, number> {
    const last = new Map<string, number>();
    for (const entry of this.#view.entries()) {
      const path = plainPath(entry.path);
      if (this.#isFile(entry, path)) last.set(path, entry.dataOffset!);
    }
    return last;
  }

  /** Reports whether an entry is a file; of a boot image it may be an empty one. */
  #isFile(entry: ViewEntry, path: string): entry is FileEntry {
    if (entry.kind !== "empty") return entry.kind === "file";
    return path !== "" && !this.#inner.has(path) && this.#options.emptyFiles?.has(path) !== false;
  }

  wants(entry: ViewEntry): boolean {
    if (entry.kind === "command") return false;
    const plain = this.#plain(entry.path);
    // In builder-hex0 the last file of a path wins.
    const last = this.#isFile(entry, plain) ? this.#last.get(plain) : undefined;
    if (last !== undefined && last !== entry.dataOffset) return false;
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

  /** Makes everything except contents that threads can read: these are tasks, in order. */
  async *tasks(): AsyncGenerator<HashTask | undefined, void, undefined> {
    for (const entry of this.#view.entries(this.#options.under)) {
      if (!this.wants(entry)) continue;
      const count = this.#unsettled.length;
      const task = await this.#add(entry);
      if (this.#unsettled.length === count) this.#unsettled.push(() => {});
      yield task;
      await this.#pause();
    }
  }

  /** Does what comes after the content of a file, or nothing; called once for each task in order. */
  settle(sha256: string | undefined): void {
    this.#unsettled.shift()!(sha256);
  }

  async #add(entry: ViewEntry): Promise<HashTask | undefined> {
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
      case "file":
        if (!this.#isFile(entry, path)) return this.#makeDirectory(path);
        return await this.#putFile(entry, path);
      case "symlink":
        if (this.#options.skipsLinks) return this.#skip(entry, "it is a symbolic link");
        if (!entry.target!.isWellFormed()) return this.#skip(entry, "its target is not UTF-8");
        this.#makeParents(entry, path);
        this.#make(entry, path, (place) => symlinkSync(entry.target!, place));
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

  #makeDirectory(path: string, mode = 0o755): undefined {
    if (path === "") return;
    if (this.#directories.has(path)) {
      this.#directories.set(path, mode % 0o1000);
      return;
    }
    this.#makeParents({ path }, path);
    this.#make({ path }, path, (place) => mkdirSync(place, { mode: 0o700 }));
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
      this.#make(entry, parent, (place) => mkdirSync(place, { mode: 0o700 }));
      this.#directories.set(parent, 0o755);
    }
  }

  async #putFile(entry: FileEntry, path: string): Promise<HashTask | undefined> {
    this.#makeParents(entry, path);
    const inode = "inode" in entry && entry.links > 1 ? entry.inode : undefined;
    const known = inode === undefined ? undefined : this.#linked.get(inode);
    this.#count.files++;
    if (known !== undefined) {
      this.#whenThere(known, entry, path);
      return;
    }
    if (inode !== undefined) this.#linked.set(inode, path);
    this.#count.bytes += entry.size;
    const { isDurable = false } = this.#options;
    const mode = underUmask("mode" in entry ? entry.mode % 0o1000 : 0o644);
    const to: NewFilePlace = {
      kind: "file",
      path: join(this.#dir, path),
      mode,
      isSynced: isDurable,
    };
    const content = contentTask(this.#view, entry);
    if (content === undefined) {
      const sha256 = await this.#copy(entry, path, to);
      this.#isMade(entry, path, isDurable ? sha256 : undefined);
      return;
    }
    this.#later(entry, path, (sha256) => this.#isMade(entry, path, isDurable ? sha256 : undefined));
    return { ...content, to, ...(!isDurable && { isUnhashed: true }) };
  }

  /** Makes a hard link, as soon as the file is there. */
  #whenThere(known: string, entry: FileEntry, path: string): void {
    const link = () => {
      this.#make(entry, path, (place) => linkSync(join(this.#dir, known), place));
      const digest = this.#digests.get(known);
      if (digest !== undefined) this.#digests.set(path, digest);
    };
    if (this.#coming.has(known)) this.#later(entry, path, link);
    else link();
  }

  /** Remembers what to do when all tasks before have been done: then the path is there. */
  #later(entry: FileEntry, path: string, run: (sha256: string | undefined) => void): void {
    this.#make(entry, path, (place) => {
      // It is made only later, and what it conflicts with has come first.
      if (lstatIfThere(place) !== undefined) throw this.#conflict(entry);
    });
    this.#coming.add(path);
    this.#unsettled.push((sha256) => {
      this.#coming.delete(path);
      run(sha256);
    });
  }

  /** Copies the content of a file in this thread. */
  async #copy(entry: FileEntry, path: string, to: NewFilePlace): Promise<string> {
    const file = this.#make(entry, path, (place) => openSync(place, "wx", 0o600));
    const hash = createHash("sha256");
    let size = 0;
    try {
      for (const part of this.#view.read(entry)) {
        if (to.isSynced) hash.update(part);
        if (!isZero(part)) writing(this.#dir, () => writeAll(file, part, size));
        size += part.length;
        await this.#pause();
      }
      writing(this.#dir, () => {
        ftruncateSync(file, size);
        settle(file, to);
      });
    } finally {
      closeSync(file);
    }
    return hash.digest("hex");
  }

  /** The content of a file is there. */
  #isMade(entry: FileEntry, path: string, sha256: string | undefined): void {
    if ("mtime" in entry) {
      writing(this.#dir, () => utimesSync(join(this.#dir, path), entry.mtime, entry.mtime));
    }
    if (sha256 !== undefined) this.#digests.set(path, { sha256, size: entry.size });
  }

  /** Signals are only seen between two tasks. */
  async #pause(): Promise<void> {
    await setImmediate();
    throwIfInterrupted(this.#options.signal);
  }

  /** Makes something that must not exist: a duplicate name is damage, or an attack. */
  #make<T>(entry: Pick<ViewEntry, "path">, path: string, make: (place: string) => T): T {
    if (this.#coming.has(path)) throw this.#conflict(entry);
    return writing(this.#dir, () => {
      try {
        return make(join(this.#dir, path));
      } catch (error) {
        if (systemCode(error) === "EEXIST") throw this.#conflict(entry);
        throw error;
      }
    });
  }

  #skip({ path }: ViewEntry, why: string): undefined {
    this.#skipped.push({ path, why });
  }

  #conflict(entry: Pick<ViewEntry, "path">): UserError {
    return this.#refusal(entry, "it conflicts with an entry before it");
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
