// SPDX-License-Identifier: MIT
/**
 * Expands an archive into a stream of bytes.
 *
 * @module
 */

import { setImmediate } from "node:timers/promises";
import { throwIfInterrupted } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { bunzip2 } from "./bzip2.ts";
import type { Compression } from "./compression.ts";
import { piecesOf } from "./fault.ts";
import { unxz } from "./xz.ts";
import { gunzip, unzstd } from "./zlib.ts";

/**
 * Expands a file from its beginning, no faster than the result is read.
 *
 * @returns Chunks that the reader may keep. A reader that stops before the end calls `return()`.
 * @throws {UserError} "format" if the file is damaged, truncated or followed by other data;
 * "interrupt" if the signal is aborted.
 */
export async function* expand(
  source: ByteSource,
  compression: Compression,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of piecesBy(source, compression)) {
    // Signals are only handled between two tasks.
    await setImmediate();
    throwIfInterrupted(signal);
    yield piece;
  }
}

function piecesBy(
  source: ByteSource,
  compression: Compression,
): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  switch (compression) {
    case "none":
      return piecesOf(source, 0, source.sizeBytes);
    case "gzip":
      return gunzip(source);
    case "bzip2":
      return bunzip2(source);
    case "xz":
      return unxz(source);
    case "zstd":
      return unzstd(source);
  }
}
