// SPDX-License-Identifier: MIT
/**
 * Reads the data of members directly from their archive; nothing is unpacked to disk.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { type MemberSegment, MIB } from "../format/segment.ts";
import { type FileSource, openImage } from "../source/file.ts";
import { type Compression, detectCompression } from "./compression.ts";
import { expand } from "./expand.ts";
import { ENDS_EARLY, expandError, piecesOf } from "./fault.ts";
import { ByteStream } from "./stream.ts";

/** Members up to this size are cached: the copy for a hard link mostly follows its original. */
const KEEP_BYTES = 64 * MIB;

/** An open archive, and the position up to which it was expanded. */
interface OpenArchive {
  readonly path: string;
  readonly source: FileSource;
  readonly compression: Compression;
  stream?: ByteStream;
}

/**
 * Reads members. A compressed archive is read in one pass as long as the offsets of the members
 * ascend. To go back, it is expanded again from its beginning, which is correct but slow.
 */
export class MemberReader {
  readonly #signal: AbortSignal | undefined;
  #archive: OpenArchive | undefined;
  #kept: { readonly segment: MemberSegment; readonly pieces: readonly Uint8Array[] } | undefined;

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /**
   * Reads the data of a member without verifying it; `checkMember` does that. Read it to its end,
   * or close the reader.
   *
   * @throws {UserError} "format" if the archive is damaged or too short; "target" if it cannot be
   * read; "interrupt".
   */
  async *read(segment: MemberSegment): AsyncGenerator<Uint8Array, void, undefined> {
    const { archive: path, offsetBytes, sizeBytes } = segment;
    if (sizeBytes === 0) return;
    if (this.#kept !== undefined && isSameData(this.#kept.segment, segment)) {
      yield* this.#kept.pieces;
      return;
    }
    this.#kept = undefined;
    const archive = await this.#open(path);
    if (archive.compression === "none") {
      yield* piecesOf(archive.source, offsetBytes, sizeBytes);
      return;
    }
    const stream = await this.#streamTo(archive, offsetBytes);
    const pieces: Uint8Array[] = [];
    for (let done = 0; done < sizeBytes;) {
      const piece = await stream.next(sizeBytes - done);
      if (piece.length === 0) {
        throw expandError(archive.source, archive.source.sizeBytes, ENDS_EARLY);
      }
      done += piece.length;
      if (sizeBytes <= KEEP_BYTES) pieces.push(piece);
      yield piece;
    }
    if (sizeBytes <= KEEP_BYTES) this.#kept = { segment, pieces };
  }

  /** Closes the archive, at any position. */
  async close(): Promise<void> {
    this.#kept = undefined;
    const archive = this.#archive;
    this.#archive = undefined;
    await archive?.stream?.close();
    archive?.source.close();
  }

  async #open(path: string): Promise<OpenArchive> {
    if (this.#archive?.path === path) return this.#archive;
    await this.close();
    const source = openImage(path);
    try {
      return this.#archive = { path, source, compression: detectCompression(source) };
    } catch (error) {
      source.close();
      throw error;
    }
  }

  /** Returns a stream of the expanded archive at an offset. */
  async #streamTo(archive: OpenArchive, offset: number): Promise<ByteStream> {
    if (archive.stream === undefined || archive.stream.position > offset) {
      await archive.stream?.close();
      archive.stream = new ByteStream(expand(archive.source, archive.compression, this.#signal));
    }
    const { stream } = archive;
    if (await stream.skip(offset - stream.position)) return stream;
    throw expandError(archive.source, archive.source.sizeBytes, ENDS_EARLY);
  }
}

/**
 * Refuses a member that has changed since its archive was listed.
 *
 * @param sha256 Digest of the data that was read now, in lower-case hex.
 * @throws {UserError} "verify"
 */
export function checkMember({ archive, member, sha256: wanted }: MemberSegment, sha256: string) {
  if (sha256 === wanted) return;
  const name = JSON.stringify(member);
  throw new UserError(
    "verify",
    `Cannot use archive ${archive}: the SHA-256 of ${name} is ${sha256}, it was ${wanted} when ` +
      "the build began",
    { where: `${archive}: ${name}`, hint: "Do not change the archive during a build" },
  );
}

function isSameData(a: MemberSegment, b: MemberSegment): boolean {
  return a.archive === b.archive && a.offsetBytes === b.offsetBytes && a.sizeBytes === b.sizeBytes;
}
