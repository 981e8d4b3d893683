// SPDX-License-Identifier: MIT
/** Fifos, whose other end nobody opens, in place of all that is read. */
import { afterAll, expect } from "bun:test";
import { cpSync, realpathSync, rmSync } from "node:fs";
import { join } from "node:path";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, start, testWith } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterAll(() => temp.release());
const test = testWith("mkfifo");

/** Runs seedstrap, for 20 seconds at most: a run that waits for a fifo would never end. */
async function ended(args: readonly string[]) {
  const child = start([process.execPath, MAIN, ...args]);
  const killer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const [stderr, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  clearTimeout(killer);
  return { stderr, code };
}

function fifo(path: string): string {
  rmSync(path, { recursive: true, force: true });
  Bun.spawnSync(["mkfifo", path]);
  return path;
}

/** Builds a target, once. */
const scene = (async () => {
  const dir = realpathSync(temp.make());
  const seed = { "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed": "the seed" };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files: seed }));
  const sources = ["--tree", tree, "-m", `file://${mirror}`, "--distfiles", join(dir, "store")];
  const build = ["build", "--qemu", "-qs", "64M", "--external-sources", ...sources];
  const target = join(dir, "target");
  const { code } = await seedstrap([...build, "-t", target]);
  return { dir, tree, sources, build, target, code, pipe: fifo(join(dir, "pipe")) };
})();

test("a fifo on the command line is refused at once, by its name", async () => {
  const { dir, tree, sources, build, target, code, pipe } = await scene;
  expect(code).toBe(0);
  const commands: [string[], number][] = [
    [["reproduce", pipe, "--tree", tree], 7],
    [["image", "ls", pipe], 7],
    [["image", "verify", pipe], 7],
    [["image", "diff", join(target, "init.img"), pipe], 7],
    [["harvest", pipe, "--compare", pipe], 7],
    [["preflight", "--log", pipe], 7],
    [["report", pipe, "-o", join(dir, "out.html")], 7],
    [["report", target, "-o", pipe], 7],
    [["write", pipe, join(dir, "none")], 7],
    [["bundle", "verify", pipe], 7],
    [["bundle", "unpack", pipe, "-o", join(dir, "out")], 7],
    [[...build, "-t", pipe], 7],
    [[...build, "-t", join(dir, "t2"), "--kernel", pipe], 2],
    [["build", "--bwrap", ...sources, "-t", join(dir, "t2"), "--early-preseed", pipe], 7],
    [["plan", "--qemu", "--tree", pipe], 3],
  ];
  for (const [command, code] of commands) {
    const ran = await ended(command);
    expect(ran.stderr).toContain(pipe);
    expect([command, ran.code]).toEqual([command, code]);
  }
}, 120_000);

test("a fifo in a target is refused at once, by its name", async () => {
  const { dir, build, target } = await scene;
  const cases: [string, (target: string) => string[]][] = [
    ["seedstrap.json", (copy) => ["run", copy]],
    ["seedstrap.json", (copy) => ["report", copy, "-o", join(dir, "out.html")]],
    ["init.img", (copy) => ["run", copy]],
    ["init.img", (copy) => ["preflight", "--qemu", copy]],
    ["init.img", (copy) => [...build, "-t", copy]],
    [".seedstrap", (copy) => ["run", copy]],
    [".seedstrap/lock", (copy) => ["run", copy]],
    [".seedstrap/runs", (copy) => ["run", copy]],
    ...["made", "lock", "parts", "scratch"].map((name): typeof cases[number] => [
      `.seedstrap/${name}`,
      (copy) => [...build, "-t", copy],
    ]),
  ];
  for (const [index, [name, command]] of cases.entries()) {
    const copy = join(dir, `copy${index}`);
    cpSync(target, copy, { recursive: true });
    const place = fifo(join(copy, name));
    const ran = await ended(command(copy));
    expect(ran.stderr).toContain(place);
    expect([name, ran.code]).toEqual([name, 7]);
  }
}, 120_000);

test("a step that is a fifo, or a link out of the checkout, is told by plan", async () => {
  const { dir, tree } = await scene;
  const step = join(tree, "steps/alpha-1.0/pass1.sh");
  fifo(step);
  expect(await ended(["plan", "--qemu", "--tree", tree])).toMatchObject({
    code: 3,
    stderr: expect.stringContaining(step),
  });
  Bun.spawnSync(["ln", "-sf", "/etc/hostname", step]);
  const ran = await ended(["plan", "--qemu", "--tree", tree]);
  expect(ran.stderr).toContain("Cannot follow a link out of the checkout, to /etc/hostname");
  expect(ran.stderr).toContain(step);
  expect(ran.code).toBe(3);
  rmSync(join(dir, "tree"), { recursive: true });
});
