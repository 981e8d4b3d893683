// SPDX-License-Identifier: MIT
/**
 * Turns at a file of the store, as two processes would corrupt each other's part file.
 *
 *   STORE/.locks/SHA256   the lock of a file that is being fetched, see runtime/lock.ts
 *
 * @module
 */
import { rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { systemCode, UserError } from "../errors.ts";
import { type Lock, removeDeadLocks, takeLock } from "../runtime/lock.ts";
import { makeOwnDirectory } from "../runtime/own.ts";
import { forgetOrigin, isStrayOrigin, strayOrigins } from "./origin.ts";
import { local } from "./part.ts";

const LOCKS_DIR = ".locks";

/** Interval at which the lock is tried again, in milliseconds. */
const LOOK_MS = 100;

/** How to wait for a turn. */
export interface TurnOptions {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Called once for each process that is waited for. */
  readonly onWait: (pid: number) => void;
}

/**
 * Waits until no other process fetches a file. One may have done so before, waited for or not: look
 * at the store again.
 *
 * @param store The store, which exists.
 * @throws {UserError} "target", if the store cannot be written.
 * @throws The reason of `signal`, if it is aborted.
 */
export async function takeTurn(
  store: string,
  sha256: string,
  { signal, onWait }: TurnOptions,
): Promise<Lock> {
  const dir = join(store, LOCKS_DIR);
  const path = join(dir, sha256);
  let waitedFor: number | undefined;
  while (true) {
    signal.throwIfAborted();
    const take = () => takeLock(path, () => makeOwnDirectory(dir));
    const lock = await local(path, () => Promise.resolve(take()));
    if (typeof lock !== "number") {
      return { release: () => giveBack(lock, dir) };
    }
    if (lock !== waitedFor) onWait(lock);
    waitedFor = lock;
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
  }
}

/** Takes the turn at a file where no process has it. */
export function takeIfFree(store: string, sha256: string): Lock | "taken" {
  const dir = join(store, LOCKS_DIR);
  const lock = takeLock(join(dir, sha256), () => makeOwnDirectory(dir));
  return typeof lock === "number" ? "taken" : { release: () => giveBack(lock, dir) };
}

/**
 * Removes what killed fetches have left in a store that no later one would come across: locks of
 * files that are whole, and origins of parts that are not there. What cannot be removed stays.
 *
 * @param store The store, which may not exist.
 */
export async function tidyStore(store: string): Promise<void> {
  try {
    for (const sha256 of strayOrigins(store)) {
      // A fetch that runs has the lock: what it has just announced is not stray.
      const dir = join(store, LOCKS_DIR);
      const lock = takeLock(join(dir, sha256), () => makeOwnDirectory(dir));
      if (typeof lock === "number") continue;
      try {
        if (isStrayOrigin(store, sha256)) await forgetOrigin(store, sha256);
      } finally {
        giveBack(lock, dir);
      }
    }
    removeDeadLocks(join(store, LOCKS_DIR));
  } catch (error) {
    if (systemCode(error) === undefined && !(error instanceof UserError)) throw error;
  }
}

function giveBack(lock: Lock, dir: string): void {
  lock.release();
  try {
    rmdirSync(dir);
  } catch {
    // The directory still holds locks of other files.
  }
}
