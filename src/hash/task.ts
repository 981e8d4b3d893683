// SPDX-License-Identifier: MIT
/**
 * What the threads of a pool are asked, and what they answer.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { closeSync, constants, copyFileSync, ftruncateSync, openSync, readSync } from "node:fs";
import { isZero } from "../bytes.ts";
import { type ErrorKind, systemCode, UserError } from "../errors.ts";
import { type FileRun, type FileSegment, runsOf } from "../format/segment.ts";
import { openRegular } from "../read.ts";
import { reading, writing } from "../refused.ts";
import { changedFile, openRun } from "../source/run.ts";
import { PIECE_BYTES, settle, type Settled, writeAll } from "./piece.ts";

const { O_NOFOLLOW, O_WRONLY } = constants;

/** A file, or a part of one, whose digest is wanted, and perhaps a copy. */
export interface HashTask {
  readonly segment: FileSegment;
  /**
   * What the file is, which decides the error: of the checkout, one that was written, or an image or
   * bundle, which is longer than the runs.
   */
  readonly kind: "tree" | "target" | "image";
  /** Where its bytes go, in order; nowhere if absent. */
  readonly to?: Destination;
  /** Only the copy is wanted; the digest is then an empty text. */
  readonly isUnhashed?: true;
}

/** Where a thread writes what it reads. */
export type Destination =
  /** Runs of files that exist, together as long as the segment. */
  | { readonly kind: "runs"; readonly runs: readonly FileRun[] }
  | NewFilePlace;

/**
 * A new file, which must not exist; long runs of zeros become holes. It is a clone if the file
 * system can make one of a whole file.
 */
export interface NewFilePlace extends Settled {
  readonly kind: "file";
  readonly path: string;
}

/** A request to a thread; it answers each with a {@link HashAnswer}, in their order. */
export interface HashRequest {
  readonly task: HashTask;
  /** Shared counters of the work that the task belongs to: see {@link Shared}. */
  readonly shared: SharedArrayBuffer;
}

export type HashAnswer =
  | { readonly kind: "done"; readonly sha256: string }
  /** The work was given up before the end of this task. */
  | { readonly kind: "stopped" }
  | {
    readonly kind: "refused";
    readonly error: {
      readonly kind: ErrorKind;
      readonly message: string;
      readonly where: string | undefined;
      readonly hint: string | undefined;
    };
  }
  /** Not the fault of the file. */
  | { readonly kind: "broken"; readonly message: string };

/** What the threads that share one work have in common, as it happens. */
export class Shared {
  static readonly #SIZE_BYTES = 16;
  readonly buffer: SharedArrayBuffer;
  readonly #bytes: BigInt64Array;
  readonly #isStopped: Int32Array;

