// SPDX-License-Identifier: MIT
/**
 * Opens an image: one file, or a bundle in parts.
 *
 * @module
 */

import { type FileSource, openImage } from "./file.ts";
import { findParts, openParts } from "./parts.ts";

/**
 * Opens a file, or all parts of a bundle that was split.
 *
 * @param path The file, or for a bundle in parts any name that `findParts()` takes.
 * @throws {UserError} "target" where it cannot be read, "format" where parts are missing.
 */
export function openSource(path: string): FileSource {
  const parts = findParts(path);
  return parts === undefined || parts.length === 1
    ? openImage(path)
    : { ...openParts(parts), isDevice: false };
}
