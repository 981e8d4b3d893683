// SPDX-License-Identifier: MIT
/**
 * The binary as scripts/build.sh makes it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url).href);
const BINARY = join(ROOT, "dist/seedstrap");

/** Returns dist/seedstrap, built again if a source is newer; or why it cannot be built here. */
export function builtBinary(): { readonly path: string; readonly obstacle: string | undefined } {
  if (isCurrent()) return { path: BINARY, obstacle: undefined };
  const { status, stderr, error } = spawnSync("sh", [join(ROOT, "scripts/build.sh")]);
  const obstacle = status === 0 ? undefined : error?.message ?? stderr.toString().trim();
  return { path: BINARY, obstacle };
}

/** Returns the dynamic loader that a program names, which can start it by hand. */
export function loaderOf(program: string): string | undefined {
  const file = openSync(program, "r");
  try {
    const head = Buffer.alloc(64 * 1024);
    readSync(file, head, 0, head.length, 0);
    return /\/lib(?:64)?\/ld-[\w.-]+/.exec(head.toString("latin1"))?.[0];
  } finally {
    closeSync(file);
  }
}

function isCurrent(): boolean {
  const built = statSync(BINARY, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
    .map((name) => `src/${name}`);
  return [...sources, "scripts/build.sh", "scripts/harden.ts", "package-lock.json"]
    .every((name) => statSync(join(ROOT, name)).mtimeMs <= built);
}
