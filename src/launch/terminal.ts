// SPDX-License-Identifier: MIT
/**
 * The user's terminal while a guest runs: it is left as it was found, and keys that are typed for
 * nobody do not end up in the user's shell.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { clearInterval, setImmediate, setInterval, setTimeout } from "node:timers";
import { findProgram } from "./process.ts";

/** Line wrap on, cursor visible, no attributes: what guests and firmware change. */
const RESTORE = "\x1b[?7h\x1b[?25h\x1b[0m";

/**
 * Runs something while the terminal is guarded.
 *
 * @param isLent Whether the guest has the terminal for itself: then keys are its own, and its output
 * may have left anything in it.
 * @param run Calls `takeKeys` once the guest runs: before that sudo may ask for a password.
 * @param onKeys Takes the keys that are typed from then on, while it is not lent and we are in the
 * foreground.
 */
export async function guardingTerminal<T>(
  isLent: boolean,
  run: (takeKeys: () => void) => Promise<T>,
  onKeys: (keys: Uint8Array) => void = () => {},
): Promise<T> {
  const stty = process.stdin.isTTY ? await findProgram("stty") : undefined;
  const settings = new Settings(stty);
  const keys = isLent ? undefined : new KeyReader(settings, onKeys);
  if (isLent) settings.save();
  try {
    return await run(() => keys?.start());
  } finally {
    keys?.stop();
    settings.restore();
    if (isLent && process.stdout.isTTY) process.stdout.write(RESTORE);
  }
}

/**
 * The settings of the terminal that is our standard input. In the background they are those of the
 * shell or of another program: setting them would stop us.
 */
class Settings {
  readonly #stty: string | undefined;
  #saved: string | undefined;

  /** @param stty undefined where standard input is no terminal, or there is no such program. */
  constructor(stty: string | undefined) {
    this.#stty = stty;
  }

  /** Reports whether they are saved, and may be changed now. */
  save(): boolean {
    if (this.#stty === undefined || !isForeground()) return false;
    this.#saved ??= callStty(this.#stty, ["-g"]);
    return this.#saved !== undefined;
  }

  /** Keys come one by one, and are not shown. Ctrl-C and its like stay signals. */
  setForKeys(): void {
    callStty(this.#stty!, ["-echo", "-icanon"]);
  }

  restore(): void {
    if (this.#saved !== undefined && isForeground()) callStty(this.#stty!, [this.#saved]);
  }
}

/** A shell does not tell a job that runs that it has come into the foreground: so it is looked at. */
const LOOK_MS = 1000;

/** So long after it was asked to, the system has stopped us, or we go on. */
const STOPPED_MS = 50;

/** Reads the keys of the terminal while we are in the foreground. */
class KeyReader {
  readonly #settings: Settings;
  readonly #onKeys: (keys: Uint8Array) => void;
  #timer: ReturnType<typeof setInterval> | undefined;
  #reads = false;

  constructor(settings: Settings, onKeys: (keys: Uint8Array) => void) {
    this.#settings = settings;
    this.#onKeys = onKeys;
  }

  /** May be called more than once. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#take();
    this.#timer = setInterval(() => {
      if (!this.#reads) this.#take();
    }, LOOK_MS).unref();
    process.on("SIGTSTP", this.#onStop);
    process.on("SIGCONT", this.#take);
    // Where the process exits at once, as at a second Ctrl-C.
    process.on("exit", this.#giveBack);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    process.off("SIGTSTP", this.#onStop);
    process.off("SIGCONT", this.#take);
    process.off("exit", this.#giveBack);
    this.#giveBack();
  }

  /** We are in the foreground, or have come back from where we were stopped. */
  readonly #take = (): void => {
    this.#stopReading();
    if (!this.#settings.save()) return;
    this.#settings.setForKeys();
    process.stdin.on("data", this.#onKeys).resume();
    this.#reads = true;
  };

  readonly #giveBack = (): void => {
    this.#stopReading();
    this.#settings.restore();
  };

  #stopReading(): void {
    if (!this.#reads) return;
    process.stdin.off("data", this.#onKeys);
    process.stdin.pause();
    this.#reads = false;
  }

  /**
   * Ctrl-Z: gives the terminal back, and is stopped as if nobody listened. The system does not do
   * that where no shell could continue us. Whoever else listens has their turn first.
   */
  readonly #onStop = (): void => {
    this.#giveBack();
    setImmediate(() => {
      const listeners = process.listeners("SIGTSTP");
      process.removeAllListeners("SIGTSTP");
      process.kill(process.pid, "SIGTSTP");
      setTimeout(() => {
        if (this.#timer === undefined) return;
        for (const listener of listeners) process.on("SIGTSTP", listener);
        this.#take();
      }, STOPPED_MS);
    });
  };
}

/** Runs stty on our terminal. @returns What it printed; undefined where it failed. */
function callStty(program: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(program, args, {
    stdio: ["inherit", "pipe", "ignore"],
    encoding: "utf8",
  });
  return status === 0 ? stdout.trim() : undefined;
}

/**
 * Reports whether we are in the foreground of our terminal: to read it or to change it from the
 * background would stop us.
 *
 * @see proc(5): fields 5 and 8 of /proc/PID/stat, the process group and that of the foreground
 */
export function isForeground(): boolean {
  try {
    const stat = readFileSync("/proc/self/stat", "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[2] === fields[5];
  } catch {
    return true; // no /proc: nobody starts a guest in the background there by chance
  }
}
