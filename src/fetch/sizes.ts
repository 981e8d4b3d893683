// SPDX-License-Identifier: MIT
/**
 * Asks mirrors how large files are. The answers are hints: nothing is verified by them.
 *
 * @module
 */

import { alternatives, HostHealth } from "./alternatives.ts";
import { UrlFailure } from "./failure.ts";
import { openUrl } from "./http.ts";
import type { HttpMirror } from "./mirror.ts";

/** How to ask. */
export interface SizeQuestion {
  readonly mirrors: readonly HttpMirror[];
  /** Value of the `User-Agent` header. */
  readonly userAgent: string;
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for one answer, in milliseconds; 3 s if absent. */
  readonly stallMs?: number;
  /** Longest wait for all answers, in milliseconds; 20 s if absent. */
  readonly totalMs?: number;
}

const STALL_MS = 3_000;
const TOTAL_MS = 20_000;
/** Questions at once. An answer is a few hundred bytes. */
const JOBS = 16;

/**
 * Asks the mirrors by HEAD for the sizes of files. A mirror that does not answer is given up soon.
 *
 * @returns Sizes in bytes by name, of the files of which a mirror has told one.
 * @throws {UserError} "usage" for a proxy in the environment that is no URL; the reason of `signal`.
 */
export async function askSizes(
  names: readonly string[],
  { mirrors, userAgent, signal, stallMs = STALL_MS, totalMs = TOTAL_MS }: SizeQuestion,
): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  if (mirrors.length === 0) return sizes;
  const health = new HostHealth();
  const deadline = AbortSignal.timeout(totalMs);
  const ends = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const ask = async (name: string) => {
    // Each alone, as several would be shuffled.
    for (const url of mirrors.flatMap((mirror) => alternatives(name, [], [mirror], () => 0))) {
      if (ends.aborted) return;
      if (health.seemsDead(url)) continue;
      try {
        const answer = await openUrl(url, 0, { method: "HEAD", userAgent, stallMs, signal: ends });
        answer.close();
        health.answered(url);
        const size = sizeOf(answer);
        if (size === undefined) continue;
        sizes.set(name, size);
        return;
      } catch (error) {
        if (ends.aborted) return;
        if (!(error instanceof UrlFailure)) throw error;
        if (error.hostDown) health.down(url);
      }
    }
  };
  const queue = names.values();
  const worker = async () => {
    for (const name of queue) await ask(name); // all workers draw from the same iterator
  };
  await Promise.all(Array.from({ length: Math.min(JOBS, names.length) }, worker));
  signal?.throwIfAborted();
  return sizes;
}

/** Returns the size of the body that a GET would have got. */
function sizeOf({ status, headers }: Awaited<ReturnType<typeof openUrl>>): number | undefined {
  const length = headers["content-length"] ?? "";
  const isPlain = ["", "identity"].includes(headers["content-encoding"] ?? "");
  return status === 200 && isPlain && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}
