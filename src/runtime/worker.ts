// SPDX-License-Identifier: MIT
/**
 * Starts threads.
 *
 * @module
 */

/**
 * Starts a thread.
 *
 * In a binary that Bun compiled, the main program is one file in a virtual directory. The other
 * entry points of scripts/build.sh, every `*_worker.ts`, are next to it, at their paths below
 * `src/`.
 *
 * @param path The module of the thread, below `src/`.
 */
export function startWorker(path: `${string}_worker.ts`): Worker {
  const isCompiledByBun = import.meta.url.includes("/$bunfs/");
  const url = isCompiledByBun ? `./${path}` : new URL(`../${path}`, import.meta.url).href;
  return new Worker(url, { type: "module" });
}
