// SPDX-License-Identifier: MIT
/**
 * Starting threads.
 *
 * @module
 */

/**
 * Starts the writing thread of a sink, `src/write/sink_worker.ts`.
 *
 * In a binary that Bun compiled, everything is one file in a virtual directory, beside which the
 * second entry point of scripts/build.sh lies by its path below `src/`.
 */
export function startSinkWorker(): Worker {
  const isCompiledByBun = import.meta.url.includes("/$bunfs/");
  const url = isCompiledByBun
    ? "./write/sink_worker.ts"
    : new URL("../write/sink_worker.ts", import.meta.url).href;
  return new Worker(url, { type: "module" });
}
