// SPDX-License-Identifier: MIT
/**
 * The program that runs, as a file.
 *
 * @module
 */

import process from "node:process";
import { statIfThere } from "./stat.ts";

declare const Deno: { readonly build: { readonly standalone?: boolean } } | undefined;

/** On Linux this is the program that runs even where another one has taken its name since. */
const RUNNING = "/proc/self/exe";

/** Path of the compiled program; undefined where it runs from its source. */
export function ownBinary(): string | undefined {
  const isCompiled = import.meta.url.includes("/$bunfs/") ||
    (typeof Deno !== "undefined" && Deno.build.standalone === true);
  if (!isCompiled) return undefined;
  return statIfThere(RUNNING)?.isFile() === true ? RUNNING : process.execPath;
}
