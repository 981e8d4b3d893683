// SPDX-License-Identifier: MIT
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Of } from "../../src/bytes.ts";
import { readRecord } from "../../src/record/read.ts";
import { TempDirs } from "../support/files.ts";
import { seedstrap } from "../support/run.ts";
import { type MiniTree, miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

/** Makes a checkout, and a bwrap program that prints its arguments. */
function scene({ files = {}, distfiles = {} }: Partial<MiniTree> = {}) {
  const dir = temp.make();
  const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed", ...files } });
  Object.assign(mini.distfiles, distfiles);
  const { tree, mirror } = writeMiniTree(dir, mini);
  const bin = join(dir, "bin");
  mkdirSync(bin);
  // What the guest of a bootstrap that has come to its end prints, and the arguments.
  const done = String.raw`\n +> pkg=alpha-1.0\n +> kaem --file pass2.kaem\n` +
    String.raw`alpha-1.0: build successful\n`;
  const script = `#!/bin/sh\nprintf '${done}'\necho "$@"\n`;
  writeFileSync(join(bin, "bwrap"), script, { mode: 0o755 });
  const target = join(dir, "target");
  const pass = (name: string, ...more: string[]) =>
    seedstrap(
      [
        "-bw",
        "--internal-ci",
        name,
        "-m",
        `file://${mirror}`,
        "--tree",
        tree,
        "-t",
        target,
        ...more,
      ],
      { env: { PATH: `${bin}:${process.env["PATH"]}` } },
    );
  return { dir, target, pass, names: Object.keys(mini.distfiles).sort() };
}

test("pass2 continues in the target of pass1 with all distfiles, and starts its init", async () => {
  const { target, pass, names } = scene();
  const first = await pass("pass1");
  expect(first).toMatchObject({ code: 0 });
  expect(first.stdout).toContain(`--tmpfs /tmp /${SEED}\n`);
  // The bootstrap of the first pass has removed, created and changed files.
  const distfiles = join(target, "external/distfiles");
  rmSync(join(distfiles, "beta-2.0.tar.gz"));
  writeFileSync(join(distfiles, "gamma-3.0.tar.gz"), "cut");
  writeFileSync(join(distfiles, "made-there"), "");
  writeFileSync(join(target, "steps/helpers.sh"), "changed");
  mkdirSync(join(target, "usr"));
  const config = readFileSync(join(target, "steps/bootstrap.cfg"), "utf8");

  const second = await pass("pass2", "--external-sources");
  expect(second).toMatchObject({ code: 0 });
  expect(second.stdout).toContain("--tmpfs /tmp /init\n");
  expect(second.stdout).toContain("--unshare-net");
  expect(readdirSync(distfiles).sort()).toEqual([...names, "made-there"].sort());
  expect(readFileSync(join(distfiles, "gamma-3.0.tar.gz")).length).toBeGreaterThan(3);
  expect(readFileSync(join(target, "steps/helpers.sh"), "utf8")).toBe("changed");
  expect(readFileSync(join(target, "steps/bootstrap.cfg"), "utf8")).toBe(config);
  expect(readRecord(target).options).toMatchObject({ internalCi: "pass2", externalSources: true });
  expect(await pass("pass3", "--external-sources")).toMatchObject({ code: 0 });
});

test("a bwrap that makes no PID namespace starts a bootstrap without one, which is told", async () => {
  const { dir, pass } = scene();
  const first = await pass("pass1");
  expect(first).toMatchObject({ code: 0, stderr: expect.not.stringContaining("PID namespace") });
  expect(first.stdout).toContain("--unshare-pid --die-with-parent --unshare-user");
  const refuses = '#!/bin/sh\ncase "$*" in *--unshare-pid*) exit 1 ;; esac\n' +
    'echo "$@"\necho "alpha-1.0: build successful"\n';
  writeFileSync(join(dir, "bin/bwrap"), refuses, { mode: 0o755 });
  const second = await pass("pass2");
  expect(second.code).toBe(0);
  expect(second.stderr).toContain("bwrap makes no PID namespace here");
  expect(second.stdout).toContain("\n--unshare-user --uid 0");
});

test("a later pass is refused if no pass1 has run in the target", async () => {
  const { dir, target, pass } = scene();
  const none = await pass("pass2");
  expect(none.stderr).toContain("Cannot find a built target");
  expect(none.code).toBe(7);
  expect(readdirSync(dir).sort()).toEqual(["bin", "mirror", "tree"]);
  await pass("pass1");
  rmSync(join(target, "init"));
  const gone = await pass("pass2");
  expect(gone.stderr).toContain("no pass1 has run there");
  expect(gone.stderr).toContain("Begin with --bwrap --internal-ci pass1");
});

test("a pass does not write through a link that the pass before has left", async () => {
  const { dir, target, pass } = scene();
  await pass("pass1");
  const distfiles = join(target, "external/distfiles");
  const outside = join(dir, "outside");
  mkdirSync(outside);
  rmSync(join(distfiles, "beta-2.0.tar.gz"));
  symlinkSync(join(outside, "file"), join(distfiles, "beta-2.0.tar.gz"));
  expect(await pass("pass2")).toMatchObject({ code: 0 });
  expect(readdirSync(outside)).toEqual([]);
  rmSync(distfiles, { recursive: true });
  symlinkSync(outside, distfiles);
  const ran = await pass("pass2");
  expect(ran.stderr).toContain(`Cannot put files into ${distfiles}: it is not a directory`);
  expect(ran.code).toBe(7);
  expect(readdirSync(outside)).toEqual([]);
});

test("a pass replaces a half-written file of a pass that was killed", async () => {
  const { target, pass, names } = scene();
  await pass("pass1");
  const distfiles = join(target, "external/distfiles");
  rmSync(join(distfiles, "beta-2.0.tar.gz"));
  writeFileSync(join(distfiles, ".seedstrap.part"), "cut");
  expect(await pass("pass2", "--external-sources")).toMatchObject({ code: 0 });
  expect(readdirSync(distfiles).sort()).toEqual(names);
});

test("a pass puts a distfile again whose name is as long as one can be", async () => {
  const name = `${"n".repeat(243)}.tar.gz`;
  const body = new TextEncoder().encode("a body");
  const sources = `f http://127.0.0.1:9/${name} ${sha256Of(body)}\n`;
  const { target, pass } = scene({
    files: { "steps/alpha-1.0/sources": sources },
    distfiles: { [name]: body },
  });
  expect(await pass("pass1")).toMatchObject({ code: 0 });
  const place = join(target, "external/distfiles", name);
  rmSync(place, { force: true });
  expect(await pass("pass2", "--external-sources")).toMatchObject({ code: 0 });
  expect(readFileSync(place, "utf8")).toBe("a body");
});
