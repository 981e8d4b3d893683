// SPDX-License-Identifier: MIT
/**
 * A run under TCG with checkpoints that is killed, and goes on.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

/** A checkpoint, as `seedstrap run --json` tells of it. */
export interface ToldCheckpoint {
  readonly number: number;
  readonly reason: string;
  readonly at: string;
  readonly sizeBytes: number;
  readonly pausedMs: number;
}

/** How a life ends: a kill of QEMU or of seedstrap, or an end in good order. */
export type End = "qemu" | "seedstrap" | "end";

const POLL_MS = 100;
/** Whatever seedstrap has started is gone so long after it was killed. */
const GONE_MS = 10_000;

/** The lives of one target. */
export class Lives {
  readonly target: string;
  readonly #seedstrap: string;
  /** All that were saved. */
  readonly saved: ToldCheckpoint[] = [];
  /** Those that were saved in this life. */
  savedNow = 0;
  /** Kinds of the events of this life. */
  readonly kinds = new Set<string>();
  /** What seedstrap has told of itself in this life. */
  said = "";

  /** @param target A built target for QEMU that has not run, absolute. */
  constructor(seedstrap: string, target: string) {
    this.#seedstrap = seedstrap;
    this.target = target;
  }

  /** What the guest has printed in all its lives, from the checkpoints on that it went on from. */
  log(): string {
    const runs = join(this.target, ".seedstrap/runs");
    if (!existsSync(runs)) return "";
    const numbers = readdirSync(runs).flatMap((name) => /^(\d+)\.log$/.exec(name)?.[1] ?? []);
    if (numbers.length === 0) return "";
    return readFileSync(join(runs, `${Math.max(...numbers.map(Number))}.log`), "latin1");
  }

  /** Runs, or resumes, until a condition says how it ends. Returns undefined if it ends by itself. */
  async live(word: "run" | "resume", until: () => End | undefined): Promise<End | undefined> {
    const options = ["--checkpoint", "1", "--accel", "tcg", "--json"];
    const child = spawn(this.#seedstrap, [word, this.target, ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    [this.savedNow, this.said] = [0, ""];
    this.kinds.clear();
    let line = "";
    child.stdout.on("data", (chunk: Uint8Array) => {
      const lines = (line + new TextDecoder("latin1").decode(chunk)).split("\n");
      line = lines.pop()!;
      for (const text of lines) {
        const event = JSON.parse(text) as { kind: string } & ToldCheckpoint;
        this.kinds.add(event.kind);
        if (event.kind === "output") continue;
        this.said += `${text}\n`;
        if (event.kind !== "checkpoint") continue;
        this.saved.push(event);
        this.savedNow++;
      }
    });
    child.stderr.on("data", (chunk: Uint8Array) => this.said += new TextDecoder().decode(chunk));
    const closed = once(child, "close");
    let end: End | undefined;
    while (child.exitCode === null && child.signalCode === null && end === undefined) {
      await sleep(POLL_MS);
      end = until();
    }
    if (end === "qemu") {
      const pid = this.qemu();
      if (pid !== undefined) process.kill(pid, "SIGKILL");
    } else if (end !== undefined) child.kill(end === "end" ? "SIGTERM" : "SIGKILL");
    await closed;
    for (let waitedMs = 0; this.qemu() !== undefined; waitedMs += POLL_MS) {
      if (waitedMs > GONE_MS) {
        process.kill(this.qemu()!, "SIGKILL");
        throw new Error("QEMU is still there");
      }
      await sleep(POLL_MS);
    }
    return end;
  }

  /** The process of QEMU that has this target. */
  qemu(): number | undefined {
    return readdirSync("/proc").map(Number).find((pid) => {
      if (!(pid > 0)) return false;
      try {
        return readlinkSync(`/proc/${pid}/exe`).includes("qemu") &&
          readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(`${this.target}/`);
      } catch {
        return false;
      }
    });
  }

  /** The last checkpoint that was saved, in words. */
  get last(): string {
    const last = this.saved.at(-1);
    return last === undefined ? "no checkpoint" : `checkpoint ${last.number} in ${last.at}`;
  }

  /** How large the checkpoints were, and how long they took, in words. */
  get table(): string {
    const sizes = this.saved.map(({ sizeBytes }) => sizeBytes).sort((a, b) => a - b);
    const pauses = this.saved.map(({ pausedMs }) => pausedMs).sort((a, b) => a - b);
    const both = (values: readonly number[], unit: number, digits: number) =>
      [values[Math.floor(values.length / 2)], values.at(-1)]
        .map((value) => ((value ?? 0) / unit).toFixed(digits)).join(", at most ");
    return `${this.saved.length} checkpoints: ${
      both(sizes, 1e6, 1)
    } MB; the guest stood still for ` +
      `${both(pauses, 1000, 2)} s`;
  }
}
