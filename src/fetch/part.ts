// SPDX-License-Identifier: MIT
/**
 * The file a body is written to until its digest is verified: `STORE/sha256/AB/SHA256.part`.
 *
 * A part that an earlier run left is never trusted: all of its bytes are hashed before any byte is
 * added. A process holds the lock of a part (turn.ts) while it has it open, as two writers would
 * corrupt it; without the lock, a commit still notices that the file was replaced or has grown.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { constants, statfsSync } from "node:fs";
import { type FileHandle, lstat, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode, UserError } from "../errors.ts";
import { writeError } from "../refused.ts";
import { hashHandle } from "./store.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** An open part file, with its size and the digest of all its bytes. */
export class PartFile {
  readonly path: string;
  #handle: FileHandle | undefined;
  #hash: Hash = createHash("sha256");
  #sizeBytes = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /**
   * Opens or creates a part file. A symbolic link, a pipe, a file with other hard links, and a file
   * over `maxBytes` are removed first, never written to.
   *
   * @throws {UserError} "target", if the store cannot be written to.
   */
  static async open(path: string, maxBytes: number, signal?: AbortSignal): Promise<PartFile> {
    const handle = await local(path, async () => {
      const found = await lstat(path).catch(ignoreMissing);
      if (found?.isFile() && found.nlink === 1 && found.size <= maxBytes) {
        return await open(path, O_RDWR | O_NOFOLLOW);
      }
      // Checked here, because Deno's unlink would remove an empty directory.
      if (found?.isDirectory()) throw new Error("it is a directory");
      if (found !== undefined) await unlink(path);
      return await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o666);
    });
    const part = new PartFile(path, handle);
    try {
      await local(path, async () => {
        part.#sizeBytes = await hashHandle(handle, part.#hash, signal);
      }, signal);
      return part;
    } catch (error) {
      await part.close();
      throw error;
    }
  }

  /** The size of the part; all of its bytes are in the digest. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Returns the SHA-256 of the part as it is now, in lower-case hex. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** Adds bytes to the end. */
  async append(chunk: Uint8Array): Promise<void> {
    const written = local(this.path, async () => {
      let done = 0;
      while (done < chunk.length) {
        const at = this.#sizeBytes + done;
        const { bytesWritten } = await this.#open.write(chunk, done, chunk.length - done, at);
        done += bytesWritten;
      }
    });
    // Hashed while the system writes. Where that fails, nothing of this part is used again.
    this.#hash.update(chunk);
    await written;
    this.#sizeBytes += chunk.length;
  }

  /**
   * Reports whether the file system has room for more bytes, as far as it says.
   *
   * @returns The error for a part that cannot be written, or undefined.
   */
  fault(wantedBytes: number): UserError | undefined {
    const freeBytes = this.freeBytes();
    if (wantedBytes <= freeBytes) return undefined;
    const message = `ENOSPC: ${wantedBytes} bytes are to come, ${freeBytes} are free`;
    const cause = Object.assign(new Error(message), { code: "ENOSPC" });
    return storeError(this.path, cause);
  }

  /** Bytes that are free where the part is; Infinity where the system does not say. */
  freeBytes(): number {
    try {
      const { bavail, bsize } = statfsSync(dirname(this.path));
      return bavail * bsize;
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      return Infinity;
    }
  }

  /** Empties the part. */
  async restart(): Promise<void> {
    await local(this.path, () => this.#open.truncate(0));
    this.#hash = createHash("sha256");
    this.#sizeBytes = 0;
  }

  /**
   * Syncs the part and renames it to its final name, replacing any file of that name.
   *
   * @throws {UserError} "target", if the rename fails, or another process has changed the part.
   */
  async commit(finalPath: string): Promise<void> {
    await local(this.path, async () => {
      await this.#open.sync();
      const [ours, named] = [await this.#open.stat(), await lstat(this.path)];
      if (ours.ino !== named.ino || ours.dev !== named.dev || ours.size !== this.#sizeBytes) {
        throw new Error("another process has changed it");
      }
      await this.close();
    });
    await local(finalPath, () => rename(this.path, finalPath));
  }

  /** Closes and removes the part, because it holds a wrong body. */
  async discard(): Promise<void> {
    await this.close();
    await local(this.path, () => unlink(this.path).catch(ignoreMissing));
  }

  /** Closes the file; the part stays and can be resumed. May be called twice. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  get #open(): FileHandle {
    if (this.#handle === undefined) throw new TypeError("The part file is closed");
    return this.#handle;
  }
}

function ignoreMissing(error: unknown): undefined {
  if (systemCode(error) !== "ENOENT") throw error;
}

/** Runs an operation on the store; its errors are fatal, as they would repeat for every URL. */
export async function local<T>(
  path: string,
  work: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof UserError) throw error;
    throw storeError(path, error);
  }
}

function storeError(path: string, cause: unknown): UserError {
  return writeError(path, cause, "store with --store", "run again to go on");
}

/** Whether an error of the store is that it is full, or takes no file of that size. */
export function isNoRoom(error: unknown): error is UserError {
  const code = error instanceof UserError ? systemCode(error.cause) : undefined;
  return code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
}
