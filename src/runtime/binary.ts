// SPDX-License-Identifier: MIT
/**
 * The executable file of this process.
 *
 * @module
 */

import { closeSync, fstatSync, openSync, readFileSync, realpathSync, statSync } from "node:fs";
import process from "node:process";
import { systemCode } from "../errors.ts";

declare const Deno: { readonly build: { readonly standalone?: boolean } } | undefined;

/** Linux keeps this pointed at our executable even after its file has been replaced or removed. */
const RUNNING = "/proc/self/exe";

/** The dynamic loaders of glibc and musl, by the name of the file. */
const LOADER = /^(?:ld[-.].*|libc\.(?:so|musl).*)$/;
/** Its options whose value is a library, which is mapped as the program is. */
const LIBRARY_OPTIONS = ["--preload", "--audit"];

/** Returns the path of the compiled program, or undefined when it runs from source. */
export function ownBinary(): string | undefined {
  const isCompiled = import.meta.url.includes("/$bunfs/") ||
    (typeof Deno !== "undefined" && Deno.build.standalone === true);
  if (!isCompiled) return undefined;
  return loaderCommand()?.at(-1) ?? (canUseRunning() ? RUNNING : process.execPath);
}

/**
 * Reports whether that name leads to us. Under the user emulation of QEMU it is opened as our file,
 * and looked at as that of QEMU.
 */
function canUseRunning(): boolean {
  try {
    const file = openSync(RUNNING, "r");
    try {
      const [named, opened] = [statSync(RUNNING), fstatSync(file)];
      return named.isFile() && named.dev === opened.dev && named.ino === opened.ino;
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return false;
  }
}

/**
 * Returns the words of the dynamic loader that end with the path of the program, where somebody has
 * started it by hand, as on a system that has none in its usual place. The executable of the process
 * is the loader then.
 */
export function loaderCommand(): [string, ...string[]] | undefined {
  try {
    const loader = realpathSync(RUNNING);
    if (!LOADER.test(loader.slice(loader.lastIndexOf("/") + 1))) return undefined;
    const mapped = new Set(
      readFileSync("/proc/self/maps", "utf8").split("\n")
        .map((line) => /^(?:\S+ +){5}(.*)$/.exec(line)?.[1]),
    );
    const words = readFileSync("/proc/self/cmdline", "utf8").split("\0");
    for (let at = 1; at < words.length; at++) {
      if (LIBRARY_OPTIONS.includes(words[at - 1]!)) continue;
      const path = pathIfThere(words[at]!);
      if (path !== undefined && path !== loader && mapped.has(path)) {
        return [loader, ...words.slice(1, at), path];
      }
    }
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
  }
  return undefined;
}

function pathIfThere(word: string): string | undefined {
  try {
    return realpathSync(word);
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
