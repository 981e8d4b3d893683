// SPDX-License-Identifier: MIT
/**
 * Turns at a file of the store, as two processes would corrupt each other's part file.
 *
 *   STORE/.locks/NAME   the lock of a file that is being fetched, see runtime/lock.ts
 *
 * @module
 */
import { rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Lock, takeLock } from "../runtime/lock.ts";
import { local } from "./part.ts";

/** Interval at which the lock is tried again, in milliseconds. */
const LOOK_MS = 100;

/** How to wait for a turn. */
export interface TurnOptions {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Called once for each process that is waited for. */
  readonly onWait: (pid: number) => void;
}

/** A turn that lasts until the lock is released. */
export interface Turn extends Lock {
  /** Whether another process has fetched the file meanwhile, so that it may be in the store now. */
  readonly waited: boolean;
}

/**
 * Waits until no other process fetches a file.
 *
 * @param store The store, which exists.
 * @param name A checked distfile name.
 * @throws {UserError} "target", if the store cannot be written.
 * @throws The reason of `signal`, if it is aborted.
 */
export async function takeTurn(
  store: string,
  name: string,
  { signal, onWait }: TurnOptions,
): Promise<Turn> {
  const dir = join(store, ".locks");
  const path = join(dir, name);
  let waitedFor: number | undefined;
  while (true) {
    signal.throwIfAborted();
    const lock = await local(path, () => Promise.resolve(takeLock(path)));
    if (typeof lock !== "number") {
      return { waited: waitedFor !== undefined, release: () => giveBack(lock, dir) };
    }
    if (lock !== waitedFor) onWait(lock);
    waitedFor = lock;
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
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
