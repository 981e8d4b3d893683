// SPDX-License-Identifier: MIT
/**
 * Makes a checkout that is large in one respect: the miniature one of `seedstrap demo`, and in it
 *
 *   builds N     N more steps, each with a script
 *   defines N    N more defines in the manifest
 *   files N      a step with N more files, in directories of 1000
 *   distfiles N  N more distfiles of some bytes, in steps of 10
 *   gib N        a distfile of N GiB, all zeros and sparse
 *
 * usage: bun scripts/bench/growing.ts OUT KIND N
 *
 * Writes OUT/tree and OUT/mirror.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { unpackDemo } from "../../src/demo/demo.ts";

const [out, kind, text = ""] = process.argv.slice(2);
const count = Number(text);
if (out === undefined || !Number.isSafeInteger(count) || count < 1) usage();
const { tree, mirror } = unpackDemo(out);
// A bootstrap in a directory begins with this one, which the miniature does not have.
put("seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed", "seed\n");
const manifest = join(tree, "steps/manifest");
const lines = linesOf(kind).join("\n");
writeFileSync(manifest, `${lines}\n${readFileSync(manifest, "utf8")}`);

/** Writes what the kind needs, and returns its lines of the manifest. */
function linesOf(kind: string | undefined): string[] {
  const numbers = Array.from({ length: count }, (_, i) => i);
  switch (kind) {
    case "builds":
      return numbers.map((i) => step(`grown${i}-1.0`));
    case "defines":
      return numbers.map((i) => `define: GROWN${i} = ( ARCH == x86 )`);
    case "files": {
      for (const i of numbers) put(`steps/grown-1.0/${Math.floor(i / 1000)}/file${i}`, `${i}\n`);
      return [step("grown-1.0")];
    }
    case "distfiles": {
      const steps = Array.from({ length: Math.ceil(count / 10) }, (_, i) => i);
      return steps.map((i) =>
        step(
          `grown${i}-1.0`,
          numbers.slice(10 * i, 10 * i + 10).map((k) => {
            writeFileSync(join(mirror, `grown${k}.tar`), `distfile ${k}\n`);
            return sourceLine(`grown${k}.tar`, createHash("sha256").update(`distfile ${k}\n`));
          }),
        )
      );
    }
    case "gib": {
      const name = "grown.tar";
      writeFileSync(join(mirror, name), "");
      truncateSync(join(mirror, name), count * 1024 ** 3);
      const hash = createHash("sha256");
      const piece = new Uint8Array(1024 ** 2);
      for (let i = 0; i < count * 1024; i++) hash.update(piece);
      return [step("grown-1.0", [sourceLine(name, hash)])];
    }
    default:
      return usage();
  }
}

/** Makes a step, and returns its line of the manifest. */
function step(name: string, sources: readonly string[] = []): string {
  put(`steps/${name}/pass1.kaem`, "# nothing\n");
  if (sources.length > 0) put(`steps/${name}/sources`, `${sources.join("\n")}\n`);
  return `build: ${name}`;
}

function sourceLine(name: string, hash: ReturnType<typeof createHash>): string {
  return `f https://mirror.example/${name} ${hash.digest("hex")}`;
}

function put(path: string, content: string): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), content);
}

function usage(): never {
  process.stderr.write("usage: growing.ts OUT builds|defines|files|distfiles|gib N\n");
  process.exit(2);
}
