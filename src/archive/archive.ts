// SPDX-License-Identifier: MIT
/**
 * Lists the members of an archive and where their data is. The archive may be hostile.
 *
 * The whole archive is expanded once, in bounded memory, and nothing is written.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { MIB } from "../format/segment.ts";
import { TAR_BLOCK_BYTES } from "../format/tar.ts";
import { isZero } from "../bytes.ts";
import { openImage } from "../source/file.ts";
import { detectCompression } from "./compression.ts";
import { expand } from "./expand.ts";
import { type ExtendedHeader, HeaderReader } from "./header.ts";
import { checkName, checkTarget } from "./names.ts";
import { ByteStream } from "./stream.ts";
import { MemberTree } from "./tree.ts";
import type { Archive, ArchiveMember, DeviceType } from "./types.ts";

/**
 * Highest compression ratio that is accepted: the maximum of deflate ("zlib Technical Details",
 * 1032:1). Source code and programs stay below 20:1. The other compressions could reach a million
 * to one.
 */
export const MAX_RATIO = 1032;
/** The ratio is not limited up to this size, as a few files of zeros are harmless. */
const RATIO_FREE_BYTES = 64 * MIB;

export interface ReadOptions {
  /** Limit for the expanded size of the archive. */
  readonly maxBytes: number;
  /** Names at the top level that are left out with everything below; they are still checked. */
  readonly drop?: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * Lists an archive: tar, plain or compressed with gzip, bzip2, xz or zstd.
 *
 * @throws {UserError} "format", naming archive and member, if it is damaged or leads out of the
 * root; "target" if the file cannot be read; "interrupt".
 */
export async function readArchive(path: string, options: ReadOptions): Promise<Archive> {
  const source = openImage(path);
  try {
    return await readArchiveFrom(source, options);
  } finally {
    source.close();
  }
}

/**
 * Lists an archive from any source, such as a file in an image.
 *
 * @param source Its name is the path in messages.
 * @throws {UserError} Like {@link readArchive}.
 */
export async function readArchiveFrom(
  source: ByteSource,
  { maxBytes, drop = [], signal }: ReadOptions,
): Promise<Archive> {
  const { name: path } = source;
  const compression = detectCompression(source);
  const limitBytes = Math.min(maxBytes, Math.max(RATIO_FREE_BYTES, source.sizeBytes * MAX_RATIO));
  const pieces = expand(source, compression, signal);
  const stream = new ByteStream(bounded(pieces, limitBytes, path));
  try {
    const lister = new Lister(path, stream, limitBytes);
    await lister.list();
    return { path, members: lister.tree.without(new Set(drop)), expandedBytes: stream.position };
  } finally {
    await stream.close();
  }
}

/** Passes a stream on, up to a limit. */
async function* bounded(
  pieces: AsyncIterable<Uint8Array>,
  limitBytes: number,
  path: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    if (bytes > limitBytes) throw tooBig(path, limitBytes);
    yield piece;
  }
}

function tooBig(path: string, limitBytes: number, name?: Uint8Array): UserError {
  const what = name === undefined ? "it" : `member ${shownName(name)}: with it, the archive`;
  return new UserError(
    "format",
    `Cannot use archive ${path}: ${what} expands to more than ${limitBytes} bytes`,
    { where: path, hint: "It may have been made to fill disks: check where it comes from" },
  );
}

/** Returns a name in the form for messages. */
function shownName(name: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(name.subarray(0, 256)));
}

const DEVICE_TYPES: Readonly<Record<string, DeviceType>> = { 3: "char", 4: "block", 6: "fifo" };

/** Walks the members of one archive. */
class Lister {
  readonly tree = new MemberTree();
  readonly #path: string;
  readonly #stream: ByteStream;
  readonly #limitBytes: number;
  readonly #headers: HeaderReader;

  constructor(path: string, stream: ByteStream, limitBytes: number) {
    this.#path = path;
    this.#stream = stream;
    this.#limitBytes = limitBytes;
    this.#headers = new HeaderReader(stream, (what, name) => this.#fault(what, name));
  }

