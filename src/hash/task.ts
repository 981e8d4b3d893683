// SPDX-License-Identifier: MIT
/**
 * What the threads of a pool are asked, and what they answer.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { type ErrorKind, UserError } from "../errors.ts";
import { type FileRun, type FileSegment, runsOf } from "../format/segment.ts";
import { openRegular } from "../read.ts";
import { reading } from "../refused.ts";
import { changedFile, openRun } from "../source/run.ts";

/** A file, or a part of one, whose digest is wanted. */
export interface HashTask {
  readonly segment: FileSegment;
  /**
   * What the file is, which decides the error: of the checkout, one that was written, or an image or
   * bundle, which is longer than the runs.
   */
  readonly kind: "tree" | "target" | "image";
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

/** Size of a piece: it is still in the cache of a core when it is hashed after a read. */
const PIECE_BYTES = 256 * 1024;

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
function digest(
  { segment, kind }: HashTask,
  shared: Shared,
  piece: Uint8Array,
): string | undefined {
  const hash = createHash("sha256");
  for (const run of runsOf(segment)) {
    const { file, close } = kind === "image" ? openRegular(run.path) : openRun(segment, run, kind);
    try {
      for (let done = 0; done < run.sizeBytes;) {
        if (shared.isStopped) return undefined;
        const read = readPiece(file, run, done, piece, kind);
        if (read === 0) throw changedFile(segment, `it ends after ${done} bytes`);
        hash.update(piece.subarray(0, read));
        shared.add(read);
        done += read;
      }
    } finally {
      close();
    }
  }
  return hash.digest("hex");
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
  return reading(run.path, read, { kind: kind === "image" ? "target" : kind });
}
