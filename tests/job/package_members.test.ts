// SPDX-License-Identifier: MIT
import { afterAll, describe, expect } from "bun:test";
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { diffMembers, type ReadArchive } from "../../src/job/package_members.ts";
import { sampleBody } from "../fetch/servers.ts";
import { TempDirs, writeFiles } from "../support/files.ts";
import { testWith } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const LONG = `${"folder/".repeat(20)}${"n".repeat(120)}`;
const NAMES = ["./a b", "./line\nbreak", `./${LONG}`, "./ü", `./${"l".repeat(120)}\n9 path=x`];

/** Reads bytes in parts of this size. */
const parts = (bytes: Uint8Array, size = 1000): ReadArchive =>
  function* () {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  };

function tar(dir: string, ...options: readonly string[]): Uint8Array {
  const argv = ["tar", "-C", dir, "--sort=name", "--owner=0", "--group=0", ...options, "-cf-", "."];
  const ran = Bun.spawnSync(argv);
  if (ran.exitCode !== 0) throw new Error(ran.stderr.toString());
  return ran.stdout;
}

function writeTree(dir: string): void {
  writeFiles(dir, {
    ...Object.fromEntries(NAMES.map((name) => [name, name])),
    "big": sampleBody(70_000),
  });
}

async function faultOf(bytes: Uint8Array, name = "x.tar"): Promise<string> {
  try {
    await diffMembers(name, parts(bytes), parts(bytes));
  } catch (error) {
    if (error instanceof UserError && error.kind === "format") return error.message;
    throw error;
  }
  return "nothing was wrong";
}

describe("diffMembers()", () => {
  testWith("tar").each(["gnu", "pax", "oldgnu"])("reads what tar writes as %s", async (format) => {
    const [one, two] = [temp.make(), temp.make()];
    writeTree(one);
    cpSync(one, two, { recursive: true, preserveTimestamps: true });
    for (const name of [NAMES[1]!, LONG, NAMES[4]!]) writeFileSync(join(two, name), "changed");
    rmSync(join(two, "a b"));
    writeFileSync(join(two, "new"), "");
    // tar would store when a file was read, too.
    const times = format === "pax" ? ["--pax-option=delete=atime,delete=ctime"] : [];
    const options = [`--format=${format}`, "--mtime=@0", ...times];
    const [a, b] = [tar(one, ...options), tar(two, ...options)];
    for (const size of [1, 511, 100_000]) {
      expect(await diffMembers("x.tar", parts(a, size), parts(b, size))).toEqual([
        { kind: "only in first", path: "./a b" },
        { kind: "different", path: `./${LONG}` },
        { kind: "different", path: "./line\nbreak" },
        { kind: "different", path: NAMES[4]! },
        { kind: "only in second", path: "./new" },
      ]);
      expect(await diffMembers("x.tar", parts(a, size), parts(a))).toEqual([]);
    }
  });

  testWith("tar")("tells modes, times and what only a pax header holds apart", async () => {
    const dir = temp.make();
    writeFiles(dir, { file: "x" });
    const base = tar(dir, "--mtime=@0", "--mode=644");
    const changed = async (...options: readonly string[]) =>
      (await diffMembers("x.tar", parts(base), parts(tar(dir, ...options)))).map(({ path }) =>
        path
      );
    expect(await changed("--mtime=@1", "--mode=644")).toEqual(["./", "./file"]);
    expect(await changed("--mtime=@0", "--mode=600")).toEqual(["./", "./file"]);
    const pax = (mtime: string) =>
      parts(
        tar(dir, "--format=pax", "--pax-option=delete=atime,delete=ctime", `--mtime=@${mtime}`),
      );
    expect(await diffMembers("x.tar", pax("5.25"), pax("5.25"))).toEqual([]);
    expect(await diffMembers("x.tar", pax("5.25"), pax("5.75"))).toHaveLength(2);
  });

  for (
    const [program, name] of [["bzip2", "x.tar.bz2"], ["gzip", "x.tar.gz"], ["xz", "x.tar.xz"]]
  ) {
    testWith(program!)(`unpacks by ${program}, and says what it cannot unpack`, async () => {
      const dir = temp.make();
      writeTree(dir);
      const plain = tar(dir);
      const packed = Bun.spawnSync([program!, "-c"], { stdin: plain }).stdout;
      expect(await diffMembers(name!, parts(packed), parts(packed))).toEqual([]);
      const empty = Bun.spawnSync([program!, "-c"], { stdin: new Uint8Array(1024) }).stdout;
      expect(await diffMembers(name!, parts(packed), parts(empty))).toHaveLength(NAMES.length + 22);
      const cut = packed.subarray(0, packed.length / 2);
      expect(await faultOf(cut, name)).toBe(`Cannot read ${name}: ${program} cannot unpack it`);
      const text = Bun.spawnSync([program!, "-c"], { stdin: sampleBody(500_000) }).stdout;
      expect(await faultOf(text, name)).toContain("a header has a wrong checksum");
    });
  }

  testWith("tar")("refuses archives that are cut or damaged", async () => {
    const dir = temp.make();
    writeTree(dir);
    const whole = tar(dir);
    expect(await faultOf(whole)).toBe("nothing was wrong");
    expect(await faultOf(whole.subarray(0, 5000))).toContain("it ends in the middle");
    expect(await faultOf(whole.subarray(0, 512))).toContain("it ends in the middle");
    expect(await faultOf(new Uint8Array())).toContain("it ends in the middle");
    expect(await faultOf(whole, "x.zip")).toContain("it is no tar archive by its name");
    const damaged = whole.slice();
    damaged[3]! ^= 1;
    expect(await faultOf(damaged)).toContain("a header has a wrong checksum");
    const long = join(dir, "long.tar");
    writeFileSync(long, tar(dir, "--format=gnu"));
    truncateSync(long, 600);
    expect(await faultOf(readFileSync(long))).toContain("it ends in the middle");
  });
});
