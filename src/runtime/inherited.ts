// SPDX-License-Identifier: MIT
/**
 * Whether our parent has given us a standard stream.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { systemCode } from "../errors.ts";

/** As /proc shows it. */
const O_CLOEXEC = 0o2000000;

/**
 * Reports whether a standard stream was closed when this process began. Bun opens /dev/null in its
 * place, so that writing to it fails nowhere. It opens it close-on-exec, as no file can be that
 * outlived the exec.
 *
 * @returns False also where that cannot be told: without /proc, and under Deno.
 */
export function wasClosed(file: 0 | 1 | 2): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${file}`, "latin1"));
    return flags !== null && Math.floor(parseInt(flags[1]!, 8) / O_CLOEXEC) % 2 === 1;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}
