// SPDX-License-Identifier: MIT
/**
 * Looks after the store: what it has, whether that is right, and what may go.
 *
 * @module
 */

import { lstatSync, readdirSync, rmdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { sortedByBytes } from "../bytes.ts";
import { systemCode, UserError } from "../errors.ts";
import { ORIGINS_DIR, recallOrigin } from "../fetch/origin.ts";
import { DIGESTS_DIR, storePath } from "../fetch/store.ts";
import { takeIfFree, tidyStore } from "../fetch/turn.ts";
import { fileSegment } from "../format/segment.ts";
import { digestEach } from "../hash/pool.ts";
import type { Progress } from "../progress.ts";
import { reading, writing } from "../refused.ts";
import { removeFile } from "../runtime/remove.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { readEveryDistfile } from "../tree/model.ts";
import { checkStore } from "./check.ts";

/** A file of a store. */
export interface StoredFile {
  readonly path: string;
  /** By its name; undefined for what has its own name, as in the layout before. */
  readonly sha256: string | undefined;
  readonly sizeBytes: number;
  /** When it came, or was changed, in milliseconds since 1970. */
  readonly changedMs: number;
  /** Where it was downloaded from; undefined where that is not known. */
  readonly url: string | undefined;
  /** The last part of that URL, or its own name. */
  readonly name: string | undefined;
}

/** What is in a store. */
export interface StoreContent {
  /** Absolute. */
  readonly store: string;
  /** Sorted by name. */
  readonly files: readonly StoredFile[];
  /** Unfinished downloads, and their bytes. */
  readonly parts: readonly { readonly path: string; readonly sizeBytes: number }[];
}

/**
 * Lists a store. No file is read.
 *
 * @throws {UserError} "usage" for what is no directory; "target" where it cannot be read.
 */
export function listStore(place: string): StoreContent {
  checkStore(place);
  const store = resolve(place);
  const files: StoredFile[] = [];
  const parts: { path: string; sizeBytes: number }[] = [];
  if (statIfThere(store) === undefined) return { store, files, parts };
  const digests = join(store, DIGESTS_DIR);
  for (const shard of namesIn(digests)) {
    if (!/^[0-9a-f]{2}$/.test(shard)) continue;
    for (const name of namesIn(join(digests, shard))) {
      const [, sha256, part] = /^([0-9a-f]{64})(\.part)?$/.exec(name) ?? [];
      const path = join(digests, shard, name);
      const stat = lstatIfThere(path);
      if (sha256 === undefined || path !== storePath(store, sha256) + (part ?? "")) continue;
      if (stat?.isFile() !== true) continue;
      if (part !== undefined) parts.push({ path, sizeBytes: stat.size });
      else files.push(describe(store, path, sha256, stat));
    }
  }
  for (const name of namesIn(store)) {
    const path = join(store, name);
    if (name.startsWith(".") || name === DIGESTS_DIR) continue;
    const stat = lstatIfThere(path);
    if (stat?.isFile() !== true) continue;
    if (name.endsWith(".part")) parts.push({ path, sizeBytes: stat.size });
    else files.push({ ...describe(store, path, undefined, stat), name });
  }
  return { store, files: sortedByBytes(files, ({ name, path }) => name ?? path), parts };
}

function describe(
  store: string,
  path: string,
  sha256: string | undefined,
  { size, mtimeMs }: ReturnType<typeof lstatSync> & object,
): StoredFile {
  const url = sha256 === undefined ? undefined : recallOrigin(store, sha256)?.url;
  const last = url === undefined ? undefined : new URL(url).pathname.split("/").at(-1);
  const name = last === undefined || last === "" ? undefined : decoded(last);
  return { path, sha256, sizeBytes: Number(size), changedMs: Number(mtimeMs), url, name };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function namesIn(dir: string): string[] {
  if (lstatIfThere(dir)?.isDirectory() !== true) return [];
  return reading(dir, () => readdirSync(dir));
}

/** A file that has not the SHA-256 that is its name. */
export interface WrongStored {
  readonly file: StoredFile;
  readonly got: string;
}

/**
 * Hashes every file of a store that has its SHA-256 as its name.
 *
 * @param removes Whether wrong ones are removed.
 * @returns How many were verified, and those that are wrong.
 * @throws {UserError} "target" where one cannot be read or removed; "interrupt".
 */
export async function verifyStore(
  place: string,
  removes: boolean,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ readonly verified: number; readonly wrong: readonly WrongStored[] }> {
  const files = listStore(place).files.filter(({ sha256 }) => sha256 !== undefined);
  progress.begin("verifying", files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const tasks = files.map(({ path, sizeBytes }) =>
    ({ segment: fileSegment({ path, sizeBytes }), kind: "target" }) as const
  );
  const wrong: WrongStored[] = [];
  let at = 0;
  const onBytes = (bytes: number) => progress.add(bytes);
  for await (const got of digestEach(tasks, { onBytes, signal })) {
    const file = files[at++]!;
    if (got !== file.sha256) wrong.push({ file, got: got! });
  }
  if (removes) {
    for (const { file } of wrong) writing(file.path, () => removeFile(file.path), "--store");
  }
  return { verified: files.length - wrong.length, wrong };
}

/** What may go out of a store. */
export interface CollectRequest {
  readonly store: string;
  /** Checkouts or bundles whose distfiles stay. */
  readonly trees: readonly string[];
  /** Only what is older goes, in milliseconds. */
  readonly olderThanMs: number | undefined;
  /** Whether nothing is removed. */
  readonly isDry: boolean;
}

/** What goes, or would go. */
export interface Collected {
  readonly files: readonly StoredFile[];
  /** Unfinished downloads, and names of the layout before whose file has its digest as a name too. */
  readonly leftovers: readonly string[];
  /** That are free then. */
  readonly bytes: number;
  /** Files that another process uses just now, and that stay. */
  readonly busy: number;
}

/**
 * Removes from a store what no checkout needs, and what downloads have left. A distfile that another
 * process downloads stays; one that another process is about to read may go, so that it is fetched
 * again.
 *
 * @throws {UserError} "usage" where nothing says what may go; "tree" for a checkout that cannot be
 * read; "target".
 */
export async function collectStore(
  { store: place, trees, olderThanMs, isDry }: CollectRequest,
): Promise<Collected> {
  const { store, files, parts } = listStore(place);
  const kept = new Set(
    trees.flatMap(readEveryDistfile).map(({ sha256 }) => sha256),
  );
  if (trees.length === 0 && olderThanMs === undefined) {
    throw new UserError("usage", "Cannot tell what may go", {
      hint: "Name the checkouts whose distfiles stay (--tree), or an age (--older-than 90d)",
    });
  }
  const before = olderThanMs === undefined ? Infinity : Date.now() - olderThanMs;
  const owned = files.filter(({ sha256 }) => sha256 !== undefined);
  const going = owned.filter(({ sha256, changedMs }) => !kept.has(sha256!) && changedMs < before);
  // A second name of a file in the store, made by the layout before.
  const inodes = new Set(owned.map(({ path }) => identityOf(path)));
  const second = files.filter(({ sha256, path }) =>
    sha256 === undefined && inodes.has(identityOf(path))
  );
  const collected: StoredFile[] = [];
  const leftovers: string[] = [];
  let bytes = 0;
  let busy = 0;
  const remove = (path: string) => {
    if (!isDry) writing(path, () => removeFile(path), "--store");
  };
  for (const { path } of second) {
    leftovers.push(path);
    remove(path);
  }
  for (const file of going) {
    const lock = isDry ? undefined : takeIfFree(store, file.sha256!);
    if (lock === "taken") {
      busy++;
      continue;
    }
    try {
      remove(file.path);
      remove(join(store, ORIGINS_DIR, file.sha256!));
    } finally {
      lock?.release();
    }
    collected.push(file);
    bytes += file.sizeBytes;
  }
  for (const { path, sizeBytes } of parts) {
    const [, sha256] = /([0-9a-f]{64})\.part$/.exec(path) ?? [];
    const lock = isDry || sha256 === undefined ? undefined : takeIfFree(store, sha256);
    if (lock === "taken") {
      busy++;
      continue;
    }
    try {
      remove(path);
    } finally {
      lock?.release();
    }
    leftovers.push(path);
    bytes += sizeBytes;
  }
  if (!isDry) {
    await tidyStore(store);
    removeEmpty(join(store, DIGESTS_DIR));
  }
  return { files: collected, leftovers, bytes, busy };
}

/** Tells whether two names are of one file. */
function identityOf(path: string): string {
  const stat = lstatIfThere(path);
  return stat === undefined ? "" : `${stat.dev} ${stat.ino}`;
}

function removeEmpty(digests: string): void {
  for (const dir of [...namesIn(digests).map((shard) => join(digests, shard)), digests]) {
    try {
      rmdirSync(dir);
    } catch (error) {
      // Most hold files.
      if (systemCode(error) === undefined) throw error;
    }
  }
}
