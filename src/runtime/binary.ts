// SPDX-License-Identifier: MIT
/**
 * The executable file of this process.
 *
 * @module
 */

import process from "node:process";
import { statIfThere } from "./stat.ts";

declare const Deno: { readonly build: { readonly standalone?: boolean } } | undefined;

/** Linux keeps this pointed at our executable even after its file has been replaced or removed. */
const RUNNING = "/proc/self/exe";

/** Returns the path of the compiled program, or undefined when it runs from source. */
export function ownBinary(): string | undefined {
  const isCompiled = import.meta.url.includes("/$bunfs/") ||
    (typeof Deno !== "undefined" && Deno.build.standalone === true);
  if (!isCompiled) return undefined;
  return statIfThere(RUNNING)?.isFile() === true ? RUNNING : process.execPath;
}
