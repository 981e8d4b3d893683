// SPDX-License-Identifier: MIT
import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { memorySource } from "../../src/format/reader.ts";
import { diffMembers } from "../../src/archive/diff.ts";
import { forwardSource } from "../../src/source/forward.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const LONG = `${"folder/".repeat(20)}${"n".repeat(120)}`;
const NAMES = ["a b", LONG, "ü"];

/** Makes a source that can only be read forwards, in parts of a given size. */
const source = (bytes: Uint8Array, size = 1000) =>
  forwardSource("x", bytes.length, function* () {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  });

function tar(dir: string, ...options: readonly string[]): Uint8Array {
  const argv = ["tar", "-C", dir, "--sort=name", "--owner=0", "--group=0", ...options, "-cf-", "."];
  const ran = Bun.spawnSync(argv);
  if (ran.exitCode !== 0) throw new Error(ran.stderr.toString());
  return ran.stdout;
}

function writeTree(dir: string): void {
  const small = Object.fromEntries(NAMES.map((name) => [name, name]));
  writeFiles(dir, { ...small, big: sampleBody(70_000) });
}

async function faultOf(bytes: Uint8Array): Promise<string> {
  try {
    await diffMembers(source(bytes), source(bytes));
  } catch (error) {
    if (error instanceof UserError && error.kind === "format") return error.message;
    throw error;
  }
  return "nothing was wrong";
}

test("forwardSource() reads at any offset, in any order and with parts of any size", () => {
  const bytes = sampleBody(5000);
  const reads = fc.array(fc.tuple(fc.nat(6000), fc.nat(3000)), { maxLength: 8 });
  fc.assert(fc.property(fc.integer({ min: 1, max: 5000 }), reads, (size, reads) => {
    const [one, other] = [source(bytes, size), memorySource(bytes)];
    for (const [offset, length] of reads) {
      const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
      expect(one.read(offset, a)).toBe(other.read(offset, b));
      expect(a).toEqual(b);
    }
  }));
});

describe("diffMembers()", () => {
  testWith("tar").each(["gnu", "pax"])("lists the differences of %s tar files", async (format) => {
    const [one, two] = [temp.make(), temp.make()];
    writeTree(one);
    cpSync(one, two, { recursive: true, preserveTimestamps: true });
    for (const name of [LONG, "ü"]) writeFileSync(join(two, name), "changed");
    rmSync(join(two, "a b"));
    writeFileSync(join(two, "new"), "");
    const [a, b] = [tar(one, `--format=${format}`), tar(two, `--format=${format}`)];
    for (const size of [1, 511, 100_000]) {
      expect(await diffMembers(source(a, size), source(b, size))).toEqual([
        { kind: "only in first", path: "a b" },
        { kind: "different", path: LONG },
        { kind: "only in second", path: "new" },
        { kind: "different", path: "ü" },
      ]);
      expect(await diffMembers(source(a, size), source(a))).toEqual([]);
    }
  });

  testWith("tar")("compares modes, but not times", async () => {
    const dir = temp.make();
    writeFiles(dir, { file: "x" });
    const base = source(tar(dir, "--mtime=@0", "--mode=644"));
    const same = source(tar(dir, "--mtime=@1", "--mode=644"));
    expect(await diffMembers(base, same)).toEqual([]);
    const other = source(tar(dir, "--mtime=@0", "--mode=600"));
    expect(await diffMembers(base, other)).toEqual([{ kind: "different", path: "file" }]);
  });

  for (const program of ["bzip2", "gzip", "xz", "zstd"]) {
    testWith(program)(`reads archives of ${program}, and refuses truncated ones`, async () => {
      const dir = temp.make();
      writeTree(dir);
      const plain = tar(dir);
      const packed = Bun.spawnSync([program, "-c"], { stdin: plain }).stdout;
      expect(await diffMembers(source(packed), source(plain))).toEqual([]);
      expect(await faultOf(packed.subarray(0, packed.length / 2))).toStartWith("Cannot ");
    });
  }

  testWith("tar")("refuses a truncated archive, and a file that is not an archive", async () => {
    const dir = temp.make();
    writeTree(dir);
    const whole = tar(dir);
    expect(await faultOf(whole)).toBe("nothing was wrong");
    expect(await faultOf(whole.subarray(0, 5000))).toStartWith("Cannot use archive x");
    expect(await faultOf(sampleBody(5000))).toStartWith("Cannot read archive x");
  });
});
