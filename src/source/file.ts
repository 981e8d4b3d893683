// SPDX-License-Identifier: MIT
/**
 * An image file or a block device as a byte source.
 *
 * @module
 */

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { SECTOR_BYTES } from "../format/segment.ts";
import { reading } from "../refused.ts";
import { Holes } from "./extents.ts";

/** A source over an open file; the caller closes it. */
export interface FileSource extends ByteSource {
  /** Whether it is a block device, which may be larger than the image on it. */
  readonly isDevice: boolean;
  close(): void;
}

/**
 * Opens an image.
 *
 * @throws {UserError} "target" where the file cannot be opened, or is neither a regular file nor a
 * block device.
 */
export function openImage(path: string): FileSource {
  // O_NONBLOCK: opening a fifo must not wait for a writer.
  const file = reading(path, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  const stat = reading(path, () => fstatSync(file));
  const isDevice = stat.isBlockDevice();
  if (!stat.isFile() && !isDevice) {
    closeSync(file);
    throw new UserError(
      "target",
      `Cannot read ${path}: it is neither a regular file nor a block device`,
      { where: path, hint: "Name a file or a device" },
    );
  }
  const holes = isDevice ? undefined : new Holes(file, stat.size);
  const read = (offset: number, into: Uint8Array) =>
    reading(path, () => {
      if (holes?.fill(offset, into)) return into.length;
      let done = 0;
      while (done < into.length) {
        const read = readSync(file, into, done, into.length - done, offset + done);
        if (read === 0) break;
        done += read;
      }
      return done;
    });
  return {
    name: path,
    isDevice,
    sizeBytes: isDevice ? sizeOfDevice(read) : stat.size,
    read,
    ...(holes && {
      nextData: (offset: number) => reading(path, () => holes.nextData(offset)),
      runs: (offsetBytes: number, sizeBytes: number) => [{ path, offsetBytes, sizeBytes }],
    }),
    close: () => closeSync(file),
  };
}

/** Finds the size of a device by trial reads: neither runtime can seek to its end. */
function sizeOfDevice(read: ByteSource["read"]): number {
  const sector = new Uint8Array(SECTOR_BYTES);
  const has = (sectors: number) => read((sectors - 1) * SECTOR_BYTES, sector) === SECTOR_BYTES;
  let most = 1;
  while (has(most)) most *= 2;
  let least = Math.floor(most / 2);
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    if (has(middle)) least = middle;
    else most = middle;
  }
  return least * SECTOR_BYTES;
}
