// SPDX-License-Identifier: MIT
/**
 * A lock between processes of one machine that becomes free when its holder dies.
 *
 *   LOCK/            a directory
 *   LOCK/PID-START   an empty file: the pid of the holder and its start time, as pids are reused
 *
 * A directory can be renamed onto another one only while that is empty, so exactly one of several
 * processes takes a lock, and the name of the holder is in it from the start. The lock of a dead
 * process is removed by the name of that process, so a lock that has a new holder is never removed
 * by mistake. A live process of another PID namespace looks like a dead one.
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
import { lstatIfThere } from "./stat.ts";

const PART = ".part";
/** What rmdir() says of what is no empty directory. */
const NOT_EMPTY = ["ENOENT", "ENOTDIR", "ENOTEMPTY", "EEXIST"];
/** `PID-START`; the start is empty where the system does not report it. */
const NAME = /^([1-9]\d*)-(\d*)$/;

/** Other processes cause a few failed rounds. So many have another cause, which is reported. */
const MOST_ROUNDS = 1000;

/** A lock that this process holds. */
export interface Lock {
  /** Releases the lock. May be called twice. */
  release(): void;
}

/**
 * Takes a lock.
 *
 * @param path The directory of the lock; its parent must exist, or `makeParent` makes it.
 * @param makeParent Called before each attempt, for a parent that other processes remove.
 * @returns The lock, or the pid of the process that holds it.
 * @throws {UserError} "target" if something other than a lock is there.
 * @throws The system's error if nothing can be written there.
 */
export function takeLock(path: string, makeParent: () => void = () => {}): Lock | number {
  const own = ownName();
  const fresh = join(dirname(path), `${own}${PART}`);
  for (let round = 1;; round++) {
    makeParent();
    try {
      // Neither follows a link: what has that name is removed below, and made in the next round.
      mkdirSync(fresh);
      writeFileSync(join(fresh, own), "", { flag: "wx" });
      renameSync(fresh, path);
      return { release: () => giveUp(path, own) };
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      // ENOENT: the parent was removed, or our `.part`, which looked unfinished to another process.
      const isPassing = isOneOf(error, "ENOTEMPTY", "EEXIST", "ENOTDIR", "ENOENT");
      if (!isPassing || round === MOST_ROUNDS) throw error;
    }
    const holder = holderOf(path);
    if (holder === undefined) continue;
    if (isRunning(holder)) return Number.parseInt(holder);
    giveUp(path, holder);
  }
}

/** Returns the name `PID-START` of this process. */
export function ownName(): string {
  return `${process.pid}-${stateOf(process.pid)?.start ?? ""}`;
}

/** Returns the name `PID-START` of the process that holds a lock; undefined where none lives. */
export function lockHolder(path: string): string | undefined {
  const holder = heldBy(path);
  return holder !== undefined && isRunning(holder) === true ? holder : undefined;
}

/** Returns the name of the holder of a lock, or undefined if it is free at this moment. */
function holderOf(path: string): string | undefined {
  // A link would lead to the directory of others, where a name is removed that looks like a holder.
  if (lstatIfThere(path)?.isDirectory() === false) throw notOurs(path);
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
  return new UserError("target", `Cannot take the lock "${path}": it was not made by seedstrap`, {
    where: path,
    hint: "Move it away",
  });
}

/**
 * Removes the locks in a directory whose holders are dead, which nobody may ever want again, and
 * the directory, where it is empty then.
 *
 * @throws The system's error if they cannot be removed.
 */
export function removeDeadLocks(dir: string): void {
  if (lstatIfThere(dir)?.isDirectory() === false) return;
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if (isOneOf(error, "ENOENT")) return;
    throw error;
  }
  for (const name of names) {
    const path = join(dir, name);
    const holder = makerOf(name) ?? heldBy(path);
    if (holder !== undefined) removeDead(path, holder);
    // A process that is killed as it gives a lock up leaves an empty one, which is free.
    else ignoring(NOT_EMPTY, () => rmdirSync(path));
  }
  ignoring(["ENOENT", "ENOTEMPTY", "EEXIST"], () => rmdirSync(dir));
}

/**
 * Removes what dead processes have left in a directory when they were to take a lock in it.
 *
 * @throws The system's error if it cannot be removed.
 */
export function removeDeadParts(dir: string): void {
  for (const name of readdirSync(dir)) {
    const maker = makerOf(name);
    if (maker !== undefined) removeDead(join(dir, name), maker);
  }
}

/** Returns the process `PID-START` that a name `PID-START.part` is of. */
function makerOf(name: string): string | undefined {
  const maker = name.endsWith(PART) ? name.slice(0, -PART.length) : "";
  return NAME.test(maker) ? maker : undefined;
}

/** Removes the lock of a dead process, or what was to become one, which is empty or has its name. */
function removeDead(path: string, holder: string): void {
  if (isRunning(holder) !== false || lstatIfThere(path)?.isDirectory() !== true) return;
  ignoring(["ENOENT", "ENOTDIR"], () => unlinkSync(join(path, holder)));
  ignoring(NOT_EMPTY, () => rmdirSync(path));
}

/** Likewise {@link holderOf}; undefined also for what is no lock. */
function heldBy(path: string): string | undefined {
  try {
    return holderOf(path);
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

function ignoring(codes: readonly string[], work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!isOneOf(error, ...codes)) throw error;
  }
}

function giveUp(path: string, name: string): void {
  try {
    unlinkSync(join(path, name));
    rmdirSync(path);
  } catch (error) {
    // Another process has removed it first, and may hold it already.
    if (!isOneOf(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
  }
}

/** Reports whether the process `PID-START` runs; undefined if `name` has another form. */
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
 * Returns the start time of a process in clock ticks since boot, and whether it is a zombie.
 *
 * @returns undefined if there is no such process, or the system has no /proc.
 * @see proc(5): fields 3 and 22 of /proc/PID/stat
 */
function stateOf(pid: number): { start: string; isDead: boolean } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The name of the program, in brackets, may contain anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { start: fields[19] ?? "", isDead: ["Z", "X"].includes(fields[0]!) };
}

function isOneOf(error: unknown, ...codes: string[]): boolean {
  return codes.includes(systemCode(error) ?? "");
}
