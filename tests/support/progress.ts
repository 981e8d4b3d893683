// SPDX-License-Identifier: MIT
/**
 * Watches the progress of work.
 *
 * @module
 */
import type { Progress } from "../../src/progress.ts";

/** Returns a progress that calls `act` whenever more than `bytes` bytes of a stage are done. */
export function after(bytes: number, act: () => void): { readonly progress: Progress } {
  let done = 0;
  return {
    progress: {
      begin: () => void (done = 0),
      add(more) {
        done += more;
        if (done > bytes) act();
      },
    },
  };
}
