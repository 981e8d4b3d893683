// SPDX-License-Identifier: MIT
/**
 * Expected failures and their exit codes.
 *
 * Whatever the user, the network or a disk can cause is a {@link UserError}. Anything else that
 * is thrown is a bug and ends with exit code 1.
 *
 * @module
 */

/**
 * Exit code of each kind of failure. A public interface: scripts rely on it, so add, never
 * renumber. 0 is success, 1 is a bug, 130 an interrupt (128 + SIGINT, as shells have it).
 */
export const EXIT = {
  /** The command line asks for something that does not exist or does not go together. */
  usage: 2,
  /** The checkout: a manifest, sources or bootstrap.cfg that cannot be read as such. */
  tree: 3,
  /** A distfile that no mirror and no source had. */
  fetch: 4,
  /** Bytes that do not have the SHA-256 that they should have. */
  verify: 5,
  /** An image that is not in the format it should be in. */
  format: 6,
  /** The target or another local file: not writable, full, in the way. */
  target: 7,
  /** The plan breaks a limit of the machine that would run it. */
  limit: 8,
  /** The guest could not be started, or failed. */
  launch: 9,
  /** Preflight: the machine would not carry a bootstrap. */
  preflight: 10,
  /** Two images, or the packages of two runs, that were compared are not equal. */
  different: 11,
  /** Ctrl-C or SIGTERM. */
  interrupt: 130,
} as const;

/** What went wrong, by who has to act; decides the exit code. */
export type ErrorKind = keyof typeof EXIT;

/** Where and how to go on, in addition to what failed. */
export interface ErrorDetail {
  /** Place of the fault: `file:line`, `file:line:column`, a URL, or `file, offset N`. */
  readonly where?: string;
  /** What the user can do next, as a sentence. */
  readonly hint?: string;
  /** The error below this one. */
  readonly cause?: unknown;
}

/**
 * A failure that was foreseen.
 *
 * The message says what could not be done, with the value, the actual and the wanted state, and
 * has no final period.
 */
export class UserError extends Error {
  readonly kind: ErrorKind;
  readonly where: string | undefined;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, message: string, detail: ErrorDetail = {}) {
    super(message, { cause: detail.cause });
    this.name = "UserError";
    this.kind = kind;
    this.where = detail.where;
    this.hint = detail.hint;
  }

  /** The exit code for this kind, see {@link EXIT}. */
  get exitCode(): number {
    return EXIT[this.kind];
  }
}

/** The `code` of a system error (`ENOENT`, `ENOSPC`, ...), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof Error && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return undefined;
}

/**
 * Runs something that the system may refuse.
 *
 * @param toError Makes an error of the refusal; `code` is as in {@link systemCode}.
 * @throws {UserError} what `toError` makes; anything else that is thrown passes.
 */
export function orRefused<T>(
  run: () => T,
  toError: (code: string, cause: unknown) => UserError,
): T {
  try {
    return run();
  } catch (error) {
    const code = systemCode(error);
    throw code === undefined ? error : toError(code, error);
  }
}

/**
 * Runs checks that do not depend on one another, so that all that is wrong is said at once.
 *
 * @throws {UserError} of the first kind that failed, with the message and the hint of each.
 */
export function checkAll(checks: readonly (() => void)[]): void {
  const failed = checks.flatMap((check) => {
    try {
      check();
      return [];
    } catch (error) {
      if (error instanceof UserError) return [error];
      throw error;
    }
  });
  const [first, ...others] = failed;
  if (first === undefined) return;
  if (others.length === 0) throw first;
  const hints = failed.flatMap(({ hint }) => hint === undefined ? [] : [hint]);
  throw new UserError(first.kind, failed.map(({ message }) => message).join("\n"), {
    ...(first.where !== undefined && { where: first.where }),
    hint: [...new Set(hints)].join(". "),
    cause: first,
  });
}

/** One line for an unknown thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Stops what was told to stop.
 *
 * @throws {UserError} "interrupt" when the signal is raised.
 */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new UserError("interrupt", "Interrupted");
}
