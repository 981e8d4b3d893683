// SPDX-License-Identifier: MIT
/**
 * Distfiles on disk: their names, where they lie, and whether they are right.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";

/** NAME_MAX of every Linux file system is 255 bytes, and `.part` has to fit behind the name. */
export const MAX_NAME_BYTES = 250;

const READ_BYTES = 1024 * 1024;

/**
 * Why a name cannot be that of a distfile, or undefined if it can.
 *
 * A name comes from a checkout or from the network, and becomes a file name, part of a URL and
 * text on a terminal. So it holds no separator of any system and no control character, does not
 * start with a dot (which covers `.` and `..`), and does not end like an unfinished download.
 */
export function distfileNameFault(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (!name.isWellFormed()) return "it is not Unicode text";
  const sizeBytes = Buffer.byteLength(name);
  if (sizeBytes > MAX_NAME_BYTES) return `it has ${sizeBytes} bytes, above ${MAX_NAME_BYTES}`;
  if (/[/\\]/.test(name)) return "it holds a path separator";
  if (/\p{Cc}/u.test(name)) return "it holds a control character";
  if (name.startsWith(".")) return "it starts with a dot";
  if (name.endsWith(".part")) return "it ends in .part, which marks an unfinished download";
  return undefined;
}

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

/** Where distfiles are kept unless the user says otherwise, by the XDG Base Directory rules. */
export function defaultStore(
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const cache = env["XDG_CACHE_HOME"] ?? "";
  // "If an implementation encounters a relative path it should consider the path invalid."
  const base = isAbsolute(cache) ? cache : join(env["HOME"] || homedir(), ".cache");
  return join(base, "seedstrap", "distfiles");
}

/** A file that has the name of a distfile; nothing is known yet of its content. */
export interface Candidate {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Finds the regular files with a name in some directories, in their order.
 *
 * Looks only, reads nothing. A symbolic link counts as what it leads to: the directories are the
 * user's own. What is missing, unreadable or not a regular file is left out.
 *
 * @param dirs Directories, such as the checkout's `distfiles/` and the store.
 * @throws {UserError} "tree", if the name cannot be that of a distfile.
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

/** What {@link verifyFile} has found. */
export interface Verified {
  /** Whether the digest is the wanted one. */
  readonly ok: boolean;
  /** The digest the file really has, in lower-case hex. */
  readonly got: string;
  /** How many bytes were read. */
  readonly sizeBytes: number;
}

/**
 * Hashes a file, in little memory however long it is.
 *
 * @param sha256 The wanted digest, in lower-case hex.
 * @throws The system's error if the file cannot be read; the reason of `signal` if it fires.
 */
export async function verifyFile(
  path: string,
  sha256: string,
  signal?: AbortSignal,
): Promise<Verified> {
  const handle = await open(path, "r");
  try {
    const hash = createHash("sha256");
    const sizeBytes = await hashHandle(handle, hash, signal);
    const got = hash.digest("hex");
    return { ok: got === sha256, got, sizeBytes };
  } finally {
    await handle.close();
  }
}

/** Feeds an open file into a digest, from its first byte to its end; gives the number of bytes. */
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
