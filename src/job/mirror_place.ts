// SPDX-License-Identifier: MIT
/**
 * The directory of a mirror.
 *
 *   DEST/NAME                  a distfile, under the name that a mirror has it by
 *   DEST/SHA256SUMS            the digests of all of them, as sha256sum(1) writes them
 *   DEST/index.html            the same for a browser
 *   DEST/.seedstrap/           what is not of the mirror
 *     made                     digests of the files that seedstrap has put here, or was about to; of
 *                              these alone one is ever removed
 *     lock                     the process that works here
 *     sha256/, .locks/ …       a store for unfinished downloads; a file leaves it for DEST when it is
 *                              verified, so that a mirror needs the room of its files only
 *
 * @module
 */

import {
  constants,
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { sortedByBytes } from "../bytes.ts";
import { systemCode, UserError } from "../errors.ts";
import { ORIGINS_DIR } from "../fetch/origin.ts";
import { SNAPSHOT_SCRATCH } from "../fetch/snapshot.ts";
import { DIGESTS_DIR, makeStoreDirectory, storePath } from "../fetch/store.ts";
import { type FileSegment, fileSegment } from "../format/segment.ts";
import { formatSums, parseSums } from "../format/sums.ts";
import { digestEach, digestOne } from "../hash/pool.ts";
import type { LocatedFile } from "../plan/images.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { readWholeText } from "../read.ts";
import { writing } from "../refused.ts";
import { syncDirectory, writeNewFile } from "../runtime/durable.ts";
import { type Lock, takeLock } from "../runtime/lock.ts";
import { hasOwnDirectory, makeOwnDirectory, WORK_DIR } from "../runtime/own.ts";
import { removeFile } from "../runtime/remove.ts";
import { clearScratch } from "../runtime/scratch.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { underUmask } from "../runtime/umask.ts";

/** What a mirror has besides its distfiles. */
export const MIRROR_SUMS = "SHA256SUMS";
export const MIRROR_INDEX = "index.html";

/** A file by name and digest. */
export interface NamedDigest {
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** A file of a mirror, verified. */
export interface MirrorFile extends NamedDigest {
  readonly sizeBytes: number;
}

/** Limit for SHA256SUMS and the record of what was made; a line of live-bootstrap has 90 bytes. */
const MAX_SUMS_BYTES = 64 * 1024 * 1024;

/** A directory that is a mirror, or becomes one; no other process works there. */
export class MirrorPlace {
  readonly dir: string;
  /** Directory for unfinished downloads, of the layout of a store. */
  readonly work: string;
  readonly #lock: Lock;
  readonly #made: Map<string, string>;

  private constructor(dir: string, work: string, lock: Lock, made: Map<string, string>) {
    this.dir = dir;
    this.work = work;
    this.#lock = lock;
    this.#made = made;
  }

  /**
   * Makes the directory, or opens it.
   *
   * @throws {UserError} "target" where it cannot be made, another process works there, or it has a
   * SHA256SUMS or an index.html that seedstrap has not made.
   */
  static open(path: string): MirrorPlace {
    const dir = resolve(path);
    const work = join(dir, WORK_DIR);
    return writing(dir, () => {
      mkdirSync(dir, { recursive: true });
      if (!hasOwnDirectory(work, { isPrivate: true })) checkFree(dir);
      makeOwnDirectory(work, { isPrivate: true });
      const lock = takeLock(join(work, "lock"));
      if (typeof lock === "number") {
        throw new UserError("target", `Cannot make a mirror in ${dir}: process ${lock} does`, {
          where: dir,
          hint: "Wait until it ends",
        });
      }
      return new MirrorPlace(dir, work, lock, readSums(join(work, "made")));
    }, "directory");
  }

  close(): void {
    this.#lock.release();
  }

  pathOf(name: string): string {
    return join(this.dir, name);
  }

  /** The files that seedstrap has put here, or was about to. */
  made(): NamedDigest[] {
    return [...this.#made].map(([name, sha256]) => ({ name, sha256 }));
  }

  /** Notes files that are about to be put here, so that a killed process does not forget them. */
  announce(files: readonly NamedDigest[]): void {
    for (const { name, sha256 } of files) this.#made.set(name, sha256);
    this.#keepMade();
  }

  /** Returns those of the files that are here with the right bytes, in order. */
  async verified(
    files: readonly NamedDigest[],
    progress: Progress,
    signal: AbortSignal | undefined,
  ): Promise<MirrorFile[]> {
    return await verifiedIn(this.dir, files, progress, signal);
  }

  /**
   * Copies a file of this machine to the work directory; one of a store, which nobody changes, gets
   * a second name where the file system allows it.
   *
   * @returns Whether it has the right bytes.
   */
  async take(file: LocatedFile, sha256: string, signal: AbortSignal | undefined): Promise<boolean> {
    const path = storePath(this.work, sha256);
    writing(path, () => makeStoreDirectory(path));
    writing(path, () => removeFile(path));
    // A store's has been verified a moment ago.
    if (file.from === "store" && lstatIfThere(file.path)?.isFile() && linked(file.path, path)) {
      return true;
    }
    const part = `${path}.copy`;
    writing(part, () => removeFile(part));
    const segment: FileSegment = fileSegment(file, undefined);
    const to = { kind: "file", path: part, mode: underUmask(0o666), isSynced: true } as const;
    const task = { segment, kind: "tree", to } as const;
    const got = await inMirror(part, () => digestOne(task, { signal }));
    writing(path, () => got === sha256 ? renameSync(part, path) : removeFile(part));
    return got === sha256;
  }

  /**
   * Gives a verified file of the work directory its names, and takes it out of there.
   *
   * @param names At least one.
   * @returns Its size in bytes.
   */
  settle(sha256: string, names: readonly string[]): number {
    const path = storePath(this.work, sha256);
    const [last = "", ...others] = names.toReversed();
    for (const name of others) {
      const part = `${path}.copy`;
      writing(this.pathOf(name), () => {
        removeFile(part);
        if (!linked(path, part)) copyFileSync(path, part, constants.COPYFILE_FICLONE);
        renameSync(part, this.pathOf(name));
      }, "directory");
    }
    writing(this.pathOf(last), () => {
      renameSync(path, this.pathOf(last));
      removeFile(join(this.work, ORIGINS_DIR, sha256));
    }, "directory");
    return statIfThere(this.pathOf(last))?.size ?? 0;
  }

  /**
   * Removes files that seedstrap has put here.
   *
   * @param files Verified a moment ago.
   */
  prune(files: readonly MirrorFile[]): void {
    for (const { name } of files) {
      writing(this.pathOf(name), () => removeFile(this.pathOf(name)), "directory");
      this.#made.delete(name);
    }
    if (files.length > 0) this.#keepMade();
  }

  /** Writes a file of the mirror that is made from its files, unless it has that content. */
  write(name: string, text: string): boolean {
    const path = this.pathOf(name);
    if (statIfThere(path)?.isFile() === true) {
      const found = readWholeText(path, { limitBytes: Math.max(MAX_SUMS_BYTES, text.length) });
      if (found === text) return false;
    }
    this.#replace(path, text);
    return true;
  }

  /**
   * Removes what is unfinished and not wanted any more, and syncs the mirror.
   *
   * @param wanted Digests of the files that a later run may still get.
   */
  tidy(wanted: ReadonlySet<string>): void {
    clearScratch(join(this.work, SNAPSHOT_SCRATCH));
    writing(this.dir, () => {
      const digests = join(this.work, DIGESTS_DIR);
      for (const inner of namesIn(digests)) {
        for (const name of namesIn(join(digests, inner))) {
          if (!wanted.has(name.slice(0, 64))) removeFile(join(digests, inner, name));
        }
        removeEmpty(join(digests, inner));
      }
      removeEmpty(digests);
      removeEmpty(join(this.work, ORIGINS_DIR));
      syncDirectory(this.dir);
    }, "directory");
  }

  #keepMade(): void {
    const files = sortedByBytes(this.made(), ({ name }) => name);
    this.#replace(join(this.work, "made"), sumsText(files));
  }

  #replace(path: string, text: string): void {
    const part = join(this.work, "new");
    writing(path, () => {
      removeFile(part);
      writeNewFile(part, text, 0o666);
      renameSync(part, path);
    }, "directory");
  }
}

/**
 * Does work of others that writes to a mirror: what they name in its place, such as another store,
 * does not help here.
 *
 * @throws {UserError} as `work`, "target" with a hint for a mirror.
 */
export async function inMirror<T>(place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UserError) || error.kind !== "target") throw error;
    const { message, where = place, cause } = error;
    const hint = "Check its free space, or name another directory; run again to go on";
    throw new UserError("target", message, { where, hint, cause });
  }
}

