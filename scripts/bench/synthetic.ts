// SPDX-License-Identifier: MIT
/**
 * Makes a checkout that can be built without the internet: a copy of a real one, with a synthetic
 * distfile for every source and its checksum in the sources of the copy.
 *
 * usage: bun scripts/bench/synthetic.ts CHECKOUT OUT [MIB [REAL]]
 *
 * Writes OUT/tree and OUT/mirror with MIB (default 1400) MiB of distfiles. The same arguments give
 * the same bytes: content is an AES-CTR key stream, sizes are distributed like real ones (most are
 * small, few are large). A distfile that the directory REAL has is taken from there.
 */

import { createCipheriv, createHash } from "node:crypto";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { statIfThere } from "../../src/runtime/stat.ts";
import { hasTreeFile, readTreeText } from "../../src/tree/checkout.ts";
import { parseSources } from "../../src/tree/sources.ts";

/** A distfile may be larger than memory. */
const PIECE_BYTES = 16 * 1024 * 1024;

const [checkout, out, mib = "1400", real] = process.argv.slice(2);
if (checkout === undefined || out === undefined) {
  process.stderr.write("usage: synthetic.ts CHECKOUT OUT [MIB [REAL]]\n");
  process.exit(2);
}
const tree = join(out, "tree");
const mirror = join(out, "mirror");
mkdirSync(mirror, { recursive: true });
for (const part of ["builder-hex0", "lib", "rootfs.py", "source_manifest.py", "seed", "steps"]) {
  if (statIfThere(join(checkout, part)) === undefined) continue;
  // Links are copied as links: the checkout has some, and they are tested too.
  cpSync(join(checkout, part), join(tree, part), { recursive: true, verbatimSymlinks: true });
}

const steps = readdirSync(join(tree, "steps")).filter((step) =>
  hasTreeFile(tree, `steps/${step}/sources`)
);
const names = new Set(
  steps.flatMap((step) =>
    parseSources(readTreeText(tree, `steps/${step}/sources`), step).map((s) => s.fileName)
  ),
);
const weights = new Map([...names].map((name) => [name, weight(name)]));
const sum = [...weights.values()].reduce((a, b) => a + b, 0);
const digests = new Map<string, string>();
for (const [name, share] of weights) {
  const size = Math.max(1, Math.round(share / sum * Number(mib) * 1024 * 1024));
  const given = real === undefined ? undefined : join(real, name);
  const pieces = given !== undefined && existsSync(given)
    ? [readFileSync(given)]
    : keyStream(name, size);
  digests.set(name, writePieces(join(mirror, name), pieces));
}
for (const step of steps) {
  const path = join(tree, "steps", step, "sources");
  const lines = readFileSync(path, "utf8").split("\n");
  for (const source of parseSources(lines.join("\n"), step)) {
    const line = lines[source.line - 1]!;
    lines[source.line - 1] = line.replace(source.sha256, digests.get(source.fileName)!);
  }
  writeFileSync(path, lines.join("\n"));
}
process.stdout.write(`${names.size} distfiles in ${mirror}, checkout in ${tree}\n`);

/** Returns a log-normal weight that depends only on the name. */
function weight(name: string): number {
  const hash = createHash("sha256").update(name).digest();
  const u = (hash.readUInt32LE(0) + 1) / 2 ** 32;
  const v = hash.readUInt32LE(4) / 2 ** 32;
  return Math.exp(1.5 * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v));
}

function* keyStream(name: string, size: number): Generator<Uint8Array> {
  const key = createHash("sha256").update(`seedstrap ${name}`).digest();
  const cipher = createCipheriv("aes-256-ctr", key, new Uint8Array(16));
  const zeros = new Uint8Array(PIECE_BYTES);
  for (let left = size; left > 0; left -= PIECE_BYTES) {
    yield cipher.update(zeros.subarray(0, Math.min(left, PIECE_BYTES)));
  }
}

/** Returns the SHA-256 of what it writes. */
function writePieces(path: string, pieces: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  const file = openSync(path, "w");
  for (const piece of pieces) {
    hash.update(piece);
    writeFileSync(file, piece);
  }
  closeSync(file);
  return hash.digest("hex");
}