  constructor(buffer = new SharedArrayBuffer(Shared.#SIZE_BYTES)) {
    this.buffer = buffer;
    this.#bytes = new BigInt64Array(buffer, 0, 1);
    this.#isStopped = new Int32Array(buffer, 8, 1);
  }

  /** Bytes that were hashed so far. */
  get bytes(): number {
    return Number(Atomics.load(this.#bytes, 0));
  }

  add(bytes: number): void {
    Atomics.add(this.#bytes, 0, BigInt(bytes));
  }

  get isStopped(): boolean {
    return Atomics.load(this.#isStopped, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#isStopped, 0, 1);
  }
}

/** Does what a request asks for. */
export function answer({ task, shared: buffer }: HashRequest, piece: Uint8Array): HashAnswer {
  const shared = new Shared(buffer);
  try {
    const sha256 = digest(task, shared, piece);
    return sha256 === undefined ? { kind: "stopped" } : { kind: "done", sha256 };
  } catch (error) {
    if (error instanceof UserError) {
      const { kind, message, where, hint } = error;
      return { kind: "refused", error: { kind, message, where, hint } };
    }
    return { kind: "broken", message: String(error) };
  }
}

/** A buffer for {@link answer}. */
export function newPiece(): Uint8Array {
  return new Uint8Array(PIECE_BYTES);
}

/** Returns the digest of a task, or undefined where the work is given up. */
function digest(task: HashTask, shared: Shared, piece: Uint8Array): string | undefined {
  const hash = task.isUnhashed ? undefined : createHash("sha256");
  const copy = task.to && openCopy(task, task.to);
  // What was cloned is read where it is now: the other one may change.
  const { segment, kind } = copy?.clone ?? task;
  try {
    for (const run of runsOf(segment)) {
      const { file, close } = kind === "image"
        ? openRegular(run.path)
        : openRun(segment, run, kind);
      try {
        for (let done = 0; done < run.sizeBytes;) {
          if (shared.isStopped) return undefined;
          const read = readPiece(file, run, done, piece, kind);
          if (read === 0) {
            throw changedFile(segment, `it ends after ${done} bytes`, errorKind(kind));
          }
          const bytes = piece.subarray(0, read);
          hash?.update(bytes);
          copy?.write(bytes);
          shared.add(read);
          done += read;
        }
      } finally {
        close();
      }
    }
    copy?.end();
    return hash?.digest("hex") ?? "";
  } finally {
    copy?.close();
  }
}

function readPiece(
  file: number,
  run: FileRun,
  done: number,
  piece: Uint8Array,
  kind: HashTask["kind"],
): number {
  const most = Math.min(piece.length, run.sizeBytes - done);
  const read = () => readSync(file, piece, 0, most, run.offsetBytes + done);
  return reading(run.path, read, { kind: errorKind(kind) });
}

function errorKind(kind: HashTask["kind"]): ErrorKind {
  return kind === "image" ? "target" : kind;
}

/** A copy on its way. */
interface Copy {
  /** What to read in place of the file of the task: it has the bytes already. */
  readonly clone?: Pick<HashTask, "segment" | "kind">;
  write(bytes: Uint8Array): void;
  /** Gives it its length. */
  end(): void;
  close(): void;
}

function openCopy(task: HashTask, to: Destination): Copy {
  if (to.kind === "runs") return new PlacedRuns(to.runs);
  return cloneFile(task, to) ?? new NewFile(to);
}

/** Clones the file of a task, if it is a whole one and the file system can. */
function cloneFile({ segment, kind }: HashTask, to: NewFilePlace): Copy | undefined {
  const { sizeBytes, offsetBytes } = segment;
  const isWhole = segment.bundled === undefined && offsetBytes === 0 && segment.isPart !== true;
  if (kind === "image" || !isWhole) return undefined;
  const { path } = to;
  const { file, close } = openRun(segment, segment, kind);
  try {
    // What was opened and looked at, whatever the path leads to by now.
    if (!writing(path, () => clone(`/proc/self/fd/${file}`, path))) return undefined;
  } finally {
    close();
  }
  const placed = writing(path, () => openSync(path, O_NOFOLLOW));
  return {
    clone: { segment: { kind: "file", path, offsetBytes: 0, sizeBytes }, kind: "target" },
    write: () => {},
    end: () => writing(path, () => settle(placed, to)),
    close: () => closeSync(placed),
  };
}

/** Clones a file, and reports whether the file system can. */
function clone(from: string, to: string): boolean {
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (CANNOT_CLONE.has(systemCode(error) ?? "")) return false;
    throw error;
  }
}

/**
 * Error codes of file systems that cannot clone, or not from one to the other. ENOENT: there is no
 * /proc, or no directory to clone into, which the copy will say.
 */
const CANNOT_CLONE = new Set(
  ["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EINVAL", "EXDEV", "ENOENT"],
);

/** A new file, with holes for zeros. */
class NewFile implements Copy {
  readonly #to: NewFilePlace;
  readonly #file: number;
  #offsetBytes = 0;

  constructor(to: NewFilePlace) {
    this.#to = to;
    this.#file = writing(to.path, () => openSync(to.path, "wx", 0o600));
  }

  write(bytes: Uint8Array): void {
    const isHole = bytes.length === PIECE_BYTES && isZero(bytes);
    if (!isHole) writing(this.#to.path, () => writeAll(this.#file, bytes, this.#offsetBytes));
    this.#offsetBytes += bytes.length;
  }

  end(): void {
    writing(this.#to.path, () => {
      ftruncateSync(this.#file, this.#offsetBytes);
      settle(this.#file, this.#to);
    });
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Runs of existing files, one after the other. */
class PlacedRuns implements Copy {
  readonly #runs: readonly FileRun[];
  #run = 0;
  #doneBytes = 0;
  #file = -1;

  constructor(runs: readonly FileRun[]) {
    this.#runs = runs;
  }

  write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const { path, offsetBytes, sizeBytes } = this.#runs[this.#run]!;
      if (this.#doneBytes === sizeBytes) {
        this.close();
        this.#run++;
        this.#doneBytes = 0;
        continue;
      }
      const part = bytes.subarray(done, done + sizeBytes - this.#doneBytes);
      writing(path, () => {
        if (this.#file < 0) this.#file = openSync(path, O_WRONLY | O_NOFOLLOW);
        writeAll(this.#file, part, offsetBytes + this.#doneBytes);
      });
      this.#doneBytes += part.length;
      done += part.length;
    }
  }

  end(): void {}

  close(): void {
    if (this.#file >= 0) closeSync(this.#file);
    this.#file = -1;
  }
}
