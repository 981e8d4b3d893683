// SPDX-License-Identifier: MIT
/**
 * Makes a copy of Bun's runtime that takes no orders from the environment, to be given to
 * `bun build --compile --compile-executable-path`.
 *
 * A binary that Bun has compiled still looks at Bun's own variables: BUN_OPTIONS=--preload=FILE
 * runs a file, BUN_BE_BUN=1 makes an interpreter of it, BUN_INSPECT opens a port that runs code,
 * BUN_BYTECODE_ORDER_OUT overwrites a file, NODE_TLS_REJECT_UNAUTHORIZED=0 turns a check off. No
 * option of `bun build` closes that. So the names are overwritten in the copy, the file's size and
 * layout stay:
 *
 *   in machine data           the first byte becomes NUL, which no name of a variable holds: as a C
 *                             string the name is empty, and getenv() of that finds nothing
 *   in JavaScript of Bun      `process.env.NAME` becomes `undefined` and blanks
 *   options of JavaScriptCore the first letter becomes NUL, so that BUN_JSC_NAME=VALUE names no
 *                             option; Bun then ends with an error, as for a misspelt one
 *
 * What a user rightly sets stays: proxies, SSL_CERT_FILE, SSL_CERT_DIR, NODE_EXTRA_CA_CERTS,
 * NODE_USE_SYSTEM_CA, TMPDIR.
 *
 * usage: harden.ts RUNTIME COPY
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";

/**
 * Each of these is in every runtime of this version of Bun; where one is not, Bun has changed. One
 * that another begins with stands after it.
 */
const NAMES = [
  "BUN_BE_BUN",
  "BUN_BYTECODE_DIGEST_OUT",
  "BUN_BYTECODE_ORDER_NAMES_OUT",
  "BUN_BYTECODE_ORDER_OUT",
  "BUN_CONFIG_VERBOSE_FETCH",
  "BUN_INSPECT_CONNECT_TO",
  "BUN_INSPECT_NOTIFY",
  "BUN_INSPECT_PRELOAD",
  "BUN_INSPECT",
  "BUN_OPTIONS",
  "NODE_CHANNEL_FD",
  "NODE_TLS_REJECT_UNAUTHORIZED",
];

/** Options of JavaScriptCore that run code or write files, and are in every runtime. */
const JSC_NAMES = [
  "configFile",
  "diskCachePath",
  "dumpOptions",
  "functionOverrides",
  "useDollarVM",
];

const NUL = 0;

/** What was overwritten, by name. */
type Counts = Map<string, number>;

/**
 * Overwrites the names.
 *
 * @param runtime An executable of Bun, changed in place.
 * @throws {Error} Where a name that has to be there is not.
 */
export function harden(runtime: Uint8Array<ArrayBuffer>): Counts {
  const counts: Counts = new Map();
  const note = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  // One character a byte, so that an index into the text is an offset into the file.
  const text = Buffer.from(runtime.buffer, runtime.byteOffset, runtime.length).toString("latin1");

  // Bun's variables, known here or not, where the name is a C string of its own.
  for (const { 0: name, index } of text.matchAll(/(?<=\0)BUN_[A-Z][A-Za-z0-9_]+(?=\0)/g)) {
    runtime[index] = NUL;
    note(name);
  }
  for (const name of NAMES) {
    for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
      if (runtime[at] === NUL) continue;
      const before = text.slice(Math.max(0, at - 12), at);
      const after = text.slice(at + name.length, at + name.length + 12);
      if (before.endsWith("process.env.")) {
        // An assignment is no look at the variable.
        if (/^\w|^ = /.test(after)) continue;
        const expression = `process.env.${name}`;
        runtime.set(Buffer.from("undefined".padEnd(expression.length)), at - 12);
      } else if (/[."' =]$/.test(before)) {
        continue; // in a message, or in a list of JavaScript
      } else if (after.startsWith("=")) {
        continue; // set for a child
      } else {
        runtime[at] = NUL;
      }
      note(name);
    }
  }
  for (const { 1: name, index } of text.matchAll(/(?<=\0)JSC_([a-z][A-Za-z0-9]+)(?=\0)/g)) {
    runtime[index] = NUL;
    runtime[index + "JSC_".length] = NUL;
    note(`JSC_${name}`);
  }

  for (const name of [...NAMES, ...JSC_NAMES.map((option) => `JSC_${option}`)]) {
    if (!counts.has(name)) throw new Error(`there is no ${name} in this runtime`);
  }
  return counts;
}

if (import.meta.main) {
  const [source, copy, ...rest] = process.argv.slice(2);
  if (source === undefined || copy === undefined || rest.length > 0) {
    console.error("usage: harden.ts RUNTIME COPY");
    process.exit(2);
  }
  const runtime = new Uint8Array(readFileSync(source));
  try {
    const counts = harden(runtime);
    writeFileSync(copy, runtime, { mode: 0o755 });
    const places = [...counts.values()].reduce((sum, count) => sum + count, 0);
    console.log(`harden: ${counts.size} names overwritten in ${places} places`);
    for (const name of NAMES) console.log(`  ${name}: ${counts.get(name)}`);
  } catch (error) {
    console.error(`harden: ${source}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
