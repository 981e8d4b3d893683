// SPDX-License-Identifier: MIT
/**
 * Turns at a file of the store: two processes would spoil each other's part of it.
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

/** How often it is looked whether the other process is done, in milliseconds. */
const LOOK_MS = 100;

/** How to wait for a turn. */
export interface TurnOptions {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Told once for each process that is waited for. */
  readonly onWait: (pid: number) => void;
}

/** A turn that is ours until the lock is released. */
export interface Turn extends Lock {
  /** Whether somebody else had the file before us: it may be there now. */
  readonly waited: boolean;
}

/**
 * Waits until no other process fetches a file.
 *
 * @param store The store, which is there.
 * @param name A checked distfile name.
 * @throws {UserError} "target", if the store cannot be written; the reason of `signal` if it fires.
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
    // Other files are being fetched.
  }
}
