// SPDX-License-Identifier: MIT
/**
 * What a server has: a directory, files by name from anywhere, or both.
 *
 * @module
 */

import { readlinkSync } from "node:fs";
import { type FileHandle, readdir, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { sortedByBytes } from "../bytes.ts";
import { systemCode } from "../errors.ts";
import type { Finder, Found, OpenBody } from "./http_server.ts";
import { hrefOf, type IndexEntry, indexPage } from "./index_page.ts";
import { openFile } from "./store.ts";

/** A file that is served under a name. */
export interface NamedFile {
  readonly path: string;
  /** For the page that lists it. */
  readonly sizeBytes?: number | undefined;
  /** Lower-case hex; undefined where it is not known. */
  readonly sha256?: string | undefined;
}

const PAGES = /\.html?$/i;
const TEXTS = /^SHA256SUMS$|\.(?:txt|sums|json)$/i;

/**
 * Serves a directory and what is below it. Names that begin with a dot are not there, and neither is
 * what a link leads to outside of it.
 *
 * @param title Of the pages that list it.
 * @param digestOf The SHA-256 of a file, by its path below the directory, where that is known.
 */
export async function directoryFinder(
  dir: string,
  title: string,
  digestOf: (path: string) => string | undefined = () => undefined,
): Promise<Finder> {
  const root = await realpath(dir);
  return async (path) => {
    const names = path.split("/").slice(1);
    const isDirectory = names.at(-1) === "";
    if (isDirectory) names.pop();
    if (names.some((name) => !isServedName(name))) return undefined;
    const place = await realpath(join(root, ...names)).catch(missing);
    if (place === undefined || !isBelow(place, root)) return undefined;
    const found = await stat(place).catch(missing);
    if (found?.isDirectory()) {
      if (!isDirectory) return { kind: "moved", to: `${hrefOf(names.at(-1)!)}/` };
      return await listing(place, root, names, title, digestOf);
    }
    if (!found?.isFile() || isDirectory) return undefined;
    const below = names.join("/");
    return {
      kind: "file",
      sizeBytes: found.size,
      sha256: digestOf(below),
      modifiedMs: found.mtimeMs,
      type: typeOf(below),
      open: () => openBelow(place, root, found.size),
    };
  };
}

function typeOf(name: string): string | undefined {
  if (PAGES.test(name)) return "text/html; charset=utf-8";
  return TEXTS.test(name) ? "text/plain; charset=utf-8" : undefined;
}

/** Reports whether a part of a path may be served; `..` and `.` begin with a dot. */
function isServedName(name: string): boolean {
  return name !== "" && !name.startsWith(".") && !/[\0\\/]/.test(name);
}

function isBelow(place: string, root: string): boolean {
  return place === root || place.startsWith(root.endsWith(sep) ? root : root + sep);
}

function missing(error: unknown): undefined {
  if (systemCode(error) === undefined) throw error;
  return undefined;
}

/** A page of what is in a directory, or its own index.html. */
async function listing(
  place: string,
  root: string,
  names: readonly string[],
  title: string,
  digestOf: (path: string) => string | undefined,
): Promise<Found | undefined> {
  const own = join(place, "index.html");
  const ownStat = await stat(own).catch(missing);
  const ownPlace = ownStat?.isFile() ? await realpath(own).catch(missing) : undefined;
  if (ownPlace !== undefined && isBelow(ownPlace, root)) {
    const { size: sizeBytes, mtimeMs: modifiedMs } = ownStat!;
    const open = () => openBelow(ownPlace, root, sizeBytes);
    return { kind: "file", sizeBytes, modifiedMs, type: typeOf(own), open };
  }
  const entries: IndexEntry[] = [];
  for (const name of sortedByBytes(await readdir(place), (name) => name)) {
    if (!isServedName(name)) continue;
    const at = await realpath(join(place, name)).catch(missing);
    if (at === undefined || !isBelow(at, root)) continue;
    const found = await stat(at).catch(missing);
    const isDirectory = found?.isDirectory() === true;
    if (!isDirectory && found?.isFile() !== true) continue;
    entries.push({
      name,
      href: hrefOf(name) + (isDirectory ? "/" : ""),
      isDirectory,
      ...(!isDirectory && {
        sizeBytes: found!.size,
        sha256: digestOf([...names, name].join("/")),
      }),
    });
  }
  const up = names.length === 0 ? [] : [{ name: "..", href: "../", isDirectory: true }];
  return {
    kind: "page",
    html: indexPage({ title: [title, ...names].join("/"), entries: [...up, ...entries] }),
  };
}

/** Opens a file, and refuses one to which its path leads only since it was looked at. */
async function openBelow(place: string, root: string, sizeBytes: number): Promise<OpenBody> {
  const file = await openFile(place);
  try {
    const real = openedPath(file);
    if (real !== undefined && !isBelow(real, root)) {
      throw new Error("it leads out of the directory");
    }
    return bodyOf(file, sizeBytes);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Where an open file is; undefined where the system does not say. */
function openedPath({ fd }: FileHandle): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).replace(/ \(deleted\)$/, "");
  } catch {
    return undefined;
  }
}

function bodyOf(file: FileHandle, sizeBytes: number): OpenBody {
  return {
    read: async (into, offset) => {
      const most = Math.min(into.length, Math.max(0, sizeBytes - offset));
      return most === 0 ? 0 : (await file.read(into, 0, most, offset)).bytesRead;
    },
    close: () => file.close(),
  };
}

/**
 * Serves files by name, in one directory.
 *
 * @param find What has a name; asked again for each request.
 * @param list All names, for the page; absent where there is none.
 */
export function namedFinder(
  find: (name: string) => NamedFile | undefined | Promise<NamedFile | undefined>,
  list?: { readonly title: string; readonly names: () => readonly string[] },
): Finder {
  return async (path) => {
    const name = path.slice(1);
    if (name === "") {
      if (list === undefined) return undefined;
      const entries: IndexEntry[] = [];
      for (const name of list.names()) {
        const file = await find(name);
        if (file === undefined) continue;
        const { sizeBytes, sha256 } = file;
        entries.push({ name, href: hrefOf(name), sizeBytes, sha256 });
      }
      return { kind: "page", html: indexPage({ title: list.title, entries }) };
    }
    const file = await find(name);
    if (file === undefined) return undefined;
    // A device is not opened at all, as that may have an effect.
    const found = await stat(file.path).catch(missing);
    if (!found?.isFile()) return undefined;
    return {
      kind: "file",
      sizeBytes: found.size,
      sha256: file.sha256,
      modifiedMs: found.mtimeMs,
      open: async () => bodyOf(await openFile(file.path), found.size),
    };
  };
}

/** Serves what the first of several finders has. */
export function firstOf(...finders: readonly Finder[]): Finder {
  return async (path) => {
    for (const find of finders) {
      const found = await find(path);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}
