// SPDX-License-Identifier: MIT
/**
 * Starting threads. The URL has to stand literally in the call for both compilers to find it.
 *
 * @module
 */

/** Starts the writing half of the image writer, `src/write/sink_worker.ts`. */
export function startSinkWorker(): Worker {
  return new Worker(new URL("../write/sink_worker.ts", import.meta.url).href, { type: "module" });
}
