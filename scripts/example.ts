// SPDX-License-Identifier: MIT
/**
 * Copies the example in mod.ts to a file, so that it can be run unchanged.
 *
 * usage: bun scripts/example.ts FILE
 *
 * FILE is written; it imports mod.ts by its path in this checkout.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

const FACE = join(import.meta.dirname!, "..", "mod.ts");

const [output] = process.argv.slice(2);
const [, block] = /^ \* ```ts\n([\s\S]*?)^ \* ```$/m.exec(readFileSync(FACE, "utf8")) ?? [];
if (output === undefined || block === undefined) {
  process.stderr.write(
    output === undefined ? "usage: example.ts FILE\n" : "mod.ts has no example\n",
  );
  process.exit(2);
}
const code = block.replace(/^ \* ?/gm, "");
writeFileSync(output, code.replace('"./mod.ts"', JSON.stringify(pathToFileURL(FACE).href)));