  async list(): Promise<void> {
    for (;;) {
      const header = await this.#headers.next();
      if (header === undefined) break;
      const member = await this.#read(header);
      if (member === undefined) continue;
      const fault = this.tree.add(member);
      if (fault !== undefined) throw this.#fault(fault, header.name);
    }
    // Two blocks of zeros are the end. More zeros fill the last record of a tape.
    for (;;) {
      const piece = await this.#stream.next(MIB);
      if (piece.length === 0) return;
      if (!isZero(piece)) throw this.#fault("data follows its end");
    }
  }

  /** Reads the member of a header; undefined for the root. */
  async #read(header: ExtendedHeader): Promise<ArchiveMember | undefined> {
    const { type, size, name: bytes } = header;
    const checked = checkName(bytes);
    if ("fault" in checked) throw this.#fault(checked.fault, bytes);
    const path = checked.name;
    const isFile = (type === "0" || type === "7") && bytes.at(-1) !== 0x2f;
    // Implementations of tar differ in whether data follows such a header. Refuse it, so that no
    // data can be read as members.
    if (!isFile && size !== 0) throw this.#fault(`it has ${size} bytes, and is not a file`, bytes);
    if (path === "" && (isFile || (type !== "5" && type !== "0"))) {
      throw this.#fault("it would replace the root", bytes);
    }
    if (isFile) return await this.#readFile(path, header);
    const mode = header.mode & 0o7777;
    switch (type) {
      case "0":
      case "5":
        return path === "" ? undefined : { kind: "directory", path, mode };
      case "1": {
        const target = checkName(header.linkName);
        if ("fault" in target) throw this.#fault(`its link target: ${target.fault}`, bytes);
        return { kind: "hardlink", path, target: target.name };
      }
      case "2": {
        const target = checkTarget(path, header.linkName);
        if ("fault" in target) throw this.#fault(target.fault, bytes);
        return { kind: "symlink", path, target: target.name };
      }
      case "3":
      case "4":
      case "6": {
        const kind = DEVICE_TYPES[type]!;
        if (!path.startsWith("dev/")) {
          throw this.#fault(`it is a ${NAMES[kind]} outside dev/`, bytes);
        }
        const [major, minor] = kind === "fifo" ? [0, 0] : [header.major, header.minor];
        return { kind: "device", path, mode: mode & 0o777, type: kind, major, minor };
      }
      default:
        throw this.#fault(`its type ${JSON.stringify(type)} is unknown`, bytes);
    }
  }

  async #readFile(path: string, header: ExtendedHeader): Promise<ArchiveMember> {
    const { size, uid, gid, name } = header;
    const offset = this.#stream.position;
    if (offset + size > this.#limitBytes) throw tooBig(this.#path, this.#limitBytes, name);
    const hash = createHash("sha256");
    for (let done = 0; done < size;) {
      const piece = await this.#stream.next(size - done);
      if (piece.length === 0) {
        throw this.#fault(`it should have ${size} bytes, and the archive ends after ${done}`, name);
      }
      hash.update(piece);
      done += piece.length;
    }
    const padding = -size & (TAR_BLOCK_BYTES - 1);
    if (!await this.#stream.skip(padding)) throw this.#fault("the archive ends inside it", name);
    const withheld = (uid === 0 ? 0 : 0o4000) | (gid === 0 ? 0 : 0o2000);
    const mode = header.mode & 0o7777 & ~withheld;
    return { kind: "file", path, mode, offset, size, sha256: hash.digest("hex") };
  }

  #fault(what: string, name?: Uint8Array): UserError {
    const shown = name && shownName(name);
    const whose = shown === undefined ? "" : `member ${shown}: `;
    return new UserError("format", `Cannot use archive ${this.#path}: ${whose}${what}`, {
      where: `${this.#path}: ${shown ?? `offset ${this.#stream.position} when expanded`}`,
      hint:
        "Archives are used as a whole or not at all: create it again without this, or use another",
    });
  }
}

const NAMES: Readonly<Record<DeviceType, string>> = {
  char: "character device",
  block: "block device",
  fifo: "fifo",
};
