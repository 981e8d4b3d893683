// SPDX-License-Identifier: MIT
/**
 * Calls of the C library that the runtimes lack, made through the runtime's foreign function
 * interface: `bun:ffi` or `Deno.dlopen`.
 *
 * `open` is among them because Deno turns O_RDWR|O_EXCL into O_CREAT|O_EXCL, which never opens a
 * device. The descriptor it returns cannot be used with `node:fs`, since Deno accepts only its own.
 * Descriptors of `node:fs` are those of the kernel under both runtimes, and can be used here.
 *
 * @module
 */

import { constants } from "node:fs";
import { createRequire } from "node:module";
import { constants as system } from "node:os";

/** The calls. Each throws an error with a `code` (`EBUSY`, `EINVAL`, ...) when it fails. */
export interface Libc {
  /** open(2) without creating anything. */
  open(path: string, flags: number): number;
  /** close(2), for a descriptor that `open` returned. */
  close(file: number): void;
  /**
   * flock(2): takes the exclusive lock of a file until `close`.
   *
   * @returns False when another process holds it. True also where the file system has no locks.
   */
  tryLock(file: number): boolean;
  /** Makes a range of a file or block device read as zeros without writing zeros. */
  punchHole(file: number, offset: number, sizeBytes: number): void;
  /** Asks the kernel to drop the pages of a file from its cache. */
  dropCache(file: number): void;
  /** BLKRRPART: makes the kernel read the partition table of a disk again. */
  rereadPartitions(file: number): void;
  /**
   * LOOP_GET_STATUS64: the file that backs a loop device, whatever name it has by now.
   *
   * @param file The device, open for reading.
   */
  loopBacking(file: number): FileStatus;
  /** Returns the offset of the next byte of data, or -1 if only a hole follows. */
  nextData(file: number, offset: number): number;
  /** Returns the offset of the next byte of a hole; the end of a file counts as one. */
  nextHole(file: number, offset: number): number;
  /**
   * Makes our process group the foreground one of a terminal, if the one that is has no process any
   * more. Does nothing where `file` is no terminal of ours.
   */
  takeTerminal(file: number): void;
  /** FD_CLOEXEC: programs that are started from now on do not get the descriptor. */
  closeOnExec(file: number): void;
  /** Returns the memory address of the first byte of a view. */
  addressOf(view: Uint8Array): number;
}

/** What tells a file from all others, as stat(2) has it. */
export interface FileStatus {
  readonly dev: bigint;
  readonly ino: bigint;
  /** Of a device file; 0 for a regular one. */
  readonly rdev: bigint;
}

/** The common form of both interfaces. Offsets and requests are 64 bits wide. */
interface Calls {
  open(path: Uint8Array, flags: number): number;
  close(file: number): number;
  flock(file: number, operation: number): number;
  fallocate(file: number, mode: number, offset: bigint, size: bigint): number;
  posix_fadvise(file: number, offset: bigint, size: bigint, advice: number): number;
  ioctl(file: number, request: bigint, argument: Uint8Array | null): number;
  lseek(file: number, offset: bigint, whence: number): number | bigint;
  fcntl(file: number, command: number, argument: number): number;
  getpgrp(): number;
  kill(pid: number, signal: number): number;
  signal(number: number, handler: bigint): number | bigint;
  tcgetpgrp(file: number): number;
  tcsetpgrp(file: number, group: number): number;
  errno(): number;
  addressOf(view: Uint8Array): number;
}

/** Names of glibc and musl. */
const NAMES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];

/** From linux/fs.h, linux/loop.h, linux/falloc.h, fcntl.h and others; the same on every 64-bit Linux. */
const BLKRRPART = 0x125fn;
const LOOP_GET_STATUS64 = 0x4c05n;
/** Size of struct loop_info64, which begins with device, inode and rdevice, 64 bits each. */
const LOOP_INFO_BYTES = 232;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const POSIX_FADV_DONTNEED = 4;
const LOCK_EX_NB = 2 + 4;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const SIGTTOU = 22;
const SIG_DFL = 0n;
const SIG_IGN = 1n;

let known: Libc | undefined;

/**
 * Loads the C library of this machine.
 *
 * @returns undefined if it cannot be loaded: no Linux, no FFI, or no permission to use it.
 */
export function libc(): Libc | undefined {
  if (known !== undefined) return known;
  for (const name of NAMES) {
    try {
      return known = withErrors("Bun" in globalThis ? loadByBun(name) : loadByDeno(name));
    } catch {
      // Try the next name.
    }
  }
  return undefined;
}

