// SPDX-License-Identifier: MIT
/**
 * The target directory: outputs get their final names in it only when they are complete.
 *
 *   TARGET/.seedstrap/made   names of the files and directories that seedstrap made in TARGET, one
 *                            per line; those of directories end in "/", of links in "/@"
 *   TARGET/.seedstrap/lock   the process that uses the target, see runtime/lock.ts
 *   TARGET/.seedstrap/parts/ outputs that are being written, under their final names
 *   TARGET/.seedstrap/scratch/ what they are made from
 *   TARGET/.seedstrap/old/   the outputs of the earlier build, until the new ones have their names
 *
 * Only what `made` lists is ever replaced or removed, and what is in the last three. A target may
 * come from anywhere: none of these is used if it is a link.
 *
 * @module
 */

import {
  chmodSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { readWholeText } from "../read.ts";
import { syncDirectory, writeNewFile } from "../runtime/durable.ts";
import { type Lock, lockHolder, removeDeadParts, takeLock } from "../runtime/lock.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { removeFile } from "../runtime/remove.ts";
import { hasOwnDirectory, makeOwnDirectory, WORK_DIR } from "../runtime/own.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { lastRun, toldRun } from "../record/run.ts";
import { reading, writing } from "../refused.ts";

const MADE = "made";
const LOCK = "lock";
const PARTS = "parts";
const SCRATCH = "scratch";
const OLD = "old";

type OutputKind = "file" | "directory" | "link";
const KINDS: readonly OutputKind[] = ["file", "directory", "link"];
/** What follows the name of an output in the list: no name has a slash. */
const MARKS: Readonly<Record<OutputKind, string>> = { file: "", directory: "/", link: "/@" };
/** 0700, because unfinished outputs may have set-user-id bits. */
const PRIVATE = { isPrivate: true } as const;
/** Longest list of names that is read: a target has some ten. */
const MAX_MADE_BYTES = 1024 * 1024;

/**
 * Takes the lock of a target that is there, without writing anything else to it.
 *
 * @returns The lock, or the pid of the process that holds it.
 * @throws {UserError} "target" where it cannot be taken.
 */
export function takeTarget(dir: string): Lock | number {
  const work = join(dir, WORK_DIR);
  return writing(work, () => {
    makeOwnDirectory(work, PRIVATE);
    removeDeadParts(work);
    return takeLock(join(work, LOCK));
  });
}

/** The process `PID-START` that uses a target, by its lock; undefined where none does. */
export function targetHolder(dir: string): string | undefined {
  return reading(dir, () => lockHolder(join(dir, WORK_DIR, LOCK)));
}

/** A target directory that this process has locked, until {@link Target.close}. */
export class Target {
  /** Absolute path. */
  readonly dir: string;
  readonly #work: string;
  #lock: Lock | undefined;
  /** The first of the directories that were made for it, if it was missing. */
  #firstMade: string | undefined;

  private constructor(dir: string) {
    this.dir = dir;
    this.#work = join(dir, WORK_DIR);
  }

  /**
   * Makes the directory if it is missing, takes its lock, and removes unfinished outputs of earlier
   * processes.
   *
   * @param names Files and directories that will be written.
   * @param isRoot Whether the target itself is the root of a bootstrap; it must then hold nothing
   * but outputs of seedstrap.
   * @throws {UserError} "target" where one of them exists and was not made by seedstrap, where
   * another process has the lock, or where the directory cannot be written to.
   */
  static open(dir: string, names: readonly string[], isRoot = false): Target {
    const target = new Target(resolve(dir));
    return writing(target.dir, () => {
      if (statIfThere(target.dir)?.isDirectory() === false) {
        throw new UserError("target", `Cannot use ${target.dir} as target: it is not a directory`, {
          where: target.dir,
          hint: "Name another --target",
        });
      }
      target.#firstMade = mkdirSync(target.dir, { recursive: true });
      // It may become the root of a machine, which all users must be able to enter.
      if (target.#firstMade !== undefined) chmodSync(target.dir, 0o755);
      makeOwnDirectory(target.#work, PRIVATE);
      target.#lock = target.#take();
      try {
        target.#check(names);
        if (isRoot) target.#checkOwn();
        target.#clear();
        for (const name of [PARTS, SCRATCH]) makeOwnDirectory(join(target.#work, name), PRIVATE);
      } catch (error) {
        target.close();
        throw error;
      }
      return target;
    }, "--target");
  }

  /** Returns the path under which an output is written until it is complete. */
  partPath(name: string): string {
    return join(this.#work, PARTS, name);
  }

  /** Returns the path of a file or directory that outputs are made from. */
  scratchPath(name: string): string {
    return join(this.#work, SCRATCH, name);
  }

  /**
   * Turns each entry of a directory that was written at {@link scratchPath} into an output of its
   * own.
   *
   * @returns The names of the entries, for {@link commit}.
   */
  adopt(name: string): string[] {
    const dir = this.scratchPath(name);
    return writing(this.dir, () => {
      const names = readdirSync(dir);
      for (const inner of names) renameSync(join(dir, inner), this.partPath(inner));
      rmSync(dir, { recursive: true });
      return names;
    });
  }

  /** Removes an unfinished output, and what it was made from. */
  removePart(name: string): void {
    writing(this.dir, () => {
      for (const path of [this.partPath(name), this.scratchPath(name)]) {
        rmSync(path, { force: true, recursive: true });
      }
    });
  }

  /** Writes a small output, for {@link commit}. */
  writePart(name: string, text: string): void {
    writing(this.dir, () => writeDurably(this.partPath(name), text));
  }

  /**
   * Renames the outputs to their final names, in place of all outputs of an earlier build. Where
   * that fails, the earlier ones are put back.
   *
   * @param names The last one describes the others (the record): it is moved away first and renamed
   * last, so that it never exists beside files that it does not describe.
   * @returns What is left of the earlier build, and why: a path that has become something else, and
   * what could not be removed.
   * @throws {UserError} "target" where one of them exists and was not made by seedstrap.
   */
  commit(names: readonly string[]): string[] {
    const old = join(this.#work, OLD);
    return writing(this.dir, () => {
      // Checked again, as a rename would replace a file that appeared since open().
      this.#check(names);
      const before = this.#made();
      const strange = this.#listed().keys().filter((name) =>
        !before.has(name) && lstatIfThere(join(this.dir, name)) !== undefined
      );
      const left = [...strange].map((name) => `${join(this.dir, name)}: seedstrap did not make it`);
      const now = new Map(names.map((name) => [name, kindOf(this.partPath(name)) ?? "file"]));
      makeOwnDirectory(old, PRIVATE);
      this.#remember(new Map([...before, ...now]));
      try {
        this.#exchange([...before.keys()], names);
      } catch (error) {
        this.#remember(before);
        throw error;
      }
      this.#remember(now);
      try {
        rmSync(old, { recursive: true });
      } catch (error) {
        if (systemCode(error) === undefined) throw error;
        left.push(`${old}, what was there before: ${messageOf(error)}`);
      }
      return left;
    });
  }

  /** Moves the outputs of the earlier build away, and the new ones to their names: all, or none. */
  #exchange(before: readonly string[], names: readonly string[]): void {
    const last = names.at(-1)!;
    const moved: (readonly [from: string, to: string])[] = [];
    const move = (from: string, to: string) => {
      renameSync(from, to);
      moved.push([from, to]);
    };
    const moveAway = (name: string) => move(join(this.dir, name), join(this.#work, OLD, name));
    try {
      if (before.includes(last)) moveAway(last);
      syncDirectory(this.dir);
      before.filter((name) => name !== last).forEach(moveAway);
      for (const name of names) {
        if (name === last) syncDirectory(this.dir);
        move(this.partPath(name), join(this.dir, name));
      }
      syncDirectory(this.dir);
    } catch (error) {
      for (const [from, to] of moved.reverse()) renameSync(to, from);
      throw error;
    }
  }

  /** Replaces a small output, such as the record, and leaves the others alone. */
  replace(name: string, text: string): void {
    this.writePart(name, text);
    writing(this.dir, () => {
      renameSync(this.partPath(name), join(this.dir, name));
      syncDirectory(this.dir);
    });
  }

  /** Removes unfinished outputs, releases the lock, and leaves no directory without a content. */
  close(): void {
    try {
      try {
        this.#clear();
      } finally {
        this.#lock?.release();
      }
      this.#removeEmpty();
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
    }
  }

  #take(): Lock {
    const path = join(this.#work, LOCK);
    const lock = takeLock(path);
    if (typeof lock !== "number") return lock;
    throw new UserError(
      "target",
      `Cannot write to ${this.dir}: process ${lock} uses it`,
      { where: path, hint: "Wait until it has ended, or name another --target" },
    );
  }

  /** Removes unfinished outputs. Needs the lock: they are then our own, or of dead processes. */
  #clear(): void {
    if (!hasOwnDirectory(this.#work, PRIVATE)) return;
    for (const name of [PARTS, SCRATCH, OLD]) {
      const path = join(this.#work, name);
      if (hasOwnDirectory(path, PRIVATE)) rmSync(path, { recursive: true });
    }
    removeDeadParts(this.#work);
  }

  /** Removes what open() has made, where nothing came into it. */
  #removeEmpty(): void {
    if (this.#lock === undefined) return;
    try {
      rmdirSync(this.#work);
      if (this.#firstMade === undefined) return;
      const end = dirname(this.#firstMade);
      for (let dir = this.dir; dir !== end; dir = dirname(dir)) rmdirSync(dir);
    } catch (error) {
      // Another process may have removed it, or have begun to use it.
      if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(systemCode(error) ?? "")) throw error;
    }
  }

  #check(names: readonly string[]): void {
    const made = this.#made();
    for (const name of names) {
      const path = join(this.dir, name);
      if (made.has(name) || lstatIfThere(path) === undefined) continue;
      throw new UserError("target", `Cannot replace ${path}: seedstrap did not make it`, {
        where: path,
        hint: "Move it away, or name another --target",
      });
    }
  }

  /** Refuses a directory in which a bootstrap has run: its files must not be removed. */
  #checkOwn(): void {
    const made = this.#made();
    const [mount] = mountsBelow(this.dir).filter((place) => place !== realpathSync(this.dir));
    if (mount !== undefined) {
      throw new UserError("target", `Cannot build in ${this.dir}: ${mount} is mounted there`, {
        where: mount,
        hint: "A bootstrap that ran there may have left it: unmount it, then remove the target",
      });
    }
    const stranger = readdirSync(this.dir).find((name) => name !== WORK_DIR && !made.has(name));
    if (stranger === undefined) return;
    const run = lastRun(this.dir);
    if (run !== undefined) {
      throw new UserError(
        "target",
        `Cannot build in ${this.dir}: a bootstrap has run there, and ${stranger} is in it; ` +
          toldRun(run),
        {
          where: join(this.dir, stranger),
          hint:
            "Take what you need out of it (seedstrap harvest), then remove it, or name another " +
            "--target",
        },
      );
    }
    throw new UserError(
      "target",
      `Cannot build in ${this.dir}: seedstrap did not make ${stranger} in it`,
      {
        where: join(this.dir, stranger),
        hint: "A bootstrap that ran there may have left it: remove the target, or name another one",
      },
    );
  }

  /**
   * The outputs that are there. What has become something else, a link in place of a file for
   * example, is none: somebody has put it there.
   */
  #made(): Map<string, OutputKind> {
    const there = this.#listed().entries().filter(([name, kind]) =>
      kindOf(join(this.dir, name)) === kind
    );
    return new Map(there);
  }

  #listed(): Map<string, OutputKind> {
    const path = join(this.#work, MADE);
    if (lstatIfThere(path) === undefined) return new Map();
    const text = readWholeText(path, { limitBytes: MAX_MADE_BYTES, followsLink: false });
    return new Map(
      text.split("\n").flatMap((line) => {
        const [, name = "", mark] = /^([^/\0]+)(|\/|\/@)$/.exec(line) ?? [];
        const kind = KINDS.find((kind) => MARKS[kind] === mark);
        // It could have been tampered with.
        return kind === undefined || [".", "..", WORK_DIR].includes(name) ? [] : [[name, kind]];
      }),
    );
  }

  #remember(made: ReadonlyMap<string, OutputKind>): void {
    const part = this.scratchPath(MADE);
    const lines = [...made].map(([name, kind]) => `${name}${MARKS[kind]}\n`);
    writeDurably(part, lines.join(""));
    renameSync(part, join(this.#work, MADE));
    syncDirectory(this.#work);
  }
}

/**
 * Checks that a target has enough free space, before a long build starts.
 *
 * @param bytes Number of bytes that will be written, without holes.
 * @param option What names the directory, for the hint.
 * @throws {UserError} "target"
 */
export function checkSpace(dir: string, bytes: number, option = "--target"): void {
  const { bavail, bsize } = writing(dir, () => statfsSync(dir));
  const free = bavail * bsize;
  if (free < bytes) {
    throw new UserError("target", `Cannot write ${bytes} bytes to ${dir}: ${free} are free`, {
      where: dir,
      hint: `Free some space there, or name another ${option}`,
    });
  }
}

/** What an output is; undefined for nothing and for what no output is. */
function kindOf(path: string): OutputKind | undefined {
  const stat = lstatIfThere(path);
  if (stat?.isFile()) return "file";
  if (stat?.isDirectory()) return "directory";
  return stat?.isSymbolicLink() ? "link" : undefined;
}

/** Writes a file in place of what has its name, which may be a link. */
function writeDurably(path: string, text: string): void {
  removeFile(path);
  writeNewFile(path, text, 0o644);
}
