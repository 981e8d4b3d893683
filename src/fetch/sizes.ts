// SPDX-License-Identifier: MIT
/**
 * Asks mirrors how large files are. The answers are hints: nothing is verified by them.
 *
 * @module
 */

import { HostHealth } from "./alternatives.ts";
import { Connections } from "./connections.ts";
import { UrlFailure } from "./failure.ts";
import { openUrl } from "./http.ts";
import { MirrorLogins } from "./logins.ts";
import { fileUrl, type ServerMirror } from "./mirror.ts";
import { counted } from "../text.ts";

/** How to ask. */
export interface SizeQuestion {
  readonly mirrors: readonly ServerMirror[];
  /** Value of the `User-Agent` header. */
  readonly userAgent: string;
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for one answer, in milliseconds; 3 s if absent. */
  readonly stallMs?: number;
  /** Longest wait for all answers, in milliseconds; 20 s if absent. */
  readonly totalMs?: number;
}

/** What mirrors answer. */
export interface SizeAnswers {
  /** In bytes by name, of the files of which a mirror has told one. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Names of the files that no mirror has for certain: by a 404, or as there is no such host. */
  readonly nowhere: ReadonlySet<string>;
  /** Mirrors that have nothing, without what of their URLs is not public, and why as a phrase. */
  readonly useless: readonly { readonly url: string; readonly why: string }[];
}

const STALL_MS = 3_000;
const TOTAL_MS = 20_000;
/** Questions at once. An answer is a few hundred bytes. */
const JOBS = 16;

/** Answers for which asking again makes no difference. */
const GONE: ReadonlySet<number> = new Set([404, 410]);

/** The answers of one mirror. */
class Answers {
  /** How often each answer came in place of a file. */
  readonly #counts = new Map<string, number>();
  readonly #gone = new Set<string>();
  #found = 0;
  #down: UrlFailure | undefined;

  constructor(readonly mirror: ServerMirror) {}

  found(): void {
    this.#found++;
  }

  lacks(name: string, status: number): void {
    this.#count(`HTTP ${status}`);
    if (GONE.has(status)) this.#gone.add(name);
  }

  failed(failure: UrlFailure): void {
    if (failure.hostDown) this.#down = failure;
    else this.#count(failure.message);
  }

  /** Reports whether the mirror does not have a file for certain. */
  isWithout(name: string): boolean {
    return this.#gone.has(name) || (this.#isDead && this.#down?.transient === false);
  }

  /**
   * Says why the mirror is of no use, if it is.
   *
   * @param asked Number of files that are asked for. A mirror that was asked for fewer only lacks
   * what others lack too.
   */
  fault(asked: number): string | undefined {
    if (this.#isDead) return this.#down?.message;
    const answered = [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
    if (this.#found > 0 || answered < asked) return undefined;
    const answers = [...this.#counts.keys()].slice(0, 3).join(", ");
    return `has 0 of ${counted(asked, "file")} that ${
      asked === 1 ? "is" : "are"
    } asked for (${answers})`;
  }

  get #isDead(): boolean {
    return this.#down !== undefined && this.#found === 0 && this.#counts.size === 0;
  }

  #count(answer: string): void {
    this.#counts.set(answer, (this.#counts.get(answer) ?? 0) + 1);
  }
}

/**
 * Asks the mirrors by HEAD for the sizes of files. A mirror that does not answer is given up soon.
 *
 * @throws {UserError} "usage" for a proxy in the environment that is no URL; the reason of `signal`.
 */
export async function askSizes(
  files: readonly { readonly name: string; readonly sha256: string }[],
  { mirrors, userAgent, signal, stallMs = STALL_MS, totalMs = TOTAL_MS }: SizeQuestion,
): Promise<SizeAnswers> {
  const sizes = new Map<string, number>();
  const all = mirrors.map((mirror) => new Answers(mirror));
  const health = new HostHealth();
  const connections = new Connections(JOBS);
  const logins = new MirrorLogins(mirrors, userAgent, stallMs);
  const deadline = AbortSignal.timeout(totalMs);
  const ends = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const ask = async (file: { readonly name: string; readonly sha256: string }) => {
    const { name } = file;
    for (const answers of all) {
      const url = fileUrl(answers.mirror, file);
      if (ends.aborted) return;
      if (health.seemsDead(url)) continue;
      try {
        const answer = await openUrl(url, 0, {
          method: "HEAD",
          userAgent,
          stallMs,
          signal: ends,
          connections,
          headers: logins.headersOf(url, "HEAD"),
        });
        answer.close();
        health.answered(url);
        if (answer.status === 200) answers.found();
        else answers.lacks(name, answer.status);
        const size = sizeOf(answer);
        if (size === undefined) continue;
        sizes.set(name, size);
        return;
      } catch (error) {
        if (ends.aborted) return;
        if (!(error instanceof UrlFailure)) throw error;
        answers.failed(error);
        if (error.hostDown) health.down(url);
      }
    }
  };
  const queue = files.values();
  const worker = async () => {
    for (const file of queue) await ask(file); // all workers draw from the same iterator
  };
  try {
    const count = all.length === 0 ? 0 : Math.min(JOBS, files.length);
    await Promise.all(Array.from({ length: count }, worker));
  } finally {
    connections.close();
  }
  signal?.throwIfAborted();
  return {
    sizes,
    nowhere: new Set(
      all.length === 0 ? [] : files.map(({ name }) => name)
        .filter((name) => all.every((answers) => answers.isWithout(name))),
    ),
    useless: all.flatMap((answers) => {
      const why = answers.fault(files.length);
      return why === undefined ? [] : [{ url: answers.mirror.url, why }];
    }),
  };
}

/** Returns the size in bytes of the body that a GET would have got, if the answer tells. */
export function sizeOf(
  { status, headers }: Awaited<ReturnType<typeof openUrl>>,
): number | undefined {
  const length = headers["content-length"] ?? "";
  const isPlain = ["", "identity"].includes(headers["content-encoding"] ?? "");
  return status === 200 && isPlain && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}
