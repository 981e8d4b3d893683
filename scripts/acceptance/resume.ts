// SPDX-License-Identifier: MIT
/**
 * Kills a run of the real stage0-posix under TCG again and again, QEMU and seedstrap in turn, and
 * goes on from its checkpoints each time, until stage0-posix has checked what it has built. Twice
 * the last checkpoint is damaged before: it has to be refused, and the one before used. At the end
 * the answers have to be those of a run that nobody has disturbed: every checksum is right, each
 * once. Prints a line for each kill, and what the checkpoints cost.
 *
 * usage: bun scripts/acceptance/resume.ts SEEDSTRAP TARGET ANSWERS [KILLS]
 *
 * SEEDSTRAP is the binary, TARGET a built target for QEMU that has not run, ANSWERS the file
 * x86.answers of its checkout. Ends with 1 if anything is not as it should be.
 */

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { cut, flip } from "./damage.ts";
import { Lives } from "./lives.ts";

const [seedstrap, place, answersFile, wanted = "10"] = process.argv.slice(2);
if (seedstrap === undefined || place === undefined || answersFile === undefined) {
  process.stderr.write("usage: resume.ts SEEDSTRAP TARGET ANSWERS [KILLS]\n");
  process.exit(2);
}
const kills = Number(wanted);
/** The files that are checked, in order. */
const expected = readFileSync(answersFile, "utf8").trim().split("\n").map((line) => line.slice(66));
/**
 * So long after its first checkpoint, at most, it is killed, and every other life so long after its
 * start: one that loses everything each time would never end.
 */
const MOST_MS = 20_000;
/** A file of x86.answers that was checked. */
const ANSWER = /^(\S+): (OK|FAILED)\s*$/;
/** What is damaged before which kill. */
const DAMAGES = new Map([[4, cut], [7, flip]]);

/** The answers in a log: what was checked, and how that ended, in order. */
function answersIn(log: string): string[] {
  return log.split("\n").flatMap((text) => ANSWER.exec(text.trimEnd())?.slice(1).join(" ") ?? []);
}

const lives = new Lives(seedstrap, resolve(place));
const faults: string[] = [];
const began = performance.now();
for (let life = 1;; life++) {
  const kill = life % 2 === 1 ? "qemu" : "seedstrap";
  const lifeMs = Math.random() * MOST_MS;
  const damage = DAMAGES.get(life);
  const damaged = damage?.(lives.target);
  const isShort = life % 4 > 1;
  let deadline = Infinity;
  const end = await lives.live(life === 1 ? "run" : "resume", () => {
    if (answersIn(lives.log()).length >= expected.length) return "end";
    if (life > kills) return undefined;
    const isCounting = isShort ? lives.kinds.has("resume") : lives.savedNow > 0;
    if (isCounting) deadline = Math.min(deadline, performance.now() + lifeMs);
    return performance.now() > deadline ? kill : undefined;
  });
  if (damaged !== undefined) {
    const isRefused = lives.said.includes(`checkpoint ${damaged} cannot be used`);
    process.stdout.write(`checkpoint ${damaged}, damaged: ${isRefused ? "refused" : "taken"}\n`);
    if (!isRefused) faults.push("a damaged checkpoint was taken");
  }
  if (end === "end") break;
  if (end === undefined) {
    faults.push(`it has ended by itself: ${lives.said.slice(-2000)}`);
    break;
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  const answers = answersIn(lives.log()).length;
  process.stdout.write(
    `kill ${life} of ${end} after ${seconds} s; ${lives.last}; ${answers} answers\n`,
  );
}
const answers = answersIn(lives.log());
const isRight = answers.join("\n") === expected.map((name) => `${name} OK`).join("\n");
process.stdout.write(`${answers.length} answers, ${isRight ? "as" : "not as"} they should be\n`);
process.stdout.write(`${lives.table}\n`);
if (!isRight) faults.push(`the answers are: ${answers.join(", ")}`);
for (const fault of faults) process.stdout.write(`${fault}\n`);
process.exit(faults.length > 0 ? 1 : 0);
