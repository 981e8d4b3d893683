// SPDX-License-Identifier: MIT
/**
 * Real file systems for the tests of readers, made from directories by mke2fs.
 *
 * @module
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { ImageView } from "../../src/image/types.ts";
import { digestEntry } from "../../src/image/view.ts";
import { sampleBody } from "../fetch/servers.ts";
import { writeFiles } from "./files.ts";

const KIB = 1024;
export const NAMES = ["a b", "line\nbreak", `quo"te'`, "back\\slash", "ü".repeat(127), "-rf", "*"];
export const SLOW_TARGET = `/${"slow/".repeat(40)}end`;

/** Writes a directory with all that is hard to read in a file system with blocks of 1 KiB. */
export function writeHardTree(dir: string): void {
  writeFiles(dir, {
    "deep/1/2/3/4/5/6/7/8/9/file": "deep",
    "empty": "",
    "hollow/": "",
    "direct": sampleBody(12 * KIB),
    "indirect": sampleBody(13 * KIB + 1, 2),
    "double": sampleBody(300 * KIB, 3),
    ...Object.fromEntries(NAMES.map((name, i) => [`names/${name}`, `${i}`])),
    ...Object.fromEntries(
      Array.from({ length: 400 }, (_, i) => [`many/${i}-${"x".repeat(90)}`, ""]),
    ),
  });
  symlinkSync("direct", join(dir, "fast"));
  symlinkSync("x".repeat(59), join(dir, "fast59"));
  symlinkSync("x".repeat(60), join(dir, "slow60"));
  symlinkSync(SLOW_TARGET, join(dir, "slow"));
  linkSync(join(dir, "direct"), join(dir, "hard link"));
  // Data past the reach of two levels of pointers, and more holes than one extent node describes.
  sparse(join(dir, "triple"), [0, 70_000_000], 70_000_100);
  sparse(join(dir, "holes"), Array.from({ length: 500 }, (_, i) => (2 * i + 1) * KIB), 1010 * KIB);
  utimesSync(join(dir, "direct"), 1234567890, 1234567890);
}

/** Writes a file with 100 bytes at each offset, and holes between. */
function sparse(path: string, places: readonly number[], size: number): void {
  const file = openSync(path, "w");
  for (const at of places) writeSync(file, sampleBody(100, at), 0, 100, at);
  closeSync(file);
  truncateSync(path, size);
}

/** Makes a file system of a directory, with mke2fs. */
export function makeFileSystem(
  path: string,
  dir: string,
  { type = "ext3", size = "100M", options = [] as readonly string[] } = {},
): void {
  writeFileSync(path, "", { flag: "a" });
  const ran = Bun.spawnSync(["mke2fs", "-q", "-F", "-t", type, "-d", dir, ...options, path, size]);
  if (ran.exitCode !== 0) throw new Error(ran.stderr.toString());
}

/** Returns kind, mode, size, target and digest of everything below a directory, by path. */
export function describeTree(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" }).map((path) => {
    const place = join(dir, path);
    const stat = lstatSync(place);
    const [kind, what] = stat.isSymbolicLink()
      ? ["symlink", readlinkSync(place)]
      : stat.isDirectory()
      ? ["directory", ""]
      : ["file", `${stat.size} ${sha256(readFileSync(place))}`];
    const mode = kind === "symlink" ? "" : (stat.mode % 0o10000).toString(8);
    return `/${path} ${kind} ${mode} ${what}`;
  }).sort();
}

/** Returns the same for what a disk holds, without lost+found. */
export function describeDisk(view: ImageView): string[] {
  return [...view.entries()].flatMap((entry) => {
    if (!("inode" in entry) || entry.path === "/lost+found") return [];
    const what = entry.kind === "symlink"
      ? entry.target
      : entry.kind === "file"
      ? `${entry.size} ${digestEntry(view, entry)}`
      : "";
    const mode = entry.kind === "symlink" ? "" : entry.mode.toString(8);
    return [`${entry.path} ${entry.kind} ${mode} ${what}`];
  }).sort();
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
