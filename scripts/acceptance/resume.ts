// SPDX-License-Identifier: MIT
/**
 * Kills a run of the real stage0-posix under TCG again and again, QEMU and seedstrap in turn, and
 * goes on from its checkpoints each time, until stage0-posix has checked what it has built. Then the
 * answers have to be those of a run that nobody has disturbed: every checksum is right, each once.
 * Prints a line for each kill, and a table of the checkpoints.
 *
 * usage: bun scripts/acceptance/resume.ts SEEDSTRAP TARGET [KILLS]
 *
 * SEEDSTRAP is the binary, TARGET a built target for QEMU that has not run. Ends with 1 if anything
 * is not as it should be.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const [seedstrap, place, wanted = "10"] = process.argv.slice(2);
if (seedstrap === undefined || place === undefined) {
  process.stderr.write("usage: resume.ts SEEDSTRAP TARGET [KILLS]\n");
  process.exit(2);
}
const target = resolve(place);
const kills = Number(wanted);
/** The last file of x86.answers. */
const ANSWER = /^(\S+): (OK|FAILED)\s*$/;
const EVERY_MINUTES = "1";

interface Saved {
  readonly number: number;
  readonly at: string;
  readonly sizeBytes: number;
  readonly pausedMs: number;
}

const saved: Saved[] = [];
let line = "";
let failed = false;

/** The answers in a log: what was checked, and how that ended, in order. */
function answersIn(log: string): string[] {
  return log.split("\n").flatMap((text) => ANSWER.exec(text.trimEnd())?.slice(1).join(" ") ?? []);
}

function lastLog(): string {
  const runs = join(target, ".seedstrap/runs");
  const numbers = readdirSync(runs).flatMap((name) => /^(\d+)\.log$/.exec(name)?.[1] ?? []);
  return readFileSync(join(runs, `${Math.max(...numbers.map(Number))}.log`), "latin1");
}

/** The QEMU of the target. */
function qemuOf(): number | undefined {
  return readdirSync("/proc").map(Number).find((pid) => {
    if (!(pid > 0)) return false;
    try {
      return readlinkSync(`/proc/${pid}/exe`).includes("qemu") &&
        readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(`${target}/`);
    } catch {
      return false;
    }
  });
}

/** Starts or goes on, until it ends, is killed, or has checked its answers. */
async function run(words: readonly string[], lifeMs: number, kill: "qemu" | "seedstrap") {
  const child = spawn(seedstrap!, [
    ...words,
    target,
    "--checkpoint",
    EVERY_MINUTES,
    "--accel",
    "tcg",
    "--json",
  ], { stdio: ["ignore", "pipe", "ignore"] });
  let hasBegun = false;
  let isOver = false;
  line = "";
  child.stdout.on("data", (chunk: Uint8Array) => {
    const lines = (line + new TextDecoder("latin1").decode(chunk)).split("\n");
    line = lines.pop()!;
    for (const text of lines) {
      const event = JSON.parse(text) as { kind: string } & Saved;
      if (event.kind === "checkpoint") saved.push(event);
      if (event.kind === "start") hasBegun = true;
      // mes comes after the answers: what stage0-posix has built was checked.
      if (event.kind === "step") isOver = true;
    }
  });
  const exited = once(child, "exit");
  const deadline = performance.now() + lifeMs;
  while (child.exitCode === null && child.signalCode === null && !isOver) {
    if (hasBegun && performance.now() > deadline) break;
    await sleep(200);
  }
  if (!isOver && child.exitCode === null) {
    const pid = kill === "qemu" ? qemuOf() : child.pid;
    if (pid !== undefined) process.kill(pid, "SIGKILL");
  } else child.kill("SIGTERM");
  await exited;
  for (let left = 100; qemuOf() !== undefined; left--) {
    if (left === 0) {
      process.stdout.write("QEMU is still there\n");
      failed = true;
      process.kill(qemuOf()!, "SIGKILL");
      break;
    }
    await sleep(100);
  }
  return isOver;
}

const began = performance.now();
let isOver = await run(["run"], 75_000, "qemu");
for (let round = 1; !isOver; round++) {
  const what = round % 2 === 1 ? "QEMU" : "seedstrap";
  const seconds = Math.round((performance.now() - began) / 1000);
  const last = saved.at(-1);
  process.stdout.write(
    `kill ${round} of ${what} after ${seconds} s; ` +
      `${last === undefined ? "no checkpoint" : `checkpoint ${last.number} in ${last.at}`}; ` +
      `${answersIn(lastLog()).length} answers\n`,
  );
  const lifeMs = round < kills ? 45_000 + Math.random() * 30_000 : Infinity;
  isOver = await run(["resume"], lifeMs, round % 2 === 0 ? "qemu" : "seedstrap");
  if (!isOver && round >= kills) {
    process.stdout.write("it has ended before its answers were checked\n");
    failed = true;
    break;
  }
}
const answers = answersIn(lastLog());
const wrong = answers.filter((answer) => !answer.endsWith(" OK"));
const twice = answers.filter((answer, index) => answers.indexOf(answer) !== index);
process.stdout.write(
  `${answers.length} answers, ${wrong.length} not OK, ${twice.length} twice, ` +
    `${saved.length} checkpoints\n`,
);
const sizes = saved.map(({ sizeBytes }) => sizeBytes).sort((a, b) => a - b);
const pauses = saved.map(({ pausedMs }) => pausedMs).sort((a, b) => a - b);
const middle = (values: readonly number[]) => values[Math.floor(values.length / 2)] ?? 0;
process.stdout.write(
  `a checkpoint: ${(middle(sizes) / 1e6).toFixed(1)} MB (at most ` +
    `${((sizes.at(-1) ?? 0) / 1e6).toFixed(1)}), the guest stood still for ` +
    `${(middle(pauses) / 1000).toFixed(2)} s (at most ${
      ((pauses.at(-1) ?? 0) / 1000).toFixed(2)
    })\n`,
);
process.exit(failed || wrong.length > 0 || twice.length > 0 || answers.length === 0 ? 1 : 0);
