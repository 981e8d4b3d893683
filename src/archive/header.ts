// SPDX-License-Identifier: MIT
/**
 * Reads the headers of a tar stream, each with the extensions in the members before it.
 *
 * @module
 */

import type { UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { readPaxRecords, readTarHeader, TAR_BLOCK_BYTES, type TarHeader } from "../format/tar.ts";
import { isZero } from "../bytes.ts";
import type { ByteStream } from "./stream.ts";

/** A header with long names and pax records applied. */
export type ExtendedHeader = TarHeader;

/** Longest extension: names have 1 KiB at most, and extended attributes of Linux 64 KiB. */
const MAX_EXTENSION_BYTES = MIB;

/** What the extensions set for the next member. */
interface Extension {
  name?: Uint8Array;
  linkName?: Uint8Array;
  size?: number;
}

/** Reads headers from a stream; the caller reads the data between them. */
export class HeaderReader {
  readonly #stream: ByteStream;
  readonly #fault: (what: string, name?: Uint8Array) => UserError;

  constructor(stream: ByteStream, fault: (what: string, name?: Uint8Array) => UserError) {
    this.#stream = stream;
    this.#fault = fault;
  }

  /**
   * Reads the next header, or returns undefined after the two blocks of zeros at the end.
   *
   * @throws {UserError} "format"
   */
  async next(): Promise<ExtendedHeader | undefined> {
    const extension: Extension = {};
    for (let isFirst = true;; isFirst = false) {
      const block = await this.#block();
      if (isZero(block)) {
        if (!isZero(await this.#block())) throw this.#fault("its end has only one block of zeros");
        if (!isFirst) throw this.#fault("it ends where a member was announced");
        return undefined;
      }
      const header = readTarHeader(block);
      if (typeof header === "string") throw this.#fault(header);
      switch (header.type) {
        case "L":
          extension.name = untilNul(await this.#data(header));
          break;
        case "K":
          extension.linkName = untilNul(await this.#data(header));
          break;
        case "x":
          this.#apply(extension, await this.#records(header), header);
          break;
        case "g":
          // Comments are common here. A name or size of all members only serves to confuse readers.
          for (const key of (await this.#records(header)).keys()) {
            if (MEANT_FOR_ONE.test(key)) throw this.#fault(`it sets the ${key} of all members`);
          }
          break;
        case "S":
          throw this.#fault(
            "it is a sparse file of GNU tar: pack it without --sparse",
            header.name,
          );
        default:
          return { ...header, ...extension };
      }
    }
  }

  #apply(extension: Extension, records: Map<string, Uint8Array>, header: TarHeader): void {
    for (const [key, value] of records) {
      if (key === "path") extension.name = value;
      if (key === "linkpath") extension.linkName = value;
      if (key === "size") {
        const size = String.fromCharCode(...value.subarray(0, 20));
        if (!/^[0-9]+$/.test(size) || !Number.isSafeInteger(Number(size))) {
          throw this.#fault("its size is not a number", extension.name ?? header.name);
        }
        extension.size = Number(size);
      }
      if (key.startsWith("GNU.sparse.")) {
        const name = records.get("GNU.sparse.name") ?? extension.name ?? header.name;
        throw this.#fault("it is a sparse file of GNU tar: pack it without --sparse", name);
      }
    }
  }

  async #records(header: TarHeader): Promise<Map<string, Uint8Array>> {
    const records = readPaxRecords(await this.#data(header));
    if (typeof records === "string") throw this.#fault(records, header.name);
    return records;
  }

  /** Reads the data of an extension. */
  async #data({ size, name }: TarHeader): Promise<Uint8Array> {
    if (size > MAX_EXTENSION_BYTES) {
      throw this.#fault(`a header has ${size} bytes, more than ${MAX_EXTENSION_BYTES}`, name);
    }
    const padded = Math.ceil(size / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
    const bytes = await this.#stream.take(padded);
    if (bytes.length < padded) throw this.#fault("the archive ends inside a header", name);
    return bytes.slice(0, size);
  }

  async #block(): Promise<Uint8Array> {
    const block = await this.#stream.take(TAR_BLOCK_BYTES);
    if (block.length === TAR_BLOCK_BYTES) return block;
    throw this.#fault("it ends too early: there is no end mark");
  }
}

const MEANT_FOR_ONE = /^(path|linkpath|size|GNU\.sparse\..*)$/;

function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}
