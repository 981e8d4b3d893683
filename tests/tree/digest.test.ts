// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import * as fc from "fast-check";
import { chmodSync, renameSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { type DigestedEntry, digestOfEntries, treeDigest } from "../../src/tree/digest.ts";
import { readTree } from "../../src/tree/model.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run } from "../support/run.ts";
import { writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const digestOf = (tree: string) => treeDigest(readTree(tree));

/** The definition in shell, for a checkout without special names and replaced files. */
const SCRIPT = `
  export LC_ALL=C
  { find builder-hex0 -type f; find seed/stage0-posix steps -mindepth 1; find steps -maxdepth 0
    find seed -maxdepth 1 -type f; } | grep -vx seed/stage0-posix/after.kaem | sort |
  while IFS= read -r path; do
    if [ -d "$path" ]; then printf 'd - %s\\0' "$path"; continue; fi
    kind=f; [ -x "$path" ] && case $path in builder-hex0/*) ;; *) kind=x ;; esac
    printf '%s %s %s\\0' "$kind" "$(sha256sum <"$path" | cut -d' ' -f1)" "$path"
  done | sha256sum | cut -d' ' -f1`;

test("treeDigest() equals the digest computed from its definition by other tools", async () => {
  const { tree } = writeMiniTree(temp.make());
  writeFiles(tree, { "steps/none/": "", "distfiles/x": "x", ".git/HEAD": "x", "rootfs.py": "x" });
  chmodSync(join(tree, "steps/helpers.sh"), 0o755);
  const { stdout } = await run(["sh", "-c", SCRIPT], { cwd: tree });
  expect(stdout.trim()).toMatch(/^[0-9a-f]{64}$/);
  expect(digestOf(tree)).toBe(stdout.trim());
});

test("treeDigest() depends on content, names, modes and empty directories only", () => {
  const { tree } = writeMiniTree(temp.make());
  const seen = [digestOf(tree)];
  const helpers = join(tree, "steps/helpers.sh");
  const changes: (() => void)[] = [
    () => writeFiles(tree, { "steps/helpers.sh": "false\n" }),
    () => chmodSync(helpers, 0o744),
    () => renameSync(helpers, join(tree, "steps/helper.sh")),
    () => writeFiles(tree, { "steps/nothing/": "" }),
    () => writeFiles(tree, { "steps/nothing/in it": "" }),
    () => writeFiles(tree, { "seed/stage0-posix/x": "x" }),
    () => writeFiles(tree, { "builder-hex0/builder-hex0-x86-stage2.hex0": "90 F4\n" }),
  ];
  for (const change of changes) {
    change();
    seen.push(digestOf(tree));
  }
  expect(new Set(seen).size).toBe(changes.length + 1);
  writeFiles(tree, { ".git/HEAD": "x", "distfiles/a": "a", "README": "b", "seed/folder/c": "c" });
  writeFiles(tree, { "steps/bootstrap.cfg": "old", "seed/stage0-posix/after.kaem": "replaced" });
  utimesSync(join(tree, "steps/manifest"), 1, 1);
  chmodSync(join(tree, "steps/manifest"), 0o600);
  expect(digestOf(tree)).toBe(seen.at(-1)!);
});

test("treeDigest() uses the known digests, and reads the other files", () => {
  const { tree } = writeMiniTree(temp.make());
  const known = new Map([[join(tree, "steps/helpers.sh"), "0".repeat(64)]]);
  expect(treeDigest(readTree(tree), known)).not.toBe(digestOf(tree));
  expect(treeDigest(readTree(tree), new Map())).toBe(digestOf(tree));
});

test("digestOfEntries() does not depend on the order", () => {
  const entry = fc.record({
    path: fc.string({ unit: "grapheme", minLength: 1 }),
    isExecutable: fc.boolean(),
    sha256: fc.constantFrom("a".repeat(64), "b".repeat(64)),
  });
  const entries = fc.uniqueArray(entry, { selector: ({ path }) => path });
  fc.assert(fc.property(
    entries.chain((all) => fc.tuple(fc.constant(all), shuffled(all))),
    ([all, mixed]) => expect(digestOfEntries(mixed)).toBe(digestOfEntries(all)),
  ));
});

function shuffled(all: DigestedEntry[]): fc.Arbitrary<DigestedEntry[]> {
  return fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length });
}
