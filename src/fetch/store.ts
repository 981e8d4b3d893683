// SPDX-License-Identifier: MIT
/**
 * Distfiles on disk: their names, their paths and their verification.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import process from "node:process";
import { distfileNameFault } from "./distfile_name.ts";
import { UserError } from "../errors.ts";

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
