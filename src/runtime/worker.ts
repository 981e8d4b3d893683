// SPDX-License-Identifier: MIT
/**
 * Starts threads.
 *
 * @module
 */

/**
 * Starts the thread that writes for a sink, `src/write/sink_worker.ts`.
 *
 * In a binary that Bun compiled, the main program is one file in a virtual directory. The second
 * entry point of scripts/build.sh is next to it, at its path below `src/`.
 */
export function startSinkWorker(): Worker {
  const isCompiledByBun = import.meta.url.includes("/$bunfs/");
  const url = isCompiledByBun
    ? "./write/sink_worker.ts"
    : new URL("../write/sink_worker.ts", import.meta.url).href;
  return new Worker(url, { type: "module" });
}
