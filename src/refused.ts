// SPDX-License-Identifier: MIT
/**
 * System errors of reading and writing as {@link UserError}s with a hint.
 *
 * @module
 */

import { type ErrorKind, messageOf, orRefused, systemCode, UserError } from "./errors.ts";

/** How a system error is reported. */
export interface RefusalOptions {
  /** "target" unless set, for example to "tree" for a file of the checkout. */
  readonly kind?: ErrorKind;
  /** Returns the hint for a system error, by its `code`. */
  readonly hint?: (code: string) => string;
}

/**
 * Runs a function that makes system calls, and converts their errors.
 *
 * @param what The operation, for "Cannot ...", such as `open /dev/sdb`.
 * @param place The file or directory that it works on.
 * @throws {UserError} of the kind, for a system error; other exceptions are passed on.
 */
export function attempting<T>(
  what: string,
  place: string,
  run: () => T,
  { kind = "target", hint = readHint }: RefusalOptions = {},
): T {
  return orRefused(
    run,
    (code, cause) =>
      new UserError(kind, `Cannot ${what}: ${code}`, { where: place, hint: hint(code), cause }),
  );
}

/** Runs a function that reads a file or directory, as {@link attempting} does. */
export function reading<T>(path: string, read: () => T, options: RefusalOptions = {}): T {
  return attempting(`read ${path}`, path, read, options);
}

/**
 * Runs a function that writes to a file or directory.
 *
 * @param other As for {@link writeError}.
 * @throws {UserError} "target" for a system error; other exceptions are passed on.
 */
export function writing<T>(place: string, write: () => T, other?: string): T {
  return orRefused(write, (_, cause) => writeError(place, cause, other));
}

/**
 * Returns the error for a failed write.
 *
 * @param other What the user could name instead, for the hint: a "place" or a "store".
 * @param after What to do afterwards, for the hint, such as "run again to go on".
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

const TOO_LONG = "A name has at most 255 bytes, a path at most 4095: use a shorter one";

/** Returns the hint for a failed read, by the code of the system error. */
export function readHint(code: string): string {
  return READ_HINTS[code] ?? "Check the file and the disk that it is on";
}

const NO_ACCESS = "Check the owner and the mode of it, and of the directories above it";
const READ_HINTS: Readonly<Record<string, string>> = {
  EACCES: NO_ACCESS,
  EPERM: NO_ACCESS,
  ENOENT: "There is nothing with that name: check the path",
  ENOTDIR: "There is a file in the path where a directory should be: check the path",
  EISDIR: "It is a directory: name a file",
  ELOOP: "It is a symbolic link that leads to itself: replace it by what it should be",
  ENAMETOOLONG: TOO_LONG,
};

const CHECK_PLACE = () => "Check the directory, its permissions and its free space";
const CHECK_OWNER = (other: string) =>
  `Check the owner and the mode of the directory, or name another ${other}`;

/** Hints by the code of the system error. */
const WRITE_HINTS: Readonly<Record<string, (other: string) => string>> = {
  ENOSPC: (other) => `Free some space there, or name another ${other}`,
  EDQUOT: (other) => `Free some of your quota there, or name another ${other}`,
  EROFS: (other) => `The file system is mounted read-only: name another ${other}`,
  EACCES: CHECK_OWNER,
  EPERM: CHECK_OWNER,
  ENAMETOOLONG: () => TOO_LONG,
  EFBIG: (other) => `The file system takes no file of this size: name another ${other}`,
};
