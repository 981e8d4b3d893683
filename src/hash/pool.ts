// SPDX-License-Identifier: MIT
/**
 * SHA-256 of files on every core: one thread for each, which read, hash, and where that is wanted
 * copy file after file. The bytes that are written are those that were hashed.
 *
 * The threads are started when they are needed, serve all work at that time, and end with the last.
 *
 * @module
 */

import { availableParallelism } from "node:os";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { startWorker } from "../runtime/worker.ts";
import { type HashAnswer, type HashRequest, type HashTask, Shared } from "./task.ts";

export type { Destination, HashTask, NewFilePlace } from "./task.ts";

/** More threads would wait for the disk, and each takes memory. */
const MAX_THREADS = 16;
/** Requests that a thread has at a time: it need not wait for the next one. */
const PENDING = 4;
/** Answers that wait for the one before them: the other threads work on while one has a long file. */
const MAX_KEPT = 1024;
/** What a file takes besides its bytes, as if it had more of them. */
const FILE_BYTES = 64 * 1024;
/** Milliseconds between two looks at how far it is. */
const PROGRESS_MS = 100;

/** How to digest. */
export interface DigestOptions {
  /** Called with the number of bytes that were hashed since the last call. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

type Tasks = Iterable<HashTask | undefined> | AsyncIterable<HashTask | undefined>;

/**
 * Computes the digests of files, as they are asked for and a little ahead of that.
 *
 * @param tasks Read as threads become free, so that they may be a generator. What is undefined has
 * no digest and keeps its place.
 * @returns The digests in the order of the tasks, in lower-case hex.
 * @throws {UserError} for the first task that fails in their order; "interrupt" when the signal is
 * raised. What the generator throws comes after the tasks that it has given.
 */
export async function* digestEach(
  tasks: Tasks,
  { onBytes = () => {}, signal }: DigestOptions = {},
): AsyncGenerator<string | undefined, void, undefined> {
  throwIfInterrupted(signal);
  const shared = new Shared();
  const stop = () => shared.stop();
  signal?.addEventListener("abort", stop);
  let told = 0;
  const tell = () => {
    const { bytes } = shared;
    if (bytes > told) onBytes(bytes - told);
    told = bytes;
  };
  const timer = setInterval(tell, PROGRESS_MS);
  const kept: Kept[] = [];
  let unanswered = 0;
  let wake = () => {};
  const ask = (task: HashTask): Kept => {
    unanswered++;
    const one: Kept = {
      isAnswered: false,
      answer: askThread({ task, shared: shared.buffer }).finally(() => {
        one.isAnswered = true;
        unanswered--;
        wake();
      }),
    };
    return one;
  };
  const anAnswer = () => new Promise<void>((resolve) => wake = resolve);
  const takeFirst = async () => {
    throwIfInterrupted(signal);
    const answer = await kept.shift()!.answer;
    return answer && digestOf(answer, signal);
  };
  const mostUnanswered = maxThreads() * PENDING;
  let failure: { readonly error: unknown } | undefined;
  const given = async function* () {
    try {
      yield* tasks;
    } catch (error) {
      failure = { error };
    }
  };
  users++;
  try {
    for await (const task of given()) {
      kept.push(task === undefined ? NO_TASK : ask(task));
      const isFull = () => unanswered >= mostUnanswered || kept.length >= MAX_KEPT;
      while (kept[0]?.isAnswered || isFull()) {
        if (kept[0]?.isAnswered) yield await takeFirst();
        else await anAnswer();
      }
    }
    while (kept.length > 0) yield await takeFirst();
    if (failure !== undefined) throw failure.error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener("abort", stop);
    // Where it ends early, the threads have closed their files when this returns.
    stop();
    await Promise.all(kept.map(({ answer }) => answer));
    tell();
    users--;
    endThreads();
  }
}

/** A task whose digest was not returned yet. */
interface Kept {
  isAnswered: boolean;
  readonly answer: Promise<HashAnswer> | undefined;
}

const NO_TASK: Kept = { isAnswered: true, answer: undefined };

/** Computes the digest of one file, see {@link digestEach}. */
export async function digestOne(task: HashTask, options: DigestOptions = {}): Promise<string> {
  for await (const sha256 of digestEach([task], options)) return sha256!;
  throw new Error("a task has no digest");
}

function digestOf(answer: HashAnswer, signal: AbortSignal | undefined): string {
  switch (answer.kind) {
    case "done":
      return answer.sha256;
    case "stopped":
      throwIfInterrupted(signal);
      throw new Error("a thread was stopped without a reason");
    case "refused": {
      const { kind, message, where, hint } = answer.error;
      throw new UserError(kind, message, {
        ...(where !== undefined && { where }),
        ...(hint !== undefined && { hint }),
      });
    }
    case "broken":
      throw new Error(`a thread that hashes failed: ${answer.message}`);
  }
}

/** A thread, and the requests that it has not answered yet. */
class Thread {
  readonly #worker = startWorker("hash/hash_worker.ts");
  readonly #asked: { readonly give: (answer: HashAnswer) => void; readonly bytes: number }[] = [];
  #broken: string | undefined;
  /** Bytes of the files that it was asked for and has not answered, see {@link FILE_BYTES}. */
  pendingBytes = 0;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<HashAnswer>) => this.#answer(data);
    this.#worker.onerror = (event) => {
      // Deno would end the program at once, and nothing would be cleaned up.
      event.preventDefault();
      this.#broken = event.message;
      while (this.#asked.length > 0) this.#answer(this.#failure(event.message));
    };
  }

  ask(request: HashRequest): Promise<HashAnswer> {
    if (this.#broken !== undefined) return Promise.resolve(this.#failure(this.#broken));
    const bytes = FILE_BYTES + request.task.segment.sizeBytes;
    this.pendingBytes += bytes;
    return new Promise((give) => {
      this.#asked.push({ give, bytes });
      this.#worker.postMessage(request);
    });
  }

  /** Ends it; it has no requests then. */
  end(): void {
    this.#worker.terminate();
  }

  #answer(answer: HashAnswer): void {
    const first = this.#asked.shift();
    if (first === undefined) return;
    this.pendingBytes -= first.bytes;
    first.give(answer);
  }

  #failure(message: string): HashAnswer {
    return { kind: "broken", message };
  }
}

let pool: Thread[] = [];
/** The number of works that use the pool. */
let users = 0;

function maxThreads(): number {
  return Math.min(availableParallelism(), MAX_THREADS);
}

/** Asks the thread that has the least to do; a new one if all have something. */
function askThread(request: HashRequest): Promise<HashAnswer> {
  let thread = pool[0];
  for (const other of pool) if (other.pendingBytes < thread!.pendingBytes) thread = other;
  if (thread === undefined || (thread.pendingBytes > 0 && pool.length < maxThreads())) {
    thread = new Thread();
    pool.push(thread);
  }
  return thread.ask(request);
}

/** Ends the threads, if nothing uses them. */
function endThreads(): void {
  if (users > 0) return;
  for (const thread of pool) thread.end();
  pool = [];
}
