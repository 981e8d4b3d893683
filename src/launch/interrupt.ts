// SPDX-License-Identifier: MIT
/**
 * Signals to us, as an AbortSignal.
 *
 * @module
 */
import process from "node:process";
import { EXIT, UserError } from "../errors.ts";

/** Those that ask a process to end. */
export const SIGNALS = ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"];
/** Those that a terminal sends for a key: Ctrl-C and Ctrl-\. */
const KEYS: readonly string[] = ["SIGINT", "SIGQUIT"];

/** `npm run` and the like pass on the Ctrl-C that the terminal has sent us already. */
const SAME_KEY_MS = 300;

/** How many children there are that these keys belong to. */
let keyOwners = 0;

/**
 * Runs `fn` while Ctrl-C and Ctrl-\ belong to a child that has our terminal: it gets the key by
 * itself, and may well go on, as a shell does. SIGTERM and SIGHUP still end us.
 */
export async function lendingKeys<T>(fn: () => Promise<T>): Promise<T> {
  keyOwners++;
  try {
    return await fn();
  } finally {
    keyOwners--;
  }
}

/**
 * Runs `fn` with a signal that is aborted by SIGINT, SIGQUIT, SIGTERM and SIGHUP; the reason is a
 * {@link UserError} "interrupt".
 *
 * A second such key gives up on cleaning up: it leaves at once with exit code 130, and only child
 * processes still get killed. The handlers are gone when the promise settles.
 *
 * @returns What `fn` returned, also when it finished in spite of a signal.
 * @throws {UserError} "interrupt", when a signal came and `fn` failed with an AbortError.
 * @throws Whatever else `fn` threw.
 */
export async function withInterrupt<T>(fn: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  let abortedAt = 0;
  const handlers = SIGNALS.map((name) => {
    const handler = () => {
      const isKey = KEYS.includes(name);
      if (isKey && keyOwners > 0) return;
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
  try {
    return await fn(controller.signal);
  } catch (error) {
    // Whoever makes an AbortError of its own instead of throwing the reason means the same.
    if (controller.signal.aborted && error instanceof Error && error.name === "AbortError") {
      throw controller.signal.reason;
    }
    throw error;
  } finally {
    for (const { name, handler } of handlers) process.off(name, handler);
  }
}
