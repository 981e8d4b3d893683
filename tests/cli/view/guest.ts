// SPDX-License-Identifier: MIT
/**
 * A bootstrap whose console says what a test wants, in a terminal.
 *
 * @module
 */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { pidsWith } from "../../launch/guest.ts";
import { MAIN } from "../../support/run.ts";
import { Terminal, type TerminalOptions } from "../../support/tmux.ts";
import { miniTree, writeMiniTree } from "../../support/tree.ts";

const SEED = "bootstrap-seeds/POSIX/x86/kaem-optional-seed";

/** Stands for chroot: prints what is written to a file, until another one is there. */
const CHROOT = `#!/bin/sh
dir=$1/..
tail -n +1 -f "$dir/console" &
while [ ! -e "$dir/end" ]; do sleep 0.1; done
sleep 0.2
kill $!
mkdir -p "$1/external/repo"
: >"$1/external/repo/alpha-1.0_1.tar.bz2"
echo "alpha-1.0: build successful"
`;

/** A run of a bootstrap by chroot in a terminal. */
export class GuestRun extends Terminal {
  readonly #dir: string;

  /** @param dir An empty directory. */
  constructor(dir: string, { wrapped = (argv) => argv, ...options }: GuestRunOptions) {
    const mini = miniTree({ files: { [`seed/stage0-posix/${SEED}`]: "the seed" } });
    const { tree, mirror } = writeMiniTree(dir, mini);
    const bin = join(dir, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "chroot"), CHROOT, { mode: 0o755 });
    writeFileSync(join(bin, "sudo"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
    writeFileSync(join(dir, "console"), "");
    const argv = [process.execPath, MAIN, "-c", "--external-sources", "-m", `file://${mirror}`];
    const env = { HOME: dir, PATH: `${bin}:${process.env["PATH"]}`, ...options.env };
    super(wrapped([...argv, "--tree", tree, "-t", join(dir, "target")]), {
      ...options,
      env,
      cwd: dir,
    });
    this.#dir = dir;
  }

  /** The guest prints. */
  print(text: string | Uint8Array): void {
    appendFileSync(join(this.#dir, "console"), text);
  }

  /** The bootstrap comes to its end. */
  finish(): void {
    writeFileSync(join(this.#dir, "end"), "");
  }

  /** The process of seedstrap. */
  pid(): number {
    return pidsWith(this.#dir).find((pid) => {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      return words[0] === process.execPath && words[1] === MAIN;
    })!;
  }

  log(): string {
    return join(this.#dir, "target/.seedstrap/runs/1.log");
  }
}

/** How a run is shown. */
export interface GuestRunOptions extends Omit<TerminalOptions, "cwd"> {
  /** Turns the command line of the run into that of the terminal. */
  readonly wrapped?: (argv: string[]) => string[];
}
