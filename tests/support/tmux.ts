// SPDX-License-Identifier: MIT
/**
 * A terminal as people have one: its size changes, keys are typed at it, and what it shows can be
 * looked at. tmux provides it.
 *
 * @module
 */
import { test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { shellQuote } from "../../src/launch/process.ts";
import { testWith } from "./run.ts";

/** Returns `test`, or `test.skip` if there is no tmux here, with the reason printed. */
export function testInTmux(): typeof test | typeof test.skip {
  return testWith("tmux");
}

let count = 0;

/** How a terminal is. */
export interface TerminalOptions {
  readonly columns: number;
  readonly rows: number;
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A terminal with a program in it; it has a server of its own. */
export class Terminal implements Disposable {
  readonly #server = `seedstrap-${process.pid}-${count++}`;
  readonly #dir = mkdtempSync(join(tmpdir(), "seedstrap-tmux-"));

  /** Starts a program. The terminal stays when it ends. */
  constructor(argv: readonly string[], { columns, rows, cwd, env = {} }: TerminalOptions) {
    const size = ["-x", String(columns), "-y", String(rows)];
    const set = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    // tmux itself does not always say how it ended.
    const script = `trap : INT QUIT; "$@"; echo $? >${this.#codePath}.new
mv ${this.#codePath}.new ${this.#codePath}`;
    // What the tests run in may have them.
    const unset = ["-u", "NO_COLOR", "-u", "XDG_STATE_HOME"];
    const words = shellQuote(["sh", "-c", script, "sh", "env", ...unset, ...set, ...argv]);
    const options = [
      "set",
      "-g",
      "status",
      "off",
      ";",
      "set",
      "-g",
      "remain-on-exit",
      "on",
      ";",
      "set",
      "-g",
      "history-limit",
      "200000",
      ";",
    ];
    this.#call(["start-server", ";", ...options, "new-session", "-d", ...size, "-c", cwd, words]);
  }

  #call(args: readonly string[]): string {
    const ran = Bun.spawnSync(["tmux", "-L", this.#server, "-f", "/dev/null", ...args], {
      env: { ...process.env, LC_ALL: "C.UTF-8", SHELL: "/bin/sh" },
    });
    if (ran.exitCode !== 0) throw new Error(`tmux ${args[0]}: ${ran.stderr}`);
    return String(ran.stdout);
  }

  /** What it shows, row by row, down to the last row. */
  rows(): string[] {
    return this.#call(["capture-pane", "-p"]).replace(/\n$/, "").split("\n");
  }

  /** What it shows, with the colours, as sequences. */
  coloured(): string {
    return this.#call(["capture-pane", "-p", "-e"]);
  }

  /** Everything that it has shown, also what has scrolled away; wrapped lines are whole. */
  all(): string {
    return this.#call(["capture-pane", "-p", "-J", "-S", "-"]);
  }

  title(): string {
    return this.#call(["display-message", "-p", "#{pane_title}"]).trim();
  }

  /** Types keys, as tmux names them: `p`, `Enter`, `C-c`. */
  press(...keys: string[]): void {
    this.#call(["send-keys", ...keys]);
  }

  resize(columns: number, rows: number): void {
    this.#call(["resize-window", "-x", String(columns), "-y", String(rows)]);
  }

  get #codePath(): string {
    return join(this.#dir, "code");
  }

  /** The exit code of the program; undefined while it runs. */
  exitCode(): number | undefined {
    return existsSync(this.#codePath) ? Number(readFileSync(this.#codePath, "utf8")) : undefined;
  }

  /** Waits until it shows something. */
  async shows(isThere: (rows: string[]) => boolean): Promise<string[]> {
    for (let i = 0; i < 300; i++) {
      const rows = this.rows();
      if (isThere(rows)) return rows;
      await setTimeout(50);
    }
    throw new Error(`the terminal shows\n${this.rows().join("\n")}`);
  }

  /** Waits until the program has ended, and returns its exit code. */
  async ended(): Promise<number> {
    await this.shows(() => this.exitCode() !== undefined);
    return this.exitCode()!;
  }

  [Symbol.dispose](): void {
    Bun.spawnSync(["tmux", "-L", this.#server, "kill-server"]);
    rmSync(this.#dir, { recursive: true });
  }
}
