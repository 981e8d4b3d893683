// SPDX-License-Identifier: MIT
/** A checkout whose seed is that of the tests, for containers. */
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { TempDirs } from "../support/files.ts";
import { Podman } from "../support/podman.ts";
import { MAIN, type Ran } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";

export const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";
export const IMAGE = "container.oci.tar";

/** Checkouts of a test file, with the seed of the tests. */
export class ContainerScenes {
  readonly #temp: TempDirs;
  readonly #seedPath: string;
  readonly #isCompiled: boolean;

  constructor(temp: TempDirs) {
    this.#temp = temp;
    this.#seedPath = join(temp.make(), "seed");
    const source = new URL("seed.c", import.meta.url).pathname;
    const words = ["-static", "-Wall", "-Werror", "-o", this.#seedPath, source];
    this.#isCompiled = spawnSync("gcc", words).status === 0;
  }

  /** A checkout, and the command line that builds it. */
  make(files: Readonly<Record<string, string>> = {}) {
    const dir = this.#temp.make();
    const more = {
      [`seed/stage0-posix/${SEED}`]: "",
      "seed/exit-code": "0\n",
      "seed/stage0-posix/tmp/here": "",
    };
    const mini = miniTree({ files: { ...more, ...files } });
    const { tree, mirror } = writeMiniTree(dir, mini);
    copyFileSync(this.#seedPath, join(tree, "seed/stage0-posix", SEED));
    const target = join(dir, "target");
    const store = join(dir, "store");
    const args = ["--container", "--external-sources", "-m", mirror, "--store", store];
    const { distfiles } = mini;
    return { dir, tree, mirror, target, distfiles, args: [...args, "--tree", tree, "-t", target] };
  }

  /** Why something cannot be tried here, or undefined. */
  obstacleOf(use: () => void): string | undefined {
    if (!this.#isCompiled) return "gcc makes no static programs here";
    try {
      use();
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /**
   * podman with a store of its own, in which a container has run.
   *
   * @throws where that cannot be
   */
  podman(): Podman {
    if (Bun.which("podman") === null) throw new Error("podman is not installed here");
    const { target, args } = this.make();
    const built = spawnSync(process.execPath, [MAIN, "build", ...args], { encoding: "utf8" });
    if (built.status !== 0) throw new Error(built.stderr);
    const podman = new Podman();
    try {
      podman.run("load", "--input", join(target, IMAGE));
      const words = ["--pull=never", "--platform=linux/386", "--network=none"];
      podman.run("run", "--rm", ...words, "localhost/live-bootstrap:latest");
      podman.clear();
      return podman;
    } catch (error) {
      podman[Symbol.dispose]();
      throw error;
    }
  }
}

/** What the seed told of a word, in order. */
export function told({ stdout }: Pick<Ran, "stdout">, word: string): string[] {
  return stdout.split("\n").filter((line) => line.startsWith(`${word} `))
    .map((line) => line.slice(word.length + 1));
}
