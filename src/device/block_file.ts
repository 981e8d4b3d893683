// SPDX-License-Identifier: MIT
/**
 * An open device or file that an image is written to in place: exclusively, with direct I/O where
 * possible, and with several reads and writes at once.
 *
 * @module
 */

import { closeSync, constants, fsync, openSync, read, write } from "node:fs";
import { hintFor, onDevice, refusal, type WriteTarget } from "./candidates.ts";
import { type BlockDevice, readBlockDevices } from "./sysfs.ts";
import { messageOf, systemCode, throwIfInterrupted, UserError } from "../errors.ts";
import { type Libc, libc, O_DIRECT } from "../runtime/libc.ts";
import { MIB } from "../format/segment.ts";
import { alignedBytes } from "./ring.ts";

/** Size of one read or write. */
export const TRANSFER_BYTES = 4 * MIB;
/** Size that is zeroed in one call: large enough to be fast, small enough for Ctrl-C. */
const PUNCH_BYTES = 64 * MIB;

/** Whether the kernel has read the new partition table, cannot, or not while the device is busy. */
export type Partitions = "reread" | "none" | "busy";

export class BlockFile {
  readonly path: string;
  readonly libc: Libc;
  /** Whether reads come from the device itself and not from the page cache. */
  readonly isDirect: boolean;
  /** Descriptor that claims the device or locks the file. */
  readonly #claim: number;
  /** Descriptor for reads and writes. */
  readonly #file: number;
  #zeros: Uint8Array | undefined;
  #canPunch = true;
  #running = 0;
  #idle: (() => void) | undefined;

  private constructor(path: string, libc: Libc, claim: number) {
    this.path = path;
    this.libc = libc;
    this.#claim = claim;
    // Not by its path, which another device may have by now.
    const open = (flags: number) => openSync(`/proc/self/fd/${claim}`, constants.O_RDWR + flags);
    let file: number | undefined;
    try {
      if (O_DIRECT !== 0) file = open(O_DIRECT);
    } catch (error) {
      if (systemCode(error) !== "EINVAL") throw error;
    }
    this.isDirect = file !== undefined;
    this.#file = file ?? open(0);
  }

  /**
   * Opens a target. A device is opened exclusively, so that it cannot be mounted meanwhile. A file
   * is locked, so that two processes do not write to it at once.
   *
   * @throws {UserError} "target" where it is in use, or where the C library cannot be called.
   */
  static open(target: WriteTarget): BlockFile {
    const { kind, path } = target;
    const calls = libc();
    if (calls === undefined) {
      throw new UserError("target", `Cannot write to ${path}: the C library cannot be called`, {
        hint:
          "Devices are written on 64-bit Linux, under Bun, Deno with --allow-ffi, or the binary",
      });
    }
    const flags = constants.O_RDWR + (kind === "device" ? constants.O_EXCL : 0);
    return onDevice(path, "open", () => {
      const claim = calls.open(path, flags);
      try {
        if (kind === "device") checkSame(target.device);
        else if (!calls.tryLock(claim)) {
          throw refusal(path, ["another process is writing to it"], "Wait until that has ended");
        }
        return new BlockFile(path, calls, claim);
      } catch (error) {
        calls.close(claim);
        throw error;
      }
    });
  }

  /** Writes all bytes at an offset. */
  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      done += await this.#run(
        "write to",
        offsetBytes + done,
        (settle) => write(this.#file, bytes, done, bytes.length - done, offsetBytes + done, settle),
      );
    }
  }

  /** Fills a buffer from an offset on. */
  async read(into: Uint8Array, offsetBytes: number): Promise<void> {
    for (let done = 0; done < into.length;) {
      const got = await this.#run(
        "read",
        offsetBytes + done,
        (settle) => read(this.#file, into, done, into.length - done, offsetBytes + done, settle),
      );
      if (got === 0) throw this.#error("read", "unexpected end", offsetBytes + done);
      done += got;
    }
  }

  /**
   * Zeroes a range: by the device if it can, else by writing zeros.
   *
   * @param onDone Called with the size of each part that is done.
   */
  async zero(
    offsetBytes: number,
    sizeBytes: number,
    onDone: (bytes: number) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    for (let done = 0; done < sizeBytes;) {
      throwIfInterrupted(signal);
      const left = sizeBytes - done;
      const part = this.#punch(offsetBytes + done, Math.min(left, PUNCH_BYTES)) ||
        await this.#writeZeros(offsetBytes + done, Math.min(left, TRANSFER_BYTES));
      done += part;
      onDone(part);
    }
  }

  /** Syncs the device, and drops its page cache. */
  async sync(): Promise<void> {
    await this.#run("flush", undefined, (settle) => fsync(this.#file, (e) => settle(e, 0)));
    if (!this.isDirect) onDevice(this.path, "read back", () => this.libc.dropCache(this.#file));
  }

  /** Makes the kernel read the new partition table. */
  rereadPartitions(): Partitions {
    try {
      this.libc.rereadPartitions(this.#claim);
      return "reread";
    } catch (error) {
      return systemCode(error) === "EBUSY" ? "busy" : "none";
    }
  }

  /** Closes it after all pending reads and writes. */
  async close(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle = resolve);
    closeSync(this.#file);
    this.libc.close(this.#claim);
  }

  /** @returns The number of bytes that were zeroed: all of them, or 0. */
  #punch(offsetBytes: number, sizeBytes: number): number {
    if (!this.#canPunch) return 0;
    try {
      this.libc.punchHole(this.#claim, offsetBytes, sizeBytes);
      return sizeBytes;
    } catch (error) {
      const code = systemCode(error) ?? "";
      if (["EIO", "EREMOTEIO", "ENXIO", "ENODEV"].includes(code)) {
        throw this.#error("write to", code, offsetBytes);
      }
      this.#canPunch = false;
      return 0;
    }
  }

  async #writeZeros(offsetBytes: number, sizeBytes: number): Promise<number> {
    this.#zeros ??= alignedBytes(this.libc, TRANSFER_BYTES);
    await this.write(this.#zeros.subarray(0, sizeBytes), offsetBytes);
    return sizeBytes;
  }

  async #run(
    what: string,
    offsetBytes: number | undefined,
    start: (settle: (error: Error | null, bytes: number) => void) => void,
  ): Promise<number> {
    this.#running++;
    try {
      return await new Promise<number>((resolve, reject) =>
        start((error, bytes) => error ? reject(error) : resolve(bytes))
      );
    } catch (error) {
      throw this.#error(what, systemCode(error) ?? messageOf(error), offsetBytes);
    } finally {
      if (--this.#running === 0) this.#idle?.();
    }
  }

  #error(what: string, code: string, offsetBytes: number | undefined): UserError {
    const place = offsetBytes === undefined ? "" : ` at byte ${offsetBytes}`;
    return new UserError("target", `Cannot ${what} ${this.path}: ${code}${place}`, {
      where: offsetBytes === undefined ? this.path : `${this.path}, offset ${offsetBytes}`,
      hint: hintFor(code),
    });
  }
}

/** Refuses a device that is no longer the disk that was checked and confirmed. */
function checkSame({ name, path, identity }: BlockDevice): void {
  const now = readBlockDevices().find((device) => device.name === name);
  if (now?.identity === identity) return;
  throw refusal(path, ["it is another disk now"], "Check again with seedstrap devices");
}
