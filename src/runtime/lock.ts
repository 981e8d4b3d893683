// SPDX-License-Identifier: MIT
/**
 * A lock that one of several processes of a machine holds, and that dies with its holder.
 *
 *   LOCK/            a directory
 *   LOCK/PID-START   an empty file: the process that holds it and its start time, as a pid may
 *                    come again
 *
 * A directory can be renamed onto another one only while that is empty, so exactly one of several
 * processes takes a lock, and its name is there from the first moment. What a dead process has left
 * is emptied by that process's name: nobody empties by mistake a lock that has a new holder. A
 * process of another container, whose numbers are not ours, cannot be told from a dead one.
 *
 * @module
 */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { systemCode, UserError } from "../errors.ts";

/** `PID-START`; the start is empty where the system does not tell it. */
const NAME = /^([1-9]\d*)-(\d*)$/;

/** Others are in the way for a few rounds; whatever is for so many is no process, and stays. */
const MOST_ROUNDS = 1000;

/** A lock that this process holds. */
export interface Lock {
  /** Gives the lock up. May be called twice. */
  release(): void;
}

/**
 * Takes a lock.
 *
 * @param path Where its directory will be; its parent is there.
 * @returns The lock, or the pid of the process that holds it.
 * @throws {UserError} "target" where something else lies there.
 * @throws The system's error where nothing can be written there.
 */
export function takeLock(path: string): Lock | number {
  const own = ownName();
  const fresh = join(dirname(path), `${own}.part`);
  for (let round = 1;; round++) {
    try {
      mkdirSync(fresh, { recursive: true });
      writeFileSync(join(fresh, own), "");
      renameSync(fresh, path);
      return { release: () => giveUp(path, own) };
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      // ENOENT: whoever holds the lock has cleared away what looked half-written.
      const isPassing = isOneOf(error, "ENOTEMPTY", "EEXIST", "ENOTDIR", "ENOENT");
      if (!isPassing || round === MOST_ROUNDS) throw error;
    }
    const holder = holderOf(path);
    if (holder === undefined) continue;
    if (isRunning(holder)) return Number.parseInt(holder);
    giveUp(path, holder);
  }
}

/** The name `PID-START` of this process. */
export function ownName(): string {
  return `${process.pid}-${stateOf(process.pid)?.start ?? ""}`;
}

/** The name of who holds a lock; undefined where nobody does, which may be over the next moment. */
function holderOf(path: string): string | undefined {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    if (isOneOf(error, "ENOENT")) return undefined;
    throw isOneOf(error, "ENOTDIR") ? notOurs(path) : error;
  }
  const [name] = names;
  if (name === undefined) return undefined;
  if (!NAME.test(name)) throw notOurs(join(path, name));
  return name;
}

function notOurs(path: string): UserError {
  return new UserError("target", `Cannot take a lock: ${path} is none of seedstrap`, {
    where: path,
    hint: "Move it away",
  });
}

function giveUp(path: string, name: string): void {
  try {
    unlinkSync(join(path, name));
    rmdirSync(path);
  } catch (error) {
    // Somebody else was faster, and may hold it already.
    if (!isOneOf(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
  }
}

/** Whether the process of a name runs; undefined where it is no name of a process. */
export function isRunning(name: string): boolean | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [pid, start] = [Number(match[1]), match[2]];
  const state = stateOf(pid);
  if (state !== undefined) return !state.isDead && (start === "" || state.start === start);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isOneOf(error, "EPERM");
  }
}

/**
 * Start time of a process in clock ticks since boot, and whether it only waits to be buried.
 *
 * @returns undefined where there is no such process, or the system does not tell.
 * @see proc(5): fields 3 and 22 of /proc/PID/stat
 */
function stateOf(pid: number): { start: string; isDead: boolean } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The name of the program, in brackets, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { start: fields[19] ?? "", isDead: ["Z", "X"].includes(fields[0]!) };
}

function isOneOf(error: unknown, ...codes: string[]): boolean {
  return codes.includes(systemCode(error) ?? "");
}
