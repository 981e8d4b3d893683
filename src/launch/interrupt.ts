// SPDX-License-Identifier: MIT
/**
 * Signals to this process, as an AbortSignal.
 *
 * @module
 */
import process from "node:process";
import { EXIT, UserError } from "../errors.ts";

/** The signals that ask a process to end. */
export const SIGNALS = ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"];
/** The signals that a terminal sends for a key: Ctrl-C and Ctrl-\. */
const KEYS: readonly string[] = ["SIGINT", "SIGQUIT"];

/** The signal by which `seedstrap stop --now` ends a run. */
export const HURRY_SIGNAL = "SIGUSR2";
const hurried = new AbortController();
/** Raised when what is ended is not to take its time, as for a checkpoint. */
export const hurry: AbortSignal = hurried.signal;

/** `npm run` and similar programs forward a Ctrl-C that the terminal has already sent to us. */
const SAME_KEY_MS = 300;

/** Within so long a second key ends what the first one asked about. */
const CONFIRM_MS = 5000;

/** Asked before a key interrupts: reports whether it may. */
let mayInterrupt: (() => boolean) | undefined;

/**
 * Runs `fn` while a key has to be pressed twice to interrupt: the first one only asks, a second one
 * within 5 s interrupts. SIGTERM and SIGHUP interrupt at once.
 *
 * @param ask Called at a first key: tells the user what the key would do, or returns false where it
 * is to interrupt at once.
 */
export async function confirmingKeys<T>(ask: () => boolean, fn: () => Promise<T>): Promise<T> {
  let askedAt = -Infinity;
  mayInterrupt = () => {
    const sinceMs = performance.now() - askedAt;
    if (sinceMs <= SAME_KEY_MS) return false;
    if (sinceMs <= CONFIRM_MS || !ask()) return true;
    askedAt = performance.now();
    return false;
  };
  try {
    return await fn();
  } finally {
    mayInterrupt = undefined;
  }
}

/** Number of running children that handle these keys. */
let keyOwners = 0;

/**
 * Runs `fn` while a child that has our terminal handles Ctrl-C and Ctrl-\: the terminal sends it
 * the signal too, and the child may continue, as a shell does. SIGTERM and SIGHUP still end us.
 */
export async function lendingKeys<T>(fn: () => Promise<T>): Promise<T> {
  keyOwners++;
  try {
    return await fn();
  } finally {
    keyOwners--;
  }
}

/** What {@link withInterrupt} runs. */
const running = new Set<AbortController>();

/**
 * Ends what {@link withInterrupt} runs, as a signal to this process does.
 *
 * @returns Whether there is anything: it then ends by itself.
 */
export function endRunning(reason: UserError): boolean {
  for (const controller of running) controller.abort(reason);
  return running.size > 0;
}

/**
 * Runs `fn` with a signal that is aborted by SIGINT, SIGQUIT, SIGTERM and SIGHUP; the reason is a
 * {@link UserError} "interrupt".
 *
 * A second Ctrl-C or Ctrl-\ skips the cleanup: the process exits at once with exit code 130, and
 * only child processes are still killed. The handlers are removed when the promise settles.
 *
 * {@link HURRY_SIGNAL} is a signal as these, and raises {@link hurry}.
 *
 * @param options With `outlivesTerminal`, SIGHUP does nothing.
 * @returns What `fn` returned, also if it finished in spite of a signal.
 * @throws {UserError} "interrupt", if a signal came and `fn` failed with an AbortError.
 * @throws Any other error of `fn`.
 */
export async function withInterrupt<T>(
  fn: (signal: AbortSignal) => Promise<T>,
  { outlivesTerminal = false }: { readonly outlivesTerminal?: boolean } = {},
): Promise<T> {
  const controller = new AbortController();
  let abortedAt = 0;
  const handlers = [...SIGNALS, HURRY_SIGNAL].map((name) => {
    const handler = () => {
      if (outlivesTerminal && name === "SIGHUP") return;
      if (name === HURRY_SIGNAL) hurried.abort();
      const isKey = KEYS.includes(name);
      if (isKey && keyOwners > 0) return;
      if (isKey && !controller.signal.aborted && mayInterrupt?.() === false) return;
      if (!controller.signal.aborted) {
        abortedAt = performance.now();
        controller.abort(new UserError("interrupt", `Interrupted by ${name}`));
      } else if (isKey && performance.now() - abortedAt > SAME_KEY_MS) {
        process.exit(EXIT.interrupt);
      }
    };
    process.on(name, handler);
    return { name, handler };
  });
  running.add(controller);
  try {
    return await fn(controller.signal);
  } catch (error) {
    // Some functions throw an AbortError of their own instead of the reason of the signal.
    if (controller.signal.aborted && error instanceof Error && error.name === "AbortError") {
      throw controller.signal.reason;
    }
    throw error;
  } finally {
    running.delete(controller);
    for (const { name, handler } of handlers) process.off(name, handler);
  }
}
