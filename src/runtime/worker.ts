// SPDX-License-Identifier: MIT
/**
 * Starting threads.
 *
 * @module
 */

/**
 * Starts the thread that digests images, `src/write/hash_worker.ts`.
 *
 * In a binary that Bun compiled, everything is one file in a virtual directory, beside which the
 * second entry point of scripts/build.sh lies by its path below `src/`.
 */
export function startHashWorker(): Worker {
  const isCompiledByBun = import.meta.url.includes("/$bunfs/");
  const url = isCompiledByBun
    ? "./write/hash_worker.ts"
    : new URL("../write/hash_worker.ts", import.meta.url).href;
  return new Worker(url, { type: "module" });
}
