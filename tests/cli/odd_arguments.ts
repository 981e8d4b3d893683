// SPDX-License-Identifier: MIT
/**
 * Every argument that is a path, with everything that a path can lead to.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { miniTree, writeMiniTree } from "../support/tree.ts";

/** Bytes that are the same in each run, and are in no format. */
export const NOISE = Uint8Array.from(
  { length: 1024 * 1024 },
  (_, i) => (i * i * 31 + (i >> 5)) % 256,
);

/** What is made of a path. */
export const ODD: Readonly<Record<string, (path: string) => void>> = {
  missing: () => {},
  unreadable: (path) => {
    writeFileSync(path, "");
    chmodSync(path, 0);
  },
  "a directory": (path) => mkdirSync(path),
  "a directory of others": (path) => mkdirSync(path, { mode: 0 }),
  empty: (path) => writeFileSync(path, ""),
  noise: (path) => writeFileSync(path, NOISE),
  "a pipe": (path) => spawnSync("mkfifo", [path]),
  "a link to itself": (path) => symlinkSync(path, path),
  "a link to /dev/null": (path) => symlinkSync("/dev/null", path),
};

/** Writes a miniature tree, its mirror, and what some of the commands need beside a built target. */
export async function writeScene(
  dir: string,
  build: (args: readonly string[]) => Promise<unknown>,
): Promise<void> {
  const seed = "seed/stage0-posix/bootstrap-seeds/POSIX/x86/kaem-optional-seed";
  writeMiniTree(dir, miniTree({ importsPayload: true, files: { [seed]: "a seed" } }));
  const at = (name: string) => join(dir, "work", name);
  mkdirSync(at("runs"), { recursive: true });
  writeFileSync(at("runs/a.tar.bz2"), "one");
  const owned = ["tree", "mirror", "work"].map((name) => join(dir, name));
  spawnSync("chown", ["-R", `${NOBODY_ID}:${NOBODY_ID}`, ...owned]);
  const from = inputsIn(dir);
  await build(["build", "-b", "--external-sources", ...from, "-t", at("target")]);
  await build(["bundle", "create", ...from, "-o", at("lb.tar")]);
  copyFileSync(at("target/init.img"), at("drive"));
  spawnSync("chown", [`${NOBODY_ID}:${NOBODY_ID}`, at("drive")]);
}

const NOBODY_ID = 65534;

function inputsIn(dir: string): string[] {
  const mirror = `file://${join(dir, "mirror")}`;
  return ["--tree", join(dir, "tree"), "-m", mirror, "--distfiles", join(dir, "work/store")];
}

/**
 * Command lines that have a path at X, by what they are called in the table.
 *
 * @param out A path at which nothing is, for what a command may write.
 */
