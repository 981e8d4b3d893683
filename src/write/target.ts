// SPDX-License-Identifier: MIT
/**
 * The target directory: outputs appear in it under their final name only when they are whole.
 *
 *   TARGET/.seedstrap/made   names of the files in TARGET that seedstrap made, one a line
 *   TARGET/.seedstrap/lock   process that is writing there: pid and start time
 *   TARGET/.seedstrap/*.part what is being written
 *
 * Only files that `made` lists are ever replaced or removed.
 *
 * @module
 */

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { messageOf, orRefused, systemCode, UserError } from "../errors.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";

const WORK_DIR = ".seedstrap";
const MADE = "made";
const LOCK = "lock";
const PART = ".part";

/** A target directory that this process writes to, until {@link Target.close}. */
export class Target {
  /** Absolute path. */
  readonly dir: string;
  readonly #work: string;

  private constructor(dir: string) {
    this.dir = dir;
    this.#work = join(dir, WORK_DIR);
  }

  /**
   * Makes the directory where it is missing, takes its lock, and removes what an earlier run left
   * half-written.
   *
   * @param names Files that will be written.
   * @throws {UserError} "target" where one of them is there and was not made by seedstrap, where
   * another process is writing, or where the directory cannot be written to.
   */
  static open(dir: string, names: readonly string[]): Target {
    const target = new Target(resolve(dir));
    return writing(target.dir, () => {
      if (statIfThere(target.dir)?.isDirectory() === false) {
        throw new UserError("target", `Cannot use ${target.dir} as target: it is no directory`, {
          where: target.dir,
          hint: "Name another --target",
        });
      }
      mkdirSync(target.#work, { recursive: true });
      target.#lock();
      try {
        target.#check(names);
        for (const name of readdirSync(target.#work)) {
          if (name.endsWith(PART)) rmSync(join(target.#work, name));
        }
      } catch (error) {
        target.close();
        throw error;
      }
      return target;
    });
  }

  /** Path under which a file is written before it is whole. */
  partPath(name: string): string {
    return join(this.#work, `${name}${PART}`);
  }

  /** Removes what was half-written under a name. */
  removePart(name: string): void {
    writing(this.dir, () => rmSync(this.partPath(name), { force: true }));
  }

  /** Makes a small file whole, for {@link commit}. */
  writePart(name: string, text: string): void {
    writing(this.dir, () => writeDurably(this.partPath(name), text));
  }

  /**
   * Moves what was written to its final names, and removes what an earlier build made and this
   * one did not.
   *
   * @param names The last one describes the others: it is gone first and comes back last, so that
   * it never stands beside files that it does not describe.
   */
  commit(names: readonly string[]): void {
    const last = names.at(-1)!;
    writing(this.dir, () => {
      const before = this.#made();
      this.#remember([...new Set([...before, ...names])]);
      rmSync(join(this.dir, last), { force: true });
      for (const name of before) {
        if (!names.includes(name)) rmSync(join(this.dir, name), { force: true });
      }
      syncDirectory(this.dir);
      for (const name of names) {
        if (name === last) syncDirectory(this.dir);
        renameSync(this.partPath(name), join(this.dir, name));
      }
      syncDirectory(this.dir);
      this.#remember(names);
    });
  }

  /** Removes what is half-written, and the lock. */
  close(): void {
    try {
      for (const name of readdirSync(this.#work)) {
        if (name.endsWith(PART) || name === LOCK) rmSync(join(this.#work, name), { force: true });
      }
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
    }
  }

  #lock(): void {
    const path = join(this.#work, LOCK);
    const own = `${process.pid} ${startTime(process.pid)}\n`;
    try {
      writeFileSync(path, own, { flag: "wx" });
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw error;
      const [pid = "", start = ""] = readFileSync(path, "utf8").trim().split(" ");
      if (/^[1-9]\d*$/.test(pid) && isAlive(Number(pid)) && startTime(Number(pid)) === start) {
        throw new UserError(
          "target",
          `Cannot write to ${this.dir}: process ${pid} is writing there`,
          {
            where: path,
            hint: "Wait for it, or name another --target",
          },
        );
      }
      writeFileSync(path, own);
    }
  }

  #check(names: readonly string[]): void {
    const made = this.#made();
    for (const name of names) {
      const path = join(this.dir, name);
      const stat = lstatIfThere(path);
      if (stat === undefined || (stat.isFile() && made.includes(name))) continue;
      throw new UserError("target", `Cannot replace ${path}: seedstrap did not make it`, {
        where: path,
        hint: "Move it away, or name another --target",
      });
    }
  }

  #made(): string[] {
    try {
      return readFileSync(join(this.#work, MADE), "utf8").split("\n").filter(isPlainName);
    } catch (error) {
      if (systemCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  #remember(names: readonly string[]): void {
    const part = join(this.#work, `${MADE}${PART}`);
    writeDurably(part, names.map((name) => `${name}\n`).join(""));
    renameSync(part, join(this.#work, MADE));
    syncDirectory(this.#work);
  }
}

/**
 * Checks that a target has room, before hours are spent.
 *
 * @param bytes What will be written, holes left out.
 * @throws {UserError} "target"
 */
export function checkSpace(dir: string, bytes: number): void {
  const { bavail, bsize } = writing(dir, () => statfsSync(dir));
  const free = bavail * bsize;
  if (free < bytes) {
    throw new UserError("target", `Cannot write ${bytes} bytes to ${dir}: ${free} are free`, {
      where: dir,
      hint: "Free some space there, or name another --target",
    });
  }
}

/** A name that stays in its directory: `made` could have been tampered with. */
function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name);
}

function writeDurably(path: string, text: string): void {
  const file = openSync(path, "w", 0o644);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function syncDirectory(dir: string): void {
  const file = openSync(dir, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}

/** Start time of a process in clock ticks, where Linux tells: a pid alone may have come again. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

function writing<T>(dir: string, write: () => T): T {
  return orRefused(
    write,
    (_, cause) =>
      new UserError("target", `Cannot write to ${dir}: ${messageOf(cause)}`, {
        where: dir,
        hint: "Check the target directory, its permissions and its free space",
        cause,
      }),
  );
}
