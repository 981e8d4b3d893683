// SPDX-License-Identifier: MIT
/**
 * Measures what it costs to follow the console of a run: its events, its state ten times a second,
 * and their record. The console has the lines of steps in kaem and in bash: mostly commands of a
 * compiler. It comes at a pace, in chunks as a pipe has them.
 *
 * usage: bun scripts/bench/follow.ts [MB_PER_SECOND [SECONDS]]
 *
 * Prints the processor time in percent of one core: of reading the same console and doing nothing,
 * and of following it too.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { RunFollower } from "../../src/console/follow.ts";
import type { RunPlan, RunState } from "../../src/console/position.ts";
import { eventsHeader, EventsWriter } from "../../src/record/events.ts";

const [rate = 1, seconds = 20] = process.argv.slice(2).map(Number);
const CHUNK_BYTES = 4096;

/** The console of a step, in kaem or in bash. */
function step(number: number): string {
  const name = `package-${number}.0`;
  const compiling = Array.from(
    { length: 200 },
    (_, file) => `tcc -m32 -march=i386 -std=c89 -I../include -DVERSION="1.0" -c src/file_${file}.c`,
  );
  if (number % 2 === 0) {
    return [
      ` +> pkg=${name} `,
      " +> kaem --file pass1.kaem ",
      ...compiling.map((line) => ` +> ${line} `),
      `/usr/bin/${name}: OK`,
    ].join("\r\n") + "\r\n";
  }
  return [
    `${name}: beginning build using script pass1.sh`,
    `${name}.tar.gz: OK`,
    `${name}: compiling source.`,
    ...compiling,
    "In file included from src/file.c:12:0: warning: assignment makes integer from pointer",
    `${name}: build successful`,
  ].join("\n") + "\n";
}

const STEPS = 40;
const plan: RunPlan = {
  steps: Array.from({ length: STEPS }, (_, at) => ({ name: `package-${at}.0`, pass: 1 })),
  loadSizes: [],
};
const text = new TextEncoder().encode(Array.from({ length: STEPS }, (_, at) => step(at)).join(""));

/** Passes the console on at the pace. @returns Processor time in seconds. */
async function paced(take: (chunk: Uint8Array) => void): Promise<number> {
  const before = process.cpuUsage();
  const began = performance.now();
  let doneBytes = 0;
  while (true) {
    const elapsed = (performance.now() - began) / 1000;
    if (elapsed >= seconds) break;
    for (; doneBytes < elapsed * rate * 1e6; doneBytes += CHUNK_BYTES) {
      const at = doneBytes % (text.length - CHUNK_BYTES);
      take(text.subarray(at, at + CHUNK_BYTES));
    }
    await setTimeout(4);
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

const dir = mkdtempSync(join(tmpdir(), "follow-"));
try {
  const idle = await paced(() => {});
  const header = eventsHeader(new Date(), "tcg", { cpu: "", cores: 1, memoryMib: 1 }, plan);
  const paths = { eventsPath: join(dir, "1.events"), timesPath: join(dir, "1.times") };
  const writer = new EventsWriter(paths, header, (problem) => console.error(problem));
  let last: RunState | undefined;
  const began = performance.now();
  const ms = () => performance.now() - began;
  let loggedBytes = 0;
  const follower = new RunFollower(plan, {
    onEvent: (event) => writer.event(ms(), event),
    onState: (state) => last = state,
  });
  const followed = await paced((chunk) => {
    follower.push(chunk);
    writer.logged(ms(), loggedBytes += chunk.length);
  });
  follower.stop();
  writer.end(ms(), { verdict: "done", why: "" });
  const percent = (cpu: number) => `${(100 * cpu / seconds).toFixed(2)} %`;
  console.log(`${rate} MB/s for ${seconds} s, ${last?.checksums.right} checksums seen`);
  console.log(`reading alone: ${percent(idle)} of a core`);
  console.log(`following too: ${percent(followed)} of a core`);
  console.log(`following itself: ${percent(followed - idle)} of a core`);
} finally {
  rmSync(dir, { recursive: true });
}
