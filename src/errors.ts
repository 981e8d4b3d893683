// SPDX-License-Identifier: MIT
/**
 * Expected failures and their exit codes.
 *
 * Whatever the user, the network or a disk can cause is a {@link UserError}. Anything else that
 * is thrown is a bug.
 *
 * @module
 */

/**
 * How the program ends: exit codes, and what they say, which --help, README.md and the manual page
 * have in the same words. A public interface: scripts rely on it, so add, never renumber.
 */
export const EXITS = {
  done: { code: 0, text: "done" },
  /** Whatever is thrown that is no {@link UserError}. */
  bug: { code: 1, text: "a bug" },
  /** The command line asks for something that does not exist or does not go together. */
  usage: { code: 2, text: "usage" },
  /** A manifest, sources or bootstrap.cfg that cannot be read as such. */
  tree: { code: 3, text: "the checkout is not a valid one" },
  /** No mirror and no source had it. */
  fetch: { code: 4, text: "a distfile is not available" },
  /** Bytes that do not have the SHA-256 that they should have. */
  verify: { code: 5, text: "a wrong SHA-256" },
  /** An image or an archive that is not in the format it should be in. */
  format: { code: 6, text: "not an image, or a damaged one" },
  /** The target or another local file. */
  target: { code: 7, text: "the target: in the way, full, not writable" },
  /** A limit of the machine that would run it. */
  limit: { code: 8, text: "the plan breaks a limit" },
  launch: { code: 9, text: "the guest could not be started, or failed" },
  /** The machine would not carry a bootstrap. */
  preflight: { code: 10, text: "a bad preflight verdict" },
  /** Two images, or the packages of two runs. */
  different: { code: 11, text: "what was compared or reproduced differs" },
  /** Ctrl-C or SIGTERM: 128 + SIGINT, as shells have it. */
  interrupt: { code: 130, text: "interrupted" },
  /** 128 + SIGPIPE, likewise. */
  readerGone: { code: 141, text: "the reader of the output went away" },
} as const;

type Exits = typeof EXITS;

/** The codes of {@link EXITS} alone. */
export const EXIT = Object.fromEntries(
  Object.entries(EXITS).map(([name, { code }]) => [name, code]),
) as { readonly [Name in keyof Exits]: Exits[Name]["code"] };

/** What went wrong, by who has to act; decides the exit code. */
export type ErrorKind = Exclude<keyof Exits, "done" | "bug" | "readerGone">;

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
