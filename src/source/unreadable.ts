// SPDX-License-Identifier: MIT
/**
 * What is said where the system does not let bytes be read.
 *
 * @module
 */

import { orRefused, UserError } from "../errors.ts";

/**
 * Reads of a file or a directory.
 *
 * @throws {UserError} "target" where the system refuses that.
 */
export function orUnreadable<T>(path: string, read: () => T): T {
  return orRefused(read, (code, cause) =>
    new UserError("target", `Cannot read ${path}: ${code}`, {
      where: path,
      hint: "Check the file, its permissions and the disk that it lies on",
      cause,
    }));
}
