// SPDX-License-Identifier: MIT
/**
 * Expected failures and their exit codes.
 *
 * A failure that the user, the network or a disk can cause is a {@link UserError}. Any other
 * exception is a bug.
 *
 * @module
 */

/**
 * Exit codes and their descriptions; README.md and the manual page use the same words.
 * A public interface: scripts rely on it, so add, never renumber.
 */
export const EXITS = {
  done: { code: 0, text: "done" },
  /** Any exception that is no {@link UserError}. */
  bug: { code: 1, text: "a bug" },
  /** The command line names something that does not exist, or options that conflict. */
  usage: { code: 2, text: "usage" },
  /** A manifest, sources or bootstrap.cfg that cannot be parsed. */
  tree: { code: 3, text: "the checkout cannot be parsed" },
  /** No mirror and no source has it. */
  fetch: { code: 4, text: "a distfile could not be fetched" },
  /** Bytes whose SHA-256 is not the expected one. */
  verify: { code: 5, text: "a wrong SHA-256" },
  /** An image or an archive that is not in the expected format. */
  format: { code: 6, text: "not an image, or a damaged one" },
  /** The target or another local file. */
  target: { code: 7, text: "the target: in the way, full, not writable" },
  /** A limit of the machine that the plan is for. */
  limit: { code: 8, text: "the plan breaks a limit" },
  /** Nothing of a bootstrap has run, or nothing proves that it has come to its end. */
  launch: { code: 9, text: "the guest could not be started, or its end is not known" },
  /** The machine could not run a bootstrap. */
  preflight: { code: 10, text: "a bad preflight verdict" },
  /** Two images, or the packages of two runs. */
  different: { code: 11, text: "what was compared or reproduced differs" },
  // How a run failed: what a script would do about each is different.
  step: { code: 12, text: "a step of the bootstrap failed" },
  checksum: { code: 13, text: "the bootstrap found a wrong checksum" },
  /** A panic, a reset, or an end before everything was built. */
  crash: { code: 14, text: "the guest panicked, reset, or ended early" },
  stall: { code: 15, text: "the guest was silent for too long (--stall)" },
  "host-disk-full": { code: 16, text: "a disk of this host filled up under the guest" },
  /** QEMU, chroot or bwrap was killed, or failed while the guest ran. */
  died: { code: 17, text: "QEMU, or what else runs the guest, died" },
  kvm: { code: 18, text: "KVM cannot run the guest" },
  /** Nothing failed: the guest was saved, and goes on with `resume`. */
  budget: { code: 19, text: "the budget is spent (--budget): go on with resume" },
  /** Ctrl-C or SIGTERM: 128 + SIGINT, as in shells. */
  interrupt: { code: 130, text: "interrupted" },
  /** 128 + SIGPIPE, as in shells. */
  readerGone: { code: 141, text: "the reader of the output went away" },
} as const;

type Exits = typeof EXITS;

/** The codes of {@link EXITS} alone. */
export const EXIT = Object.fromEntries(
  Object.entries(EXITS).map(([name, { code }]) => [name, code]),
) as { readonly [Name in keyof Exits]: Exits[Name]["code"] };

/** The kind of a failure, which decides the exit code. */
export type ErrorKind = Exclude<keyof Exits, "done" | "bug" | "readerGone">;

/** Details of a failure besides its message. */
export interface ErrorDetail {
  /** Location of the fault: `file:line`, `file:line:column`, a URL, or `file, offset N`. */
  readonly where?: string;
  /** What the user can do next, as a sentence. */
  readonly hint?: string;
  /** The error that caused this one. */
  readonly cause?: unknown;
}

/**
 * An expected failure.
 *
 * The message says what could not be done, with the value and the actual and the expected state,
 * and has no final period.
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

  /** Returns the exit code for this kind, see {@link EXIT}. */
  get exitCode(): number {
    return EXIT[this.kind];
  }
}

/** Returns the `code` of a system error (`ENOENT`, `ENOSPC`, ...), or undefined for others. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof Error && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return undefined;
}

/**
 * Runs a function that makes system calls.
 *
 * @param toError Converts a system error; `code` is as in {@link systemCode}.
 * @throws {UserError} what `toError` returns; other exceptions are passed on.
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
 * Runs checks that do not depend on one another, and reports all failures at once.
 *
 * @throws {UserError} of the kind of the first failure, with the messages and hints of all.
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

/** Returns the message of a thrown value of any type. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Throws if the signal is raised.
 *
 * @throws {UserError} "interrupt"
 */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new UserError("interrupt", "Interrupted");
}
