// SPDX-License-Identifier: MIT
/**
 * Temporary directories, and files in directories.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Temporary directories of one test file; give `release` to `afterEach` or `afterAll`. */
export class TempDirs {
  readonly #dirs: string[] = [];

  make(): string {
    const dir = mkdtempSync(join(tmpdir(), "seedstrap-test-"));
    this.#dirs.push(dir);
    return dir;
  }

  release(): void {
    for (const dir of this.#dirs.splice(0)) {
      // Some tests make directories from which only root may remove files.
      if (process.getuid?.() !== 0) spawnSync("chmod", ["-R", "u+rwX", dir]);
      rmSync(dir, { recursive: true, force: true });
    }
  }
}

/** Files to write below a directory: paths with their content. */
export type FileTree = Readonly<Record<string, string | Uint8Array>>;

/** Writes files and the directories above them; a path that ends in a slash is a directory. */
export function writeFiles(dir: string, files: FileTree): void {
  for (const [path, content] of Object.entries(files)) {
    const place = join(dir, path);
    if (path.endsWith("/")) mkdirSync(place, { recursive: true });
    else {
      mkdirSync(dirname(place), { recursive: true });
      writeFileSync(place, content);
    }
  }
}

/** Describes everything below a directory: path, mode, size, time of change and digest. */
export function describeDir(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" }).sort().map((path) => {
    const stat = lstatSync(join(dir, path));
    const content = stat.isFile() ? sha256OfFile(join(dir, path)) : "";
    return `${path} ${stat.mode.toString(8)} ${stat.size} ${stat.mtimeMs} ${content}`;
  });
}

export function sha256OfFile(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
