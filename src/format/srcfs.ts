// SPDX-License-Identifier: MIT
/**
 * srcfs: the commands that builder-hex0 reads from its boot disk.
 *
 *   srcfs   = { file | directory } { command } 00*
 *   file      = "src " size " " path "\n" byte{size}      size: decimal, in bytes
 *   directory = "src 0 " path "\n"
 *   command   = any other line of the builder-hex0 shell
 *
 * There is no index and no terminator: the list ends with the first NUL where a command would
 * begin. A directory and an empty file both have size 0 and cannot be distinguished. A path may
 * contain spaces but no newline, and every directory comes before its content.
 *
 * Source: builder-hex0 README, "The src command" and "Limitations".
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { type ByteSource, Cursor, formatError } from "./reader.ts";
import { type Body, type Segment, segmentSize, textSegment, totalSize } from "./segment.ts";

/** Longest path in bytes: builder-hex0 keeps 1,024 with the NUL. */
export const MAX_SRCFS_PATH_BYTES = 1023;

/** A file, or a directory if there is no body. */
export interface SrcfsEntry {
  /** Path in builder-hex0, mostly relative: `./steps/manifest`. */
  readonly path: string;
  /** Content; absent for a directory. */
  readonly body?: Body;
}

/**
 * Returns the segments of a srcfs.
 *
 * @param entries Files and directories in their order in the image.
 * @param commands Shell lines after them, without newlines.
 * @throws {UserError} "format" for a path or command that the format cannot represent.
 */
export function srcfs(entries: readonly SrcfsEntry[], commands: readonly string[]): Segment[] {
  const segments: Segment[] = [];
  for (const { path, body } of entries) {
    segments.push(recordHead(path, body === undefined ? 0 : segmentSize(body)));
    // Also an empty body, so that the writer verifies that its file is still empty.
    if (body !== undefined) segments.push(body);
  }
  for (const command of commands) segments.push(textSegment(`${checkedCommand(command)}\n`));
  return segments;
}

/**
 * Returns the size of a srcfs in bytes.
 *
 * @param entries Files with their sizes; a directory has none.
 */
export function srcfsBytes(
  entries: readonly { readonly path: string; readonly size: number }[],
  commands: readonly string[],
): number {
  const files = entries.reduce(
    (sum, { path, size }) => sum + segmentSize(recordHead(path, size)) + size,
    0,
  );
  return files + totalSize(srcfs([], commands));
}

/** Returns the record before the content of a file, or the whole record of a directory. */
function recordHead(path: string, size: number): Segment {
  return textSegment(`src ${size} ${checkedPath(path)}\n`);
}

/** A record of a srcfs as it is read back. */
export type SrcfsRecord =
  | {
    readonly kind: "entry";
    readonly path: string;
    /** Size of the content; 0 for a directory. */
    readonly sizeBytes: number;
    /** Offset of the record in the image. */
    readonly offsetBytes: number;
    /** Offset of the content in the image. */
    readonly dataOffsetBytes: number;
  }
  | { readonly kind: "command"; readonly text: string; readonly offsetBytes: number }
  /** The end of the list: the offset of the first NUL, or of the end of the image. */
  | { readonly kind: "end"; readonly offsetBytes: number };

const SRC = "src ";
/** Longest line of a record: "src ", sixteen digits, a space, the path and a newline. */
const MAX_LINE_BYTES = SRC.length + 16 + 1 + MAX_SRCFS_PATH_BYTES + 1;

/**
 * Walks a srcfs.
 *
 * @param start Offset of its first byte in the source.
 * @returns Its records in order; the last one is always "end".
 * @throws {UserError} "format", with the offset, for a line that is not a command, a size that is
 * not a number, and content that would extend past the end of the source.
 */
export function* readSrcfs(
  source: ByteSource,
  start: number,
): Generator<SrcfsRecord, void, undefined> {
  const cursor = new Cursor(source, start);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (;;) {
    const offsetBytes = cursor.offsetBytes;
    const window = cursor.peek(MAX_LINE_BYTES);
    if (window.length === 0 || window[0] === 0) {
      yield { kind: "end", offsetBytes };
      return;
    }
    const length = window.indexOf(0x0a);
    if (length < 0) {
      throw formatError(
        source,
        offsetBytes,
        `no newline within ${window.length} bytes of a command`,
      );
    }
    let line: string;
    try {
      line = decoder.decode(window.subarray(0, length));
    } catch {
      throw formatError(source, offsetBytes, "a command is not valid UTF-8");
    }
    cursor.offsetBytes += length + 1;
    if (!line.startsWith(SRC)) {
      if (!/^[\x20-\x7e]+$/.test(line)) {
        throw formatError(source, offsetBytes, "neither a src record nor a shell command");
      }
      yield { kind: "command", text: line, offsetBytes };
      continue;
    }
    const match = /^src (0|[1-9][0-9]{0,15}) ([^\0]+)$/.exec(line);
    if (match === null) throw formatError(source, offsetBytes, `not a src record: ${quote(line)}`);
    const sizeBytes = Number(match[1]);
    const path = match[2]!;
    if (new TextEncoder().encode(path).length > MAX_SRCFS_PATH_BYTES) {
      throw formatError(source, offsetBytes, `a path is longer than ${MAX_SRCFS_PATH_BYTES} bytes`);
    }
    const dataOffsetBytes = cursor.offsetBytes;
    if (sizeBytes > cursor.remainingBytes) {
      throw formatError(
        source,
        offsetBytes,
        `${quote(path)} claims ${sizeBytes} bytes, but only ${cursor.remainingBytes} are left`,
      );
    }
    cursor.offsetBytes += sizeBytes;
    yield { kind: "entry", path, sizeBytes, offsetBytes, dataOffsetBytes };
  }
}

function checkedPath(path: string): string {
  const bytes = new TextEncoder().encode(path).length;
  if (bytes === 0 || bytes > MAX_SRCFS_PATH_BYTES) {
    throw new UserError(
      "format",
      `Cannot put ${
        quote(path)
      } into a srcfs: its path has ${bytes} bytes, expected 1 to ${MAX_SRCFS_PATH_BYTES}`,
      { hint: "Shorten the name, or move the file out of the checkout" },
    );
  }
  if (/[\0\n]/.test(path) || path !== path.toWellFormed()) {
    throw new UserError(
      "format",
      `Cannot put ${
        quote(path)
      } into a srcfs: a path must be valid Unicode without newline and NUL`,
      { hint: "Rename the file, or move it out of the checkout" },
    );
  }
  return path;
}

function checkedCommand(command: string): string {
  if (!/^[\x20-\x7e]+$/.test(command) || command.startsWith(SRC)) {
    throw new UserError("format", `Cannot put ${quote(command)} into a srcfs as a command`);
  }
  return command;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