/** Returns the text of SHA256SUMS. */
export function sumsText(files: readonly NamedDigest[]): string {
  return formatSums(files.map(({ name, sha256 }) => ({ path: name, sha256 })));
}

/** Returns those of some files that are in a directory with the right bytes, in order. */
export async function verifiedIn(
  dir: string,
  files: readonly NamedDigest[],
  progress: Progress = UNWATCHED,
  signal: AbortSignal | undefined = undefined,
): Promise<MirrorFile[]> {
  const there = files.flatMap(({ name, sha256 }) => {
    const stat = statIfThere(join(dir, name));
    return stat?.isFile() ? [{ name, sha256, sizeBytes: stat.size }] : [];
  });
  progress.begin("checking the mirror", there.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const tasks = there.map(({ name, sizeBytes }) => ({
    segment: fileSegment({ path: join(dir, name), sizeBytes }),
    kind: "target",
  } as const));
  const right: MirrorFile[] = [];
  let done = 0;
  const onBytes = (bytes: number) => progress.add(bytes);
  for await (const got of digestEach(tasks, { onBytes, signal })) {
    const file = there[done++]!;
    if (got === file.sha256) right.push(file);
  }
  return right;
}

function namesIn(dir: string): string[] {
  return lstatIfThere(dir)?.isDirectory() === true ? readdirSync(dir) : [];
}

function removeEmpty(dir: string): void {
  if (lstatIfThere(dir)?.isDirectory() && readdirSync(dir).length === 0) rmdirSync(dir);
}

function readSums(path: string): Map<string, string> {
  if (lstatIfThere(path)?.isFile() !== true) return new Map();
  return parseSums(readWholeText(path, { limitBytes: MAX_SUMS_BYTES, followsLink: false }));
}

/** Refuses a directory in which the files that a mirror has besides are somebody else's. */
function checkFree(dir: string): void {
  for (const name of [MIRROR_SUMS, MIRROR_INDEX]) {
    if (lstatIfThere(join(dir, name)) === undefined) continue;
    throw new UserError(
      "target",
      `Cannot make a mirror in ${dir}: it has a ${name} that seedstrap did not make`,
      { where: join(dir, name), hint: "Move it away, or name another directory" },
    );
  }
}

/** Gives a file a second name; false where the file systems or their owners do not allow it. */
function linked(path: string, second: string): boolean {
  try {
    linkSync(path, second);
    return true;
  } catch (error) {
    const code = systemCode(error) ?? "";
    if (["EXDEV", "EPERM", "EMLINK", "EOPNOTSUPP", "ENOSYS", "EACCES"].includes(code)) return false;
    throw error;
  }
}
