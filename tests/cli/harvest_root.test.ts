// SPDX-License-Identifier: MIT
/** What a bootstrap in a directory leaves: its packages, and its root as a tar file. */
import { afterAll, describe, expect, test } from "bun:test";
import { Buffer } from "node:buffer";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readArchive } from "../../src/archive/archive.ts";
import { sha256 } from "../fetch/servers.ts";
import { sha256OfFile, TempDirs, writeFiles } from "../support/files.ts";
import { run, seedstrap } from "../support/run.ts";

const temp = new TempDirs();
afterAll(() => temp.release());

const LONG = `usr/share/${"a long name/".repeat(30)}file`;
const NAMES = ["a b", "-rf", "*", "line\nbreak", "\x1b[31mred", "ü".repeat(120)];

/** Makes the root of a finished bootstrap, in one order or the other. */
function finishedRoot(isOther = false): string {
  const dir = temp.make();
  const files: [string, string][] = [
    ["external/repo/one-1.0_0.tar.bz2", "package one"],
    ["external/repo/two-2.0_1.tar.bz2", "package two"],
    ["external/distfiles/one-1.0.tar.gz", "source"],
    ["steps/SHA256SUMS.pkgs", `${sha256("package one")}  one-1.0_0.tar.bz2\n`],
    ["usr/bin/tool", "#!/bin/sh\n"],
    ["usr/bin/.seedstrap", "of the root"],
    ["usr/a/c", "c"],
    ["usr/a-b", "a-b"],
    [LONG, "x".repeat(1000)],
    ...NAMES.map((name): [string, string] => [`names/${name}`, name]),
    // Not of the root.
    [".seedstrap/runs/1.log", isOther ? "log" : "another log"],
    ["seedstrap.json", isOther ? "{}" : "[]"],
    ["sbom.cdx.json", "{}"],
    ["dev/null", "a device, as good as"],
    ["proc/1/status", isOther ? "1" : "2"],
    ["sys/kernel/x", "x"],
    ["usr/dev/null", "of the root"],
  ];
  writeFiles(dir, Object.fromEntries(isOther ? files.toReversed() : files));
  chmodSync(join(dir, "proc"), isOther ? 0o555 : 0o755);
  for (const name of ["empty", "tmp"]) mkdirSync(join(dir, name));
  chmodSync(join(dir, "tmp"), 0o1777);
  chmodSync(join(dir, "usr/bin/tool"), 0o4755);
  chmodSync(join(dir, "usr/a-b"), 0o600);
  linkSync(join(dir, "usr/bin/tool"), join(dir, "usr/bin/also"));
  symlinkSync("/etc/passwd", join(dir, "usr/absolute"));
  symlinkSync(`../${"../".repeat(60)}etc/shadow`, join(dir, "usr/outside"));
  symlinkSync("/", join(dir, "usr/root"));
  if (isOther) utimesSync(join(dir, "usr/a/c"), 1, 2);
  return dir;
}

/** Whatever their mode is, a root has these with 755. */
const KERNEL_DIRS = ["dev", "proc", "sys"];
/** Returns the root without what is left out, by path: modes, contents and targets. */
function content(dir: string): Record<string, string> {
  return Object.fromEntries(
    namesBelow(dir).sort().map((name) => {
      const stat = lstatSync(join(dir, name));
      const mode = (stat.mode & 0o7777).toString(8);
      if (KERNEL_DIRS.includes(name)) return [name, "of the kernel"];
      if (stat.isSymbolicLink()) return [name, `-> ${readlinkSync(join(dir, name))}`];
      return [
        name,
        stat.isDirectory() ? mode : `${mode} ${readFileSync(join(dir, name), "latin1")}`,
      ];
    }),
  );
}

function namesBelow(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? [entry.name, ...namesBelow(join(dir, entry.name)).map((name) => `${entry.name}/${name}`)]
      : [entry.name]
  );
}

test("harvest copies the packages of a directory, checked by the lists in it", async () => {
  const root = finishedRoot();
  const output = join(temp.make(), "run1");
  const ran = await seedstrap(["harvest", root, "-o", output]);
  expect(ran.stderr).toBe("");
  expect(ran.stdout).toContain("2 packages from /external/repo");
  expect(ran.stdout).toContain("1 of them match /steps/SHA256SUMS.pkgs");
  expect(readdirSync(output).sort()).toEqual([
    "SHA256SUMS",
    "one-1.0_0.tar.bz2",
    "two-2.0_1.tar.bz2",
  ]);
  const same = await seedstrap(["harvest", "--compare", root, output]);
  expect(same).toMatchObject({ code: 0, stdout: "all 2 packages are the same\n" });
});

