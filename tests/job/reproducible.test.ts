// SPDX-License-Identifier: MIT
/** The same inputs give the same images, for any user, path, runtime and environment. */
import { afterEach, expect, test } from "bun:test";
import { cpSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { TempDirs, writeFiles } from "../support/files.ts";
import { DENO, MAIN, run, type RunOptions, seedstrap } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

const temp = new TempDirs();
afterEach(() => temp.release());

/** Files of a complete target. */
const WHOLE = ["init.img", "payload.img", "sbom.cdx.json", "seedstrap.json"];

async function build(dir: string, name: string, options: RunOptions = {}): Promise<Buffer[]> {
  const target = join(dir, name);
  const args = ["build", "--qemu", "--external-sources", "--target-size", "64", "--tree"];
  const ran = await seedstrap(
    [
      ...args,
      join(dir, "tree"),
      "-m",
      `file://${join(dir, "mirror")}`,
      "--distfiles",
      join(dir, "store"),
      "-t",
      target,
    ],
    options,
  );
  // On a busy machine it says after a while how far it is.
  const stderr = ran.stderr.replace(/^[a-z ]+: \d+ %, .*\n/gm, "");
  expect({ ...ran, stderr }).toMatchObject({ code: 0, stderr: "" });
  return WHOLE.map((file) => readFileSync(join(target, file)));
}
const equal = (a: Buffer[], b: Buffer[]) => a.map((bytes, i) => bytes.equals(b[i]!));

test("copies of a checkout give the same images for any order, umask, zone and locale", async () => {
  const mini = miniTree({ importsPayload: true });
  const a = temp.make();
  const b = temp.make();
  writeMiniTree(a, mini);
  // The same files, created in reverse order and with other modes and times.
  const before = process.umask(0o077);
  try {
    for (const [path, content] of Object.entries(mini.files).reverse()) {
      writeFiles(join(b, "tree"), { [path]: content });
    }
    for (const [name, body] of Object.entries(mini.distfiles).reverse()) {
      writeFiles(join(b, "mirror"), { [name]: body });
    }
  } finally {
    process.umask(before);
  }
  const one = await build(a, "target", { env: { TZ: "UTC", LC_ALL: "C", USER: "a" } });
  const env = { TZ: "Pacific/Kiritimati", LC_ALL: "tr_TR.UTF-8", LANG: "tr_TR.UTF-8", USER: "b" };
  const shell = ["sh", "-c", 'umask 077; exec "$@"', "sh", process.execPath, MAIN];
  const two = await build(b, "elsewhere", { env, command: shell, cwd: b });
  expect(equal(one.slice(0, 3), two.slice(0, 3))).toEqual([true, true, true]);
  // The record names the directory of the mirror, but nothing else of this machine.
  const record = (bytes: Buffer, dir: string) => bytes.toString().replaceAll(dir, "DIR");
  expect(record(one[3]!, a)).toBe(record(two[3]!, b));
});

test("Bun and Deno make the same images", async () => {
  const dir = temp.make();
  writeMiniTree(dir, miniTree({ importsPayload: true }));
  const bun = await build(dir, "bun");
  const command = [DENO, "run", "--quiet", "--allow-all", MAIN];
  const deno = await build(dir, "deno", { command });
  expect(equal(bun, deno)).toEqual([true, true, true, true]);
});

/** A directory with space for large distfiles. */
const LARGE = { importsPayload: true, ramdiskKib: 200_000, kexecKib: 200_000 };
/** Number of builds to kill. */
const KILLS = Number(process.env["SEEDSTRAP_KILLS"] ?? 10);

test(
  "a build that is killed leaves no or complete images, and the next one succeeds",
  async () => {
    const dir = temp.make();
    writeMiniTree(dir, miniTree({ ...LARGE, distfileBytes: 12_000_000 }));
    const began = performance.now();
    const whole = await build(dir, "whole");
    const tookMs = performance.now() - began;
    const target = join(dir, "target");
    const argv = [process.execPath, MAIN, "build", "--qemu", "--external-sources"];
    argv.push("--target-size", "64", "--tree", join(dir, "tree"), "-m", `file://${dir}/mirror`);
    argv.push("--distfiles", join(dir, "store"), "-t", target);
    for (let round = 0; round < KILLS; round++) {
      // Every other time there is already a target of another build.
      rmSync(target, { recursive: true, force: true });
      if (round % 2 === 1) cpSync(join(dir, "whole"), target, { recursive: true });
      const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
      await Bun.sleep(tookMs * (0.2 + 0.8 * Math.random()));
      child.kill("SIGKILL");
      await child.exited;
      const left = readTarget(target).filter((name) => !name.startsWith("."));
      for (const name of left) {
        expect(WHOLE).toContain(name);
        const wanted = whole[WHOLE.indexOf(name)]!;
        expect([name, readFileSync(join(target, name)).equals(wanted)]).toEqual([name, true]);
      }
      if (left.includes("seedstrap.json")) expect(left).toEqual(WHOLE);
    }
    expect(equal(await build(dir, "target"), whole)).toEqual([true, true, true, true]);
    expect(readdirSync(join(target, ".seedstrap"))).toEqual(["made"]);
  },
  60_000,
);

function readTarget(target: string): string[] {
  try {
    return readdirSync(target).sort();
  } catch {
    return [];
  }
}

test("two simultaneous builds into one target do not mix", async () => {
  const dir = temp.make();
  writeMiniTree(dir, miniTree({ ...LARGE, distfileBytes: 8_000_000 }));
  const argv = [process.execPath, MAIN, "build", "--qemu", "--external-sources", "--tree"];
  argv.push(join(dir, "tree"), "-m", `file://${dir}/mirror`, "-t", join(dir, "t"));
  argv.push("--target-size", "64", "--distfiles", join(dir, "store"));
  const both = await Promise.all([run(argv), run(argv)]);
  const codes = both.map(({ code }) => code).sort();
  // Mostly one is refused; if it starts late enough, it builds again.
  expect([[0, 0], [0, 7]]).toContainEqual(codes);
  if (codes[1] === 7) {
    expect(both.map(({ stderr }) => stderr).join()).toContain("uses it");
  }
  const verified = await seedstrap(["image", "verify", join(dir, "t/payload.img")]);
  expect(verified.code).toBe(0);
});
