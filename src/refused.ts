// SPDX-License-Identifier: MIT
/**
 * What the system refuses to read or to write, as an error that says what helps.
 *
 * @module
 */

import { type ErrorKind, messageOf, orRefused, systemCode, UserError } from "./errors.ts";

/** How a refusal is told. */
export interface RefusalOptions {
  /** "target" unless set: the file is none of the checkout's. */
  readonly kind?: ErrorKind;
  /** What helps, by the `code` of the system. */
  readonly hint?: (code: string) => string;
}

/**
 * Runs what the system may refuse.
 *
 * @param what What is done, for "Cannot ...", such as `open /dev/sdb`.
 * @param place The file or directory that it is done to.
 * @throws {UserError} of the kind, where the system refuses; anything else that is thrown passes.
 */
export function attempting<T>(
  what: string,
  place: string,
  run: () => T,
  { kind = "target", hint = () => READ_HINT }: RefusalOptions = {},
): T {
  return orRefused(
    run,
    (code, cause) =>
      new UserError(kind, `Cannot ${what}: ${code}`, { where: place, hint: hint(code), cause }),
  );
}

/** Runs what reads a file or directory, as {@link attempting} does. */
export function reading<T>(path: string, read: () => T, options: RefusalOptions = {}): T {
  return attempting(`read ${path}`, path, read, options);
}

/**
 * Runs what writes to a file or directory.
 *
 * @throws {UserError} "target" for what the system refuses; anything else that is thrown passes.
 */
export function writing<T>(place: string, write: () => T): T {
  return orRefused(write, (_, cause) => writeError(place, cause));
}

/**
 * The error for what could not be written.
 *
 * @param other What could be named in place of this one: a "place", or a "store".
 * @param after What else is to be done, such as "run again to go on".
 */
export function writeError(
  place: string,
  cause: unknown,
  other = "place",
  after?: string,
): UserError {
  const helps = WRITE_HINTS[systemCode(cause) ?? ""] ?? CHECK_PLACE;
  return new UserError("target", `Cannot write to ${place}: ${messageOf(cause)}`, {
    where: place,
    hint: [helps(other), ...(after === undefined ? [] : [after])].join("; "),
    cause,
  });
}

const READ_HINT = "Check the file, its permissions and the disk that it lies on";

const CHECK_PLACE = () => "Check the directory, its permissions and its free space";
const CHECK_OWNER = (other: string) =>
  `Check the owner and the mode of the directory, or name another ${other}`;

/** What helps, by the code of the system. */
const WRITE_HINTS: Readonly<Record<string, (other: string) => string>> = {
  ENOSPC: (other) => `Free some space there, or name another ${other}`,
  EDQUOT: (other) => `Free some of your quota there, or name another ${other}`,
  EROFS: (other) => `The file system is mounted read-only: name another ${other}`,
  EACCES: CHECK_OWNER,
  EPERM: CHECK_OWNER,
  EFBIG: () => "The file system cannot hold a file of this size: use a smaller --target-size",
};
