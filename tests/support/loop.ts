// SPDX-License-Identifier: MIT
/**
 * Loop devices for tests, which need root.
 *
 * @module
 */
import { truncateSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";

/** Returns why there are no loop devices here, or undefined. */
export function loopObstacle(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "they need root, on Linux";
  if (Bun.which("losetup") === null) return "losetup is not installed";
  return sh(["losetup", "-f"]).code === 0 ? undefined : "there are no loop devices";
}

/** Returns why no tmpfs can be mounted here, or undefined. */
export function mountObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return "it needs root";
  return sh(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).code === 0
    ? undefined
    : "nothing can be mounted here";
}

/** Runs a program to its end. */
export function sh(argv: readonly string[]): { code: number; out: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...argv]);
  return { code: exitCode, out: stdout.toString() + stderr.toString() };
}

/** Runs a program and returns its output; throws if it fails. */
export function must(...argv: string[]): string {
  const { code, out } = sh(argv);
  if (code !== 0) throw new Error(`${argv.join(" ")}: ${out}`);
  return out.trim();
}

/** A loop device, and its backing file. */
export interface Loop {
  /** `/dev/loop3` */
  readonly path: string;
  /** `loop3` */
  readonly name: string;
  readonly file: string;
}

/** Loop devices; give `release` to `afterEach`. */
export class Loops {
  readonly #attached: string[] = [];
  readonly #undo: (() => void)[] = [];

  /** Creates a file filled with `fill`, and attaches it to a loop device. */
  attach(file: string, sizeBytes: number, fill = 0, ...options: string[]): Loop {
    writeFileSync(file, fill === 0 ? "" : new Uint8Array(sizeBytes).fill(fill));
    truncateSync(file, sizeBytes);
    return this.attachFile(file, ...options);
  }

  /** Attaches an existing file to a loop device. */
  attachFile(file: string, ...options: string[]): Loop {
    const path = must("losetup", "-f", "--show", ...options, file);
    this.#attached.push(path);
    return { path, name: basename(path), file };
  }

  /** Registers a function that `release` calls before it detaches the devices. */
  defer(undo: () => void): void {
    this.#undo.push(undo);
  }

  release(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
    for (const path of this.#attached.splice(0).reverse()) sh(["losetup", "-d", path]);
  }
}
