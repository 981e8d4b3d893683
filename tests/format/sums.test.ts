// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import * as fc from "fast-check";
import { join } from "node:path";
import { formatSums, parseSums } from "../../src/format/sums.ts";
import { sha256 } from "../fetch/servers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { run, testWith } from "../support/run.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const DIGEST = "0".repeat(64);

test("parseSums() reads what formatSums() writes, for any names", () => {
  // Some programs treat the last one as the end of a line.
  const odd = fc.constantFrom("\\", "n", "r", "\n", "\r", " ", "*", "\u2028");
  const names = fc.uniqueArray(fc.string({ unit: odd, minLength: 1 }));
  fc.assert(fc.property(names, (names) => {
    const files = names.map((path) => ({ path, sha256: DIGEST }));
    expect([...parseSums(formatSums(files)).keys()]).toEqual(names);
  }));
});

test("parseSums() ignores lines of another form", () => {
  expect(parseSums(`\\${DIGEST}  a\\\\b\nnonsense\n${DIGEST}  c  d\n${DIGEST} *e\n`)).toEqual(
    new Map([["a\\b", DIGEST], ["c  d", DIGEST], ["e", DIGEST]]),
  );
});

testWith("sha256sum")("formatSums() equals the output of sha256sum", async () => {
  const dir = temp.make();
  const names = ["a b", "back\\slash", "line\nfeed", "re\rturn", "ü"];
  writeFiles(dir, Object.fromEntries(names.map((name) => [name, name])));
  const ran = await run(["sha256sum", ...names], { cwd: dir });
  expect(ran.stdout).toBe(formatSums(names.map((path) => ({ path, sha256: sha256(path) }))));
  writeFiles(dir, { list: ran.stdout });
  const check = await run(["sha256sum", "-c", "--quiet", join(dir, "list")], { cwd: dir });
  expect(check).toMatchObject({ code: 0 });
});
