// SPDX-License-Identifier: MIT
/**
 * Distfiles on disk: their names, their paths and their verification.
 *
 * The store has each distfile under its digest, so that checkouts of different years share it and
 * two files of one name do not fight:
 *
 *   STORE/sha256/AB/SHA256        a distfile; AB are the first two digits
 *   STORE/sha256/AB/SHA256.part   a download, see {@link ./part.ts}
 *   STORE/.origins/               where it came from, see {@link ./origin.ts}
 *   STORE/.locks/                 who downloads it, see {@link ./turn.ts}
 *   STORE/NAME                    a distfile of the layout before, by its name: it is found, and gets
 *                                 a second name by its digest, see {@link takeOver}
 *
 * A file gets its name here only when it is verified. It is verified again each time that it is used.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, lstat, open, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import { distfileNameFault } from "./distfile_name.ts";
import { systemCode, UserError } from "../errors.ts";
import { makeOwnDirectory } from "../runtime/own.ts";

const READ_BYTES = 1024 * 1024;

/**
 * Checks the name of a distfile, see {@link distfileNameFault}.
 *
 * @throws {UserError} "tree", with the name and its fault.
 */
export function checkDistfileName(name: string): void {
  const fault = distfileNameFault(name);
  if (fault === undefined) return;
  throw new UserError("tree", `Cannot use distfile name ${JSON.stringify(name)}: ${fault}`, {
    hint: "Give the file another name in the step's sources",
  });
}

/** Returns the directory of the default store, by the XDG Base Directory Specification. */
export function defaultStore(
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const cache = env["XDG_CACHE_HOME"] ?? "";
  // "If an implementation encounters a relative path it should consider the path invalid."
  const base = isAbsolute(cache) ? cache : join(env["HOME"] || homedir(), ".cache");
  return join(base, "seedstrap", "distfiles");
}

/** Directory in a store. */
export const DIGESTS_DIR = "sha256";

/** Returns the path of a distfile in a store, whether or not it is there. */
export function storePath(store: string, sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new TypeError(`no SHA-256: ${sha256}`);
  return join(store, DIGESTS_DIR, sha256.slice(0, 2), sha256);
}

/**
 * Makes the directories of a path in a store, which exists.
 *
 * @throws {UserError} "target" where one of them is a link.
 * @throws The system's error.
 */
export function makeStoreDirectory(path: string): void {
  makeOwnDirectory(dirname(dirname(path)));
  makeOwnDirectory(dirname(path));
}

/** A file that has the name of a distfile; its content is not verified yet. */
export interface Candidate {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Finds the regular files of a name in some directories, in the order of the directories.
 *
 * Reads no file. Symbolic links are followed, as the directories are the user's own. A file that is
 * missing, unreadable or not regular is skipped.
 *
 * @param dirs Directories, such as the checkout's `distfiles/` and the store.
 * @throws {UserError} "tree", if the name is not valid for a distfile.
 */
export async function locate(name: string, dirs: readonly string[]): Promise<Candidate[]> {
  checkDistfileName(name);
  const candidates: Candidate[] = [];
  for (const dir of dirs) {
    const path = join(dir, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile()) candidates.push({ path, sizeBytes: found.size });
  }
  return candidates;
}

/**
 * Finds what a store may have of a distfile: first under its digest, then under its name, where a
 * store of the layout before has it. Reads no file.
 *
 * @throws {UserError} "tree", if the name is not valid for a distfile.
 */
export async function locateStored(
  { name, sha256 }: { readonly name: string; readonly sha256: string },
  store: string,
): Promise<Candidate[]> {
  const path = storePath(store, sha256);
  const found = await stat(path).catch(() => undefined);
  const named = await locate(name, [store]);
  return found?.isFile() ? [{ path, sizeBytes: found.size }, ...named] : named;
}

/**
 * Gives a file that a store has under its name a second one under its digest. It keeps the first one,
 * which another process may be about to read; `seedstrap store gc` removes that.
 *
 * @param path A verified file in the store.
 * @returns Its path by its digest; `path` itself where the file system has no hard links, or the
 * store cannot be written to.
 */
export async function takeOver(store: string, path: string, sha256: string): Promise<string> {
  const digestPath = storePath(store, sha256);
  try {
    // A link to a link would be one to wherever that leads.
    if (path === digestPath || !(await lstat(path)).isFile()) return path;
    makeStoreDirectory(digestPath);
    await link(path, digestPath);
    return digestPath;
  } catch (error) {
    if (systemCode(error) === "EEXIST") return digestPath;
    if (systemCode(error) === undefined && !(error instanceof UserError)) throw error;
    return path;
  }
}

/** The result of {@link verifyFile}. */
export interface Verified {
  /** Whether the digest is the expected one. */
  readonly ok: boolean;
  /** The actual digest of the file, in lower-case hex. */
  readonly got: string;
  /** The number of bytes read. */
  readonly sizeBytes: number;
}

/**
 * Hashes a file, with bounded memory, and compares the digest.
 *
 * @param sha256 The expected digest, in lower-case hex.
 * @throws The system's error if the file cannot be read; the reason of `signal` if it fires.
 */
export async function verifyFile(
  path: string,
  sha256: string,
  signal?: AbortSignal,
): Promise<Verified> {
  const { got, sizeBytes } = await digestFile(path, signal);
  return { ok: got === sha256, got, sizeBytes };
}

/** Hashes a file as {@link verifyFile} does, without an expected digest. */
export async function digestFile(
  path: string,
  signal?: AbortSignal,
): Promise<Omit<Verified, "ok">> {
  const handle = await openFile(path);
  try {
    const hash = createHash("sha256");
    const sizeBytes = await hashHandle(handle, hash, signal);
    return { got: hash.digest("hex"), sizeBytes };
  } finally {
    await handle.close();
  }
}

/**
 * Opens a regular file for reading, without waiting for the other end of a pipe.
 *
 * @throws The system's error; the code of one for what is no regular file is EINVAL.
 */
export async function openFile(path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if ((await handle.stat()).isFile()) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  throw Object.assign(new Error(`EINVAL: ${path} is no regular file`), { code: "EINVAL" });
}

/** Feeds an open file from its start to its end into a hash, and returns the number of bytes. */
export async function hashHandle(
  handle: FileHandle,
  hash: Hash,
  signal?: AbortSignal,
): Promise<number> {
  const { size } = await handle.stat();
  const buffer = new Uint8Array(Math.min(READ_BYTES, Math.max(size, 1)));
  let offset = 0;
  while (true) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset);
    if (bytesRead === 0) return offset;
    hash.update(buffer.subarray(0, bytesRead));
    offset += bytesRead;
  }
}
