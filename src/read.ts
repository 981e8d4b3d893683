// SPDX-License-Identifier: MIT
/**
 * Opens what is read from this machine, and reads files whole.
 *
 * A name may lead to anything: a pipe that nobody writes to, a device without end, a link to
 * somewhere else, a file that grows or is swapped while it is read. So a file is opened once,
 * without waiting, and what was opened is looked at, not the name.
 *
 * @module
 */

import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type ErrorKind, UserError } from "./errors.ts";
import { attempting, type RefusalOptions } from "./refused.ts";

/** How to open. */
export interface OpenOptions extends RefusalOptions {
  /** What is done, for "Cannot ..."; "read PATH" unless set. */
  readonly what?: string;
  /** Whether a symbolic link at the end of the path is followed; true unless set. */
  readonly followsLink?: boolean;
}

/** A regular file that is open for reading; `close()` it. */
export interface OpenedFile {
  /** Descriptor, of `node:fs`. */
  readonly file: number;
  /** Of what was opened. */
  readonly stat: Stats;
  close(): void;
}

/** How to read a file whole. */
export interface ReadWholeOptions extends OpenOptions {
  /** Most bytes that the file may have. */
  readonly limitBytes: number;
}

/** O_NONBLOCK: the other end of a pipe is not waited for. O_NOCTTY: a terminal stays what it is. */
const FLAGS = constants.O_RDONLY + constants.O_NONBLOCK + (constants.O_NOCTTY ?? 0);

/** Bytes that are read at first of a file whose size is not told, such as those of /proc. */
const FIRST_BYTES = 4096;

/**
 * Opens a regular file.
 *
 * @throws {UserError} of the kind, for what is no regular file, and what the system refuses.
 */
export function openRegular(path: string, options: OpenOptions = {}): OpenedFile {
  const { what = `read ${path}`, followsLink = true, kind = "target" } = options;
  const flags = FLAGS + (followsLink ? 0 : constants.O_NOFOLLOW);
  return attempting(what, path, () => {
    let file: number;
    try {
      file = openSync(path, flags);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      // A socket, and a device without a driver; with O_NOFOLLOW a link.
      if (code === "ENXIO" || code === "ENODEV") throw notRegular(what, path, kind);
      if (code === "ELOOP" && !followsLink) throw notRegular(what, path, kind, "a symbolic link");
      throw error;
    }
    try {
      const stat = fstatSync(file);
      if (!stat.isFile()) throw notRegular(what, path, kind);
      return { file, stat, close: () => closeSync(file) };
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }, options);
}

/**
 * Reads a regular file whole.
 *
 * @throws {UserError} of the kind, for what is no regular file, is longer than the limit, or cannot
 * be read.
 */
export function readWhole(path: string, options: ReadWholeOptions): Uint8Array {
  const opened = openRegular(path, options);
  try {
    return readWholeFrom(opened, path, options);
  } finally {
    opened.close();
  }
}

/**
 * Reads a file whole that is open, and stays open.
 *
 * @throws {UserError} as {@link readWhole}
 */
export function readWholeFrom(
  { file, stat }: OpenedFile,
  path: string,
  options: ReadWholeOptions,
): Uint8Array {
  const { limitBytes, what = `read ${path}`, kind = "target" } = options;
  if (stat.size > limitBytes) throw tooLong(what, path, kind, `${stat.size} bytes`, limitBytes);
  const bytes = attempting(what, path, () => readUpTo(file, stat.size, limitBytes + 1), options);
  if (bytes.length > limitBytes) {
    throw tooLong(what, path, kind, `more than ${limitBytes} bytes`, limitBytes);
  }
  return bytes;
}

/**
 * Likewise as text; what is no UTF-8 in it becomes U+FFFD.
 *
 * @throws {UserError} as {@link readWhole}
 */
export function readWholeText(path: string, options: ReadWholeOptions): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(readWhole(path, options));
}

/**
 * Reads an open file from its first byte to its end, or so many bytes of it.
 *
 * @param expectedBytes What its status says, which may be wrong.
 */
function readUpTo(file: number, expectedBytes: number, mostBytes: number): Uint8Array {
  // A byte more than expected shows the end without another buffer.
  let buffer = new Uint8Array(Math.min(Math.max(expectedBytes + 1, FIRST_BYTES), mostBytes));
  let done = 0;
  while (true) {
    if (done === buffer.length) {
      if (done === mostBytes) break;
      const longer = new Uint8Array(Math.min(2 * done, mostBytes));
      longer.set(buffer);
      buffer = longer;
    }
    const read = readSync(file, buffer, done, buffer.length - done, done);
    if (read === 0) break;
    done += read;
  }
  return buffer.subarray(0, done);
}

/** The error for a file with more bytes than are read. */
export function tooLong(
  what: string,
  path: string,
  kind: ErrorKind,
  size: string,
  limitBytes: number,
): UserError {
  return new UserError(kind, `Cannot ${what}: it has ${size}, at most ${limitBytes} are read`, {
    where: path,
    hint: "Is this the file that was meant?",
  });
}

function notRegular(what: string, path: string, kind: ErrorKind, found?: string): UserError {
  const why = found === undefined ? "it is no regular file" : `it is ${found}`;
  return new UserError(kind, `Cannot ${what}: ${why}`, { where: path, hint: "Name a file" });
}
