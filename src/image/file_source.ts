// SPDX-License-Identifier: MIT
/**
 * An image file as a source of bytes.
 *
 * @module
 */

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { orRefused, UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";

/** A source that has to be closed. */
export interface FileSource extends ByteSource {
  close(): void;
}

/**
 * Opens an image.
 *
 * @throws {UserError} "target" where it cannot be opened or is no regular file.
 */
export function openImage(path: string): FileSource {
  // A pipe is not waited for.
  const file = reading(path, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  const stat = reading(path, () => fstatSync(file));
  if (!stat.isFile()) {
    closeSync(file);
    throw new UserError("target", `Cannot read ${path}: it is no regular file`, { where: path });
  }
  return {
    name: path,
    size: stat.size,
    read: (offset, into) =>
      reading(path, () => {
        let done = 0;
        while (done < into.length) {
          const read = readSync(file, into, done, into.length - done, offset + done);
          if (read === 0) break;
          done += read;
        }
        return done;
      }),
    close: () => closeSync(file),
  };
}

function reading<T>(path: string, read: () => T): T {
  return orRefused(read, (code, cause) =>
    new UserError("target", `Cannot read ${path}: ${code}`, {
      where: path,
      hint: "Check the file and its permissions",
      cause,
    }));
}