export function argumentsIn(dir: string, out: string): Readonly<Record<string, readonly string[]>> {
  const at = (name: string) => join(dir, "work", name);
  const tree = join(dir, "tree");
  const from = inputsIn(dir);
  const sources = from.slice(2);
  const boot = at("target/init.img");
  const record = at("target/seedstrap.json");
  return {
    "plan --tree X": ["plan", "-b", "--tree", "X"],
    "plan --repo X": ["plan", "-b", "--repo", "X", ...from],
    "plan --early-preseed X": ["plan", "-b", "--early-preseed", "X", ...from],
    "plan --kernel X": ["plan", "-b", "--kernel", "X", ...from],
    "plan -m X": ["plan", "-b", "--tree", tree, "-m", "file://X"],
    "plan --distfiles X": ["plan", "-b", "--tree", tree, "--distfiles", "X"],
    "build -t X": ["build", "-b", ...from, "-t", "X"],
    "build -m X": ["build", "-b", "--offline", "--tree", tree, "-m", "file://X", "-t", out],
    "build --distfiles X": ["build", "-b", ...from, "--distfiles", "X", "-t", out],
    "build --repo X": ["build", "-b", ...from, "--repo", "X", "-t", out],
    "build --boot-device X": ["build", "-b", ...from, "-t", out, "--boot-device", "X"],
    "build --output X": ["build", "-b", ...from, "-t", out, "--output", "boot=X"],
    "sources --tree X": ["sources", "--tree", "X"],
    "image ls X": ["image", "ls", "X"],
    "image ls --record X": ["image", "ls", "-l", boot, "--record", "X"],
    "image ls --tree X": ["image", "ls", "-l", boot, "--tree", "X"],
    "image cat X": ["image", "cat", "X", "steps/manifest"],
    "image extract X": ["image", "extract", "X", "-o", out],
    "image extract -o X": ["image", "extract", boot, "-o", "X"],
    "image verify X": ["image", "verify", "X"],
    "image verify --record X": ["image", "verify", boot, "--record", "X"],
    "image verify --tree X": ["image", "verify", boot, "--tree", "X"],
    "image diff X": ["image", "diff", "X", boot],
    "image diff . X": ["image", "diff", boot, "X"],
    "harvest X": ["harvest", "X", "-o", out],
    "harvest --compare X": ["harvest", "--compare", "X", at("runs")],
    "harvest --compare . X": ["harvest", "--compare", at("runs"), "X"],
    "reproduce X": ["reproduce", "X", ...from],
    "reproduce --tree X": ["reproduce", record, "--tree", "X", ...sources],
    "reproduce -t X": ["reproduce", record, ...from, "-t", "X"],
    "write X": ["write", "--file", "X", at("drive"), "--yes", "drive"],
    "write . X": ["write", boot, "X", "--yes", "odd"],
    "write --file . X": ["write", "--file", boot, "X", "--yes", "odd"],
    "bundle create --tree X": ["bundle", "create", "--tree", "X", ...sources, "-o", out],
    "bundle create --images X": ["bundle", "create", ...from, "--images", "X", "-o", out],
    "bundle create -o X": ["bundle", "create", ...from, "-o", "X"],
    "bundle verify X": ["bundle", "verify", "X"],
    "bundle ls X": ["bundle", "ls", "X"],
    "bundle unpack X": ["bundle", "unpack", "X", "-o", out],
    "bundle unpack -o X": ["bundle", "unpack", at("lb.tar"), "-o", "X"],
    "preflight X": ["preflight", "-b", "X", "-o", out],
    "preflight --payload X": ["preflight", "-q", "--payload", "X"],
    "preflight --log X": ["preflight", "--log", "X"],
    "preflight -o X": ["preflight", "-b", "-o", "X"],
    "run X": ["run", "X"],
    "report X": ["report", "X", "-o", out],
    "report -o X": ["report", at("target"), "-o", "X"],
    "demo --keep X": ["demo", "--keep", "X"],
  };
}

/** Where a command may end well, as far as the odd thing is one that it can use or does not need. */
const STORES = ["missing", "a directory", "a directory of others", "a link to itself"];
export const MAY_END_WELL: Readonly<Record<string, readonly string[]>> = {
  "build --output X": ["missing"],
  "plan --repo X": ["a directory"],
  "build --repo X": ["a directory"],
  "plan --kernel X": ["unreadable", "empty", "noise"],
  "plan -m X": Object.keys(ODD),
  "plan --distfiles X": STORES,
  "build --distfiles X": STORES,
  "build -t X": ["missing", "a directory"],
  "image extract -o X": ["missing", "a directory"],
  "bundle create -o X": ["missing"],
  "bundle unpack -o X": ["missing", "a directory"],
  "preflight -o X": ["missing"],
  "report -o X": ["missing"],
  "reproduce -t X": ["a directory"],
};

/** What would boot a guest, as nothing is wrong before. */
export const BOOTS: Readonly<Record<string, readonly string[]>> = {
  "preflight --payload X": ["empty", "noise"],
  "demo --keep X": ["missing", "a directory"],
};
