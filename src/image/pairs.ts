// SPDX-License-Identifier: MIT
/**
 * The entries of two images by path, in little memory: an image may hold millions. Of an
 * entry only what is compared is kept, in typed arrays.
 *
 * @module
 */

import { sha256Of } from "../bytes.ts";
import { formatError } from "../format/reader.ts";
import { digestEntries, type EntryOptions } from "./digests.ts";
import { PathNumbers } from "./paths.ts";
import { type ImageView, plainPath, type ViewEntry } from "./types.ts";

/** Most paths that are compared: some 200 bytes of memory each. live-bootstrap has some 100,000. */
const MAX_PATHS = 4_000_000;

const KINDS = ["file", "empty", "command", "directory", "symlink", "device", "fifo", "socket"];
type Kind = ViewEntry["kind"];

/** The digest of what has no content. */
const NO_CONTENT = sha256Of(new Uint8Array());

/** What is compared of an entry. */
export interface Compared {
  readonly kind: Kind;
  /** 0 for a command. */
  readonly size: number;
  readonly mode?: number;
  readonly target?: string;
}

/** One of the two images. */
export type Side = 0 | 1;

/** The entries of two images: every path has a number, in the order in which they first came. */
export class Pairs {
  readonly #views: readonly [ImageView, ImageView];
  /** A command begins with a NUL here, as no path does. */
  readonly #paths = new PathNumbers();
  readonly #rows = [new Rows(), new Rows()] as const;

  /**
   * Reads both images; of several entries with one path the last one counts, the root is none.
   *
   * @throws {UserError} "format", also for more paths than are compared.
   */
  constructor(a: ImageView, b: ImageView) {
    this.#views = [a, b];
    for (const side of [0, 1] as const) {
      const view = this.#views[side];
      for (const entry of view.entries()) {
        const key = entry.kind === "command" ? `\0${entry.path}` : plainPath(entry.path);
        if (key === "") continue;
        this.#rows[side].set(this.#paths.add(key), entry);
        if (this.#paths.count > MAX_PATHS) {
          throw formatError(view.source, 0, `more than ${MAX_PATHS} paths to compare`);
        }
      }
    }
  }

  /** How many paths there are; their numbers are from 0 on. */
  get count(): number {
    return this.#paths.count;
  }

  has(side: Side, number: number): boolean {
    return this.#rows[side].has(number);
  }

  /** The entry of a path that the image has. */
  get(side: Side, number: number): Compared {
    return this.#rows[side].get(number);
  }

  /** A path as `plainPath()` gives it; a command stands for itself. */
  path(number: number): string {
    const key = this.#paths.path(number);
    return key.startsWith("\0") ? key.slice(1) : key;
  }

  /** Content of a file, in parts that are valid until the next one; of everything else nothing. */
  *read(side: Side, number: number): Generator<Uint8Array, void, undefined> {
    if (this.get(side, number).kind === "file") {
      yield* this.#views[side].read(this.#entry(side, number));
    }
  }

  /**
   * Computes the digests of the contents of paths that an image has; only a file has one.
   *
   * @returns The digests in the order of the numbers.
   */
  async *digests(
    side: Side,
    numbers: Iterable<number>,
    options: EntryOptions,
  ): AsyncGenerator<string, void, undefined> {
    const entries = function* (this: Pairs) {
      for (const number of numbers) yield this.#entry(side, number);
    };
    for await (const [, sha256] of digestEntries(this.#views[side], entries.call(this), options)) {
      yield sha256 ?? NO_CONTENT;
    }
  }

  /** As much of an entry as its reader needs. */
  #entry(side: Side, number: number): ViewEntry {
    const { kind, size } = this.get(side, number);
    const path = this.path(number);
    if (kind === "command") return { kind, path, offset: 0 };
    const place = this.#rows[side].placeOf(number);
    if (kind === "empty") return { kind, path, size, ...place };
    return { kind, path, size, ...place, mode: 0, uid: 0, gid: 0, mtime: 0, links: 1 };
  }
}

/** Rows of a page: pages are added, and never copied. */
const PAGE_ROWS = 16 * 1024;

/** What is kept of that many entries. */
class Page {
  readonly kinds = new Uint8Array(PAGE_ROWS);
  readonly modes = new Int32Array(PAGE_ROWS);
  readonly inodes = new Float64Array(PAGE_ROWS);
  readonly sizes = new Float64Array(PAGE_ROWS);
  readonly offsets = new Float64Array(PAGE_ROWS);
}

/** The entries of one image by number. */
class Rows {
  readonly #pages: Page[] = [];
  readonly #targets = new Map<number, string>();

  set(number: number, entry: ViewEntry): void {
    const [index, row] = [Math.floor(number / PAGE_ROWS), number % PAGE_ROWS];
    while (index >= this.#pages.length) this.#pages.push(new Page());
    const page = this.#pages[index]!;
    page.kinds[row] = 1 + KINDS.indexOf(entry.kind);
    page.sizes[row] = entry.kind === "command" ? 0 : entry.size;
    page.modes[row] = "mode" in entry ? entry.mode : -1;
    page.inodes[row] = "inode" in entry ? entry.inode : -1;
    page.offsets[row] = "dataOffset" in entry ? entry.dataOffset ?? -1 : -1;
    if ("target" in entry && entry.target !== undefined) this.#targets.set(number, entry.target);
    else this.#targets.delete(number);
  }

  has(number: number): boolean {
    const page = this.#pages[Math.floor(number / PAGE_ROWS)];
    return page !== undefined && page.kinds[number % PAGE_ROWS]! > 0;
  }

  get(number: number): Compared {
    const [page, row] = this.#at(number);
    const mode = page.modes[row]!;
    const target = this.#targets.get(number);
    return {
      kind: KINDS[page.kinds[row]! - 1] as Kind,
      size: page.sizes[row]!,
      ...(mode >= 0 && { mode }),
      ...(target !== undefined && { target }),
    };
  }

  placeOf(number: number): { readonly dataOffset: number; readonly inode: number } {
    const [page, row] = this.#at(number);
    return { dataOffset: page.offsets[row]!, inode: page.inodes[row]! };
  }

  #at(number: number): readonly [page: Page, row: number] {
    return [this.#pages[Math.floor(number / PAGE_ROWS)]!, number % PAGE_ROWS];
  }
}