test("harvest of a directory follows no link in it, and trusts no package", async () => {
  const elsewhere = finishedRoot();
  const root = temp.make();
  mkdirSync(join(root, "external"));
  symlinkSync(join(elsewhere, "external/repo"), join(root, "external/repo"));
  const refused = await seedstrap(["harvest", root, "-o", join(temp.make(), "x")]);
  expect(refused.stderr).toContain("it has no /external/repo");
  expect(refused.code).toBe(6);

  writeFileSync(join(elsewhere, "external/repo/one-1.0_0.tar.bz2"), "package 0ne");
  symlinkSync("/etc/passwd", join(elsewhere, "external/repo/three_0.tar.bz2"));
  const output = join(temp.make(), "y");
  const wrong = await seedstrap(["harvest", elsewhere, "-o", output]);
  expect(wrong.stderr).toContain("Cannot trust one-1.0_0.tar.bz2");
  expect(wrong.code).toBe(5);
  expect(existsSync(output)).toBe(false);
  expect((await seedstrap(["harvest", elsewhere, "--force", "-o", output])).code).toBe(0);
  expect(lstatSync(join(output, "three_0.tar.bz2"), { throwIfNoEntry: false })).toBeUndefined();
});

describe.skipIf(Bun.which("tar") === null)("harvest --root", () => {
  test("writes what tar unpacks to the same root, without what is not of it", async () => {
    const root = finishedRoot();
    const output = join(temp.make(), "root.tar");
    const ran = await seedstrap(["harvest", root, "--root", "-o", output]);
    expect(ran.stderr + ran.code).toBe("0");
    expect(ran.stdout).toContain(`SHA-256 ${sha256OfFile(output)}`);
    const unpacked = temp.make();
    expect((await run(["tar", "-C", unpacked, "-xpf", output])).code).toBe(0);
    const wanted = content(root);
    for (const name of Object.keys(wanted)) {
      if (/^(?:\.seedstrap|seedstrap\.json|sbom\.cdx\.json)|^(?:dev|proc|sys)\//.test(name)) {
        delete wanted[name];
      }
    }
    expect(content(unpacked)).toEqual(wanted);
    const ino = (name: string) => lstatSync(join(unpacked, "usr/bin", name)).ino;
    expect(ino("also")).toBe(ino("tool"));
    const listed = await run(["tar", "--numeric-owner", "--utc", "-tvf", output]);
    const owners = new Set(listed.stdout.trim().split("\n").map((line) => line.split(/ +/)[1]));
    expect([...owners]).toEqual(["0/0"]);
    expect(listed.stdout.replaceAll("1970-01-01 00:00", "")).not.toMatch(/ 20\d\d-/);
  });

  test("is the same for the same root, whatever its times, its place and the order of its names", async () => {
    const outputs = [join(temp.make(), "1.tar"), join(temp.make(), "2.tar")] as const;
    for (const [index, output] of outputs.entries()) {
      const ran = await seedstrap(["harvest", finishedRoot(index === 1), "--root", "-o", output]);
      expect(ran.code).toBe(0);
    }
    expect(sha256OfFile(outputs[0])).toBe(sha256OfFile(outputs[1]));
  });

  test("is an archive that --early-preseed reads", async () => {
    const root = temp.make();
    writeFiles(root, { "usr/bin/tool": "tool", [LONG]: "long" });
    symlinkSync(`../${"x/".repeat(60)}y`, join(root, "usr/deep"));
    linkSync(join(root, "usr/bin/tool"), join(root, "usr/same"));
    const output = join(temp.make(), "root.tar");
    expect((await seedstrap(["harvest", root, "--root", "-o", output])).code).toBe(0);
    const archive = await readArchive(output, { maxBytes: 1e6 });
    const paths = archive.members.map(({ path, kind }) => `${kind} ${path}`);
    expect(paths).toContain(`file ${LONG}`);
    expect(paths).toContain("symlink usr/deep");
    expect(paths).toContain("file usr/bin/tool");
  });

  test("leaves out, and names, what no tar for another machine has", async () => {
    const root = finishedRoot();
    expect((await run(["mkfifo", join(root, "usr/fifo")])).code).toBe(0);
    writeFileSync(Buffer.from(join(root, "usr/") + "\xff", "latin1"), "x");
    const output = join(temp.make(), "root.tar");
    const ran = await seedstrap(["harvest", root, "--root", "-o", output]);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain("warning: usr/fifo is left out: it is a fifo");
    expect(ran.stderr).toMatch(/warning: usr\/.* is left out: its name is not UTF-8/);
    const listed = await run(["tar", "-tf", output]);
    expect(listed.stdout).not.toContain("usr/fifo");
    expect(listed.stdout).toContain("usr/a-b");
  });

  test("replaces nothing, and takes a directory only", async () => {
    const root = finishedRoot();
    const output = join(temp.make(), "root.tar");
    writeFileSync(output, "mine");
    const there = await seedstrap(["harvest", root, "--root", "-o", output]);
    expect(there.stderr).toContain(`${output} exists`);
    expect(there.code).toBe(7);
    expect(readFileSync(output, "utf8")).toBe("mine");
    const file = await seedstrap(["harvest", output, "--root", "-o", `${output}.2`]);
    expect(file.stderr).toContain("with --root: it is not a directory");
    expect(file.code).toBe(2);
    const both = await seedstrap(["harvest", "--root", "--compare", root, root]);
    expect(both.stderr).toContain("Cannot use --root with --compare");
    expect(both.code).toBe(2);
  });
});
