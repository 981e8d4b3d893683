// SPDX-License-Identifier: MIT
/**
 * What the system refuses to write, as an error that says what helps.
 *
 * @module
 */

import { messageOf, orRefused, systemCode, UserError } from "../errors.ts";

/**
 * Runs what writes to a file or directory.
 *
 * @throws {UserError} "target" for what the system refuses; anything else that is thrown passes.
 */
export function writing<T>(place: string, write: () => T): T {
  return orRefused(write, (_, cause) => writeError(place, cause));
}

/** The error for what could not be written. */
export function writeError(place: string, cause: unknown): UserError {
  const code = systemCode(cause);
  return new UserError("target", `Cannot write to ${place}: ${messageOf(cause)}`, {
    where: place,
    hint: code === "ENOSPC" || code === "EDQUOT"
      ? "Free some space there, or name another place"
      : code === "EFBIG"
      ? "The file system cannot hold a file of this size: use a smaller --target-size"
      : "Check the directory, its permissions and its free space",
    cause,
  });
}
