// SPDX-License-Identifier: MIT
/**
 * Runs whose guest counts, and what they have left.
 *
 * @module
 */

import { afterAll, afterEach, expect } from "bun:test";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { listCheckpoints } from "../../src/record/checkpoints.ts";
import { eventually } from "../launch/guest.ts";
import { TempDirs } from "../support/files.ts";
import { MAIN, seedstrap, start } from "../support/run.ts";
import { miniTree, writeMiniTree } from "../support/tree.ts";
import { counter, type Counting, countsIn } from "./counter.ts";

/** Shared by the tests of a file. */
export const temp = new TempDirs();
/** What a test has started. */
const started: Bun.Subprocess[] = [];

/** Ends what a test has started, after each of the file that calls it. */
export function cleanUp(): void {
  afterEach(async () => {
    for (const child of started.splice(0)) {
      child.kill("SIGKILL");
      await child.exited;
    }
  });
  afterAll(() => temp.release());
}

export const JUMP = " +> kaem --file /steps/jump/fiwix.sh\n";
export const DONE =
  "\n +> pkg=alpha-1.0\n +> kaem --file pass2.kaem\nalpha-1.0: build successful\n" +
  "reboot: Power down\n";

/** Builds a target whose boot sector counts. */
export async function built(counting: Counting): Promise<string> {
  const dir = realpathSync(temp.make());
  const hex = [...counter(counting)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const files = { "builder-hex0/builder-hex0-x86-stage1.hex0": `${hex}\n` };
  const { tree, mirror } = writeMiniTree(dir, miniTree({ files }));
  const target = join(dir, "target");
  const options = ["--external-sources", "-qs", "64M", "-qr", "256", "-m", `file://${mirror}`];
  const place = ["--store", join(dir, "store"), "--tree", tree, "-t", target];
  expect(await seedstrap(["build", "--qemu", ...options, ...place, "--force"])).toMatchObject({
    code: 0,
  });
  return target;
}

/** A run that goes on; its standard error is read as it comes. */
export class Going {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly done: Promise<number>;
  out = "";
  err = "";

  constructor(args: readonly string[], extra: readonly string[] = []) {
    this.child = start([process.execPath, MAIN, ...args, "--accel", "tcg", ...extra]);
    started.push(this.child);
    const read = async (stream: ReadableStream<Uint8Array>, take: (text: string) => void) => {
      for await (const chunk of stream) take(new TextDecoder("latin1").decode(chunk));
    };
    const streams = [
      read(this.child.stdout, (text) => this.out += text),
      read(this.child.stderr, (text) => this.err += text),
    ];
    this.done = Promise.all(streams).then(() => this.child.exited);
  }

  async saw(text: string | RegExp, limitMs = 60_000): Promise<void> {
    const has = () => {
      const all = this.out + this.err;
      return typeof text === "string" ? all.includes(text) : text.test(all);
    };
    if (!await eventually(has, limitMs)) throw new Error(`no ${text}: ${this.out}${this.err}`);
  }

  async counted(count: number): Promise<void> {
    await this.saw(`${count.toString(16).padStart(4, "0").toUpperCase()}\r\n`.replace("\r", ""));
  }
}

export const checkpoints = (target: string) => join(target, ".seedstrap/checkpoints");
export const numbersOf = (target: string) => listCheckpoints(target).map(({ number }) => number);
export const runs = (target: string) => join(target, ".seedstrap/runs");
/** The log of the last run: it begins with what earlier ones had printed. */
export function lastLog(target: string): string {
  const numbers = readdirSync(runs(target)).flatMap((name) => /^(\d+)\.log$/.exec(name)?.[1] ?? []);
  return readFileSync(join(runs(target), `${Math.max(...numbers.map(Number))}.log`), "latin1");
}

/** Expects that a guest has counted on without a gap, however often it was ended. */
export function expectWhole(log: string, atLeast: number): void {
  const counts = countsIn(log.replace(/\n--- seedstrap: .* ---\n/g, ""));
  expect(counts).toEqual(counts.map((_, index) => index + 1));
  expect(counts.length).toBeGreaterThanOrEqual(atLeast);
  expect(log).not.toContain("WRONG");
}