function withErrors(calls: Calls): Libc {
  const checked = (name: string, result: number | bigint): number => {
    if (result < 0) throw systemError(name, calls.errno());
    return Number(result);
  };
  const seek = (file: number, offset: number, whence: number): number =>
    checked("lseek", calls.lseek(file, BigInt(offset), whence));
  return {
    open: (path, flags) =>
      checked("open", calls.open(new TextEncoder().encode(`${path}\0`), flags)),
    close: (file) => void checked("close", calls.close(file)),
    tryLock: (file) =>
      calls.flock(file, LOCK_EX_NB) === 0 || calls.errno() !== system.errno.EWOULDBLOCK,
    punchHole(file, offset, sizeBytes) {
      const mode = FALLOC_FL_PUNCH_HOLE + FALLOC_FL_KEEP_SIZE;
      checked("fallocate", calls.fallocate(file, mode, BigInt(offset), BigInt(sizeBytes)));
    },
    dropCache(file) {
      const code = calls.posix_fadvise(file, 0n, 0n, POSIX_FADV_DONTNEED);
      if (code !== 0) throw systemError("posix_fadvise", code);
    },
    rereadPartitions: (file) => void checked("ioctl", calls.ioctl(file, BLKRRPART, null)),
    loopBacking(file) {
      const info = new Uint8Array(LOOP_INFO_BYTES);
      checked("ioctl", calls.ioctl(file, LOOP_GET_STATUS64, info));
      const [dev, ino, rdev] = new BigUint64Array(info.buffer, 0, 3);
      return { dev: dev!, ino: ino!, rdev: rdev! };
    },
    nextData(file, offset) {
      try {
        return seek(file, offset, SEEK_DATA);
      } catch (error) {
        if ((error as { code?: string }).code === "ENXIO") return -1;
        throw error;
      }
    },
    nextHole: (file, offset) => seek(file, offset, SEEK_HOLE),
    takeTerminal(file) {
      const group = calls.tcgetpgrp(file);
      if (group <= 0 || calls.kill(-group, 0) === 0) return;
      if (calls.errno() !== system.errno.ESRCH) return;
      // It stops a process in the background that sets anything at the terminal.

      calls.signal(SIGTTOU, SIG_IGN);
      calls.tcsetpgrp(file, calls.getpgrp());
      calls.signal(SIGTTOU, SIG_DFL);
    },
    closeOnExec: (file) => void checked("fcntl", calls.fcntl(file, F_SETFD, FD_CLOEXEC)),
    addressOf: calls.addressOf,
  };
}

function systemError(call: string, errno: number): Error {
  const code = Object.entries(system.errno).find(([, value]) => value === errno)?.[0] ?? "EIO";
  return Object.assign(new Error(`${code}: ${call} failed`), { code });
}

/** The part of `bun:ffi` that is used. Deno cannot import it, so it is required at run time. */
interface BunFfi {
  dlopen(name: string, symbols: object): {
    readonly symbols: Record<string, (...args: unknown[]) => number | bigint>;
  };
  ptr(view: Uint8Array): number;
  readonly read: { i32(address: number | bigint, offset: number): number };
}

function loadByBun(name: string): Calls {
  const ffi: BunFfi = createRequire(import.meta.url)("bun:ffi");
  const { symbols } = ffi.dlopen(name, {
    open: { args: ["ptr", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    flock: { args: ["i32", "i32"], returns: "i32" },
    fallocate: { args: ["i32", "i32", "i64", "i64"], returns: "i32" },
    posix_fadvise: { args: ["i32", "i64", "i64", "i32"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    lseek: { args: ["i32", "i64", "i32"], returns: "i64" },
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    getpgrp: { args: [], returns: "i32" },
    kill: { args: ["i32", "i32"], returns: "i32" },
    signal: { args: ["i32", "i64"], returns: "i64" },
    tcgetpgrp: { args: ["i32"], returns: "i32" },
    tcsetpgrp: { args: ["i32", "i32"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  });
  return {
    ...symbols as unknown as Omit<Calls, "errno" | "addressOf">,
    errno: () => ffi.read.i32(symbols["__errno_location"]!(), 0),
    addressOf: (view) => Number(ffi.ptr(view)),
  };
}

function loadByDeno(name: string): Calls {
  const { symbols } = Deno.dlopen(name, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    flock: { parameters: ["i32", "i32"], result: "i32" },
    fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
    posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
    ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
    lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
    getpgrp: { parameters: [], result: "i32" },
    kill: { parameters: ["i32", "i32"], result: "i32" },
    signal: { parameters: ["i32", "i64"], result: "i64" },
    tcgetpgrp: { parameters: ["i32"], result: "i32" },
    tcsetpgrp: { parameters: ["i32", "i32"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  return {
    open: (path, flags) => symbols.open(path as Uint8Array<ArrayBuffer>, flags),
    close: symbols.close,
    flock: symbols.flock,
    fallocate: symbols.fallocate,
    posix_fadvise: symbols.posix_fadvise,
    ioctl: (file, request, argument) =>
      symbols.ioctl(file, request, argument as Uint8Array<ArrayBuffer> | null),
    lseek: symbols.lseek,
    fcntl: symbols.fcntl,
    getpgrp: symbols.getpgrp,
    kill: symbols.kill,
    signal: symbols.signal,
    tcgetpgrp: symbols.tcgetpgrp,
    tcsetpgrp: symbols.tcsetpgrp,
    errno: () => new Deno.UnsafePointerView(symbols.__errno_location()!).getInt32(),
    addressOf: (view) =>
      Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>))),
  };
}

/** O_DIRECT of this architecture, or 0 if the runtime does not define it. */
export const O_DIRECT: number = constants.O_DIRECT ?? 0;
