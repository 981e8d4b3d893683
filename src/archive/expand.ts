// SPDX-License-Identifier: MIT
/**
 * An archive as the stream of bytes that it expands to.
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
 * Expands a file from its beginning, no faster than it is read.
 *
 * @returns Pieces that are the reader's to keep. Who does not read to the end calls `return()`.
 * @throws {UserError} "format" for a file that is damaged, cut short or followed by something
 * else; "interrupt" when the signal is raised.
 */
export async function* expand(
  source: ByteSource,
  compression: Compression,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of piecesBy(source, compression)) {
    // Signals are only seen between two tasks.
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
      return piecesOf(source, 0, source.size);
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
