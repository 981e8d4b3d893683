// SPDX-License-Identifier: MIT
/**
 * Fuzzes the readers of what may be hostile, for developers. A case is a sound input with a few
 * changes. The reader has to give a result or throw a `UserError` that is fit for a terminal, in
 * bounded time and memory; what else each has to hold is in scripts/fuzz/.
 *
 * usage: bun scripts/fuzz.ts READER[+READER...]|all SECONDS [SEED [FIRST]]
 *
 * SECONDS are for each reader; some that are joined by "+" take turns in that time. A case depends on the reader, the seed and its number only: FIRST
 * begins with that number, to see a finding again. A reader runs in a process of its own, which is
 * watched; a case that it does not survive is a finding too. The exit code is 1 where there was one.
 */
import { spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { UserError } from "../src/errors.ts";
import { printable } from "../src/text.ts";
import { damaged, Random, type Sound } from "../tests/support/mutate.ts";
import { archiveReaders } from "./fuzz/archives.ts";
import { imageReaders } from "./fuzz/images.ts";
import { networkReaders } from "./fuzz/network.ts";
import { groupOf, type Prepared, type Reader } from "./fuzz/reader.ts";
import { textReaders } from "./fuzz/texts.ts";

const READERS: readonly Reader[] = [
  ...textReaders,
  ...imageReaders,
  ...archiveReaders,
  ...networkReaders,
];

/** A case takes some milliseconds; a busy machine may make it a hundred times as much. */
const MOST_SECONDS = 20;
const MOST_RSS_BYTES = 2 * 1024 ** 3;
const MOST_MESSAGE_CHARS = 64 * 1024;
/** Findings after which a reader is given up. */
const MOST_FINDINGS = 20;

/** Exit codes of a child: what it has found is written down. */
const FOUND = 3;

// deno-lint-ignore no-control-regex -- it is what a terminal obeys
const UNFIT = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

function readersOf(names: string): Reader[] {
  return names.split("+").flatMap((name) => READERS.filter((reader) => reader.name === name));
}

/** Makes a case. */
function caseOf(reader: Reader, prepared: Prepared, seed: number, number: number) {
  const random = new Random(crc32(`${reader.name} ${seed} ${number}`));
  const sound: Sound = random.pick(prepared.sounds);
  const bytes = damaged(random, sound);
  const isRepaired = prepared.repair !== undefined && random.below(2) === 0;
  return { random, sound, bytes: isRepaired ? prepared.repair!(bytes, random, sound) : bytes };
}

/** What is wrong with the way in which a reader refuses; undefined if nothing is. */
function faultOf(error: unknown): string | undefined {
  if (!(error instanceof UserError)) {
    return error instanceof Error ? error.stack ?? error.message : `threw ${String(error)}`;
  }
  if (error.exitCode <= 1) return `exit code ${error.exitCode}: ${error.message}`;
  const said = [error.message, error.where ?? "", error.hint ?? ""].join("\n");
  if (said.length > MOST_MESSAGE_CHARS) return `a message of ${said.length} characters`;
  if (said.split("\n").some((line) => UNFIT.test(printable(line)))) {
    return `a message that is not fit for a terminal: ${JSON.stringify(said)}`;
  }
  return undefined;
}

/** Reads cases until the time is over or something is found. */
async function child(name: string, most: number, seed: number, first: number, dir: string) {
  const reader = groupOf(readersOf(name));
  const files = join(dir, "files");
  mkdirSync(files, { recursive: true });
  const prepared = await reader.prepare(files);
  const progress = openSync(join(dir, "progress"), "w");
  // Nothing is found by a reader that refuses what is sound: the first of each reader is.
  const begun = new Set<string>();
  for (const sound of prepared.sounds) {
    if (begun.has(reader.nameOf(sound))) continue;
    begun.add(reader.nameOf(sound));
    await prepared.read(sound.bytes, sound, new Random(0));
  }
  const began = performance.now();
  const isOver = () => performance.now() - began >= 1000 * most;
  const tallies: Record<string, Tally> = {};
  let number = first;
  let finding: string | undefined;
  while (finding === undefined && !isOver()) {
    const { bytes, sound, random } = caseOf(reader, prepared, seed, number);
    writeFileSync(join(dir, "case"), bytes);
    writeSync(progress, String(number).padEnd(16), 0);
    const tally = tallies[reader.nameOf(sound)] ??= { cases: 0, refused: 0, seconds: 0 };
    const start = performance.now();
    try {
      await prepared.read(bytes, sound, random);
    } catch (error) {
      tally.refused++;
      finding = faultOf(error);
      if (finding !== undefined) finding = `${reader.nameOf(sound)}: ${finding}`;
    }
    tally.cases++;
    tally.seconds += (performance.now() - start) / 1000;
    number++;
  }
  closeSync(progress);
  const seconds = (performance.now() - began) / 1000;
  const result: Result = { cases: number - first, seconds, tallies, ...(finding && { finding }) };
  writeFileSync(join(dir, "result"), JSON.stringify(result));
  process.exit(finding === undefined ? 0 : FOUND);
}

/** What was done with a reader; its seconds are those of the reader alone. */
interface Tally {
  cases: number;
  refused: number;
  seconds: number;
}

interface Result {
  readonly cases: number;
  readonly seconds: number;
  readonly tallies: Readonly<Record<string, Tally>>;
  readonly finding?: string;
}

/** Runs a reader in a process that is watched; gives what came of it. */
async function watched(name: string, seconds: number, seed: number, first: number, dir: string) {
  mkdirSync(dir, { recursive: true });
  for (const file of ["result", "progress", "case"]) rmSync(join(dir, file), { force: true });
  const began = performance.now();
  const args = ["--child", name, String(seconds), String(seed), String(first), dir];
  const started = spawn(process.execPath, [import.meta.filename!, ...args], {
    stdio: ["ignore", "inherit", "pipe"],
  });
  let said = "";
  started.stderr.on("data", (text) => said = (said + text).slice(-4000));
  let killed: string | undefined;
  const ended = new Promise<string>((resolve) =>
    started.on("close", (code, signal) => resolve(String(signal ?? code)))
  );
  let isOver = false;
  ended.then(() => isOver = true);
  const place = () => {
    const path = join(dir, "progress");
    return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  };
  let [at, since] = ["", performance.now()];
  while (!isOver) {
    await Promise.race([ended, sleep(250)]);
    const now = place();
    if (now !== at) [at, since] = [now, performance.now()];
    const rss = rssBytes(started.pid);
    if (performance.now() - since > 1000 * (at === "" ? 120 : MOST_SECONDS)) {
      killed ??= `a case takes more than ${MOST_SECONDS} s`;
    } else if (rss > MOST_RSS_BYTES) killed ??= `${rss} bytes of memory`;
    if (killed !== undefined) started.kill("SIGKILL");
  }
  const code = await ended;
  const result: Result = existsSync(join(dir, "result"))
    ? JSON.parse(readFileSync(join(dir, "result"), "utf8"))
    : {
      cases: Math.max(1, Number(at) - first + 1),
      tallies: {},
      seconds: (performance.now() - began) / 1000,
      finding: killed ?? `the process ended with ${code}: ${said}`,
    };
  return result;
}

function rssBytes(pid: number | undefined): number {
  try {
    return 4096 * Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
  } catch {
    return 0;
  }
}

/** Fuzzes readers for their time; gives how many findings there were. */
async function fuzz(name: string, seconds: number, seed: number, first: number, results: string) {
  const dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "seedstrap-fuzz-"));
  const tallies: Record<string, Tally> = {};
  let [cases, spent, findings] = [0, 0, 0];
  try {
    while (spent < seconds && findings < MOST_FINDINGS) {
      const result = await watched(name, seconds - spent, seed, first + cases, dir);
      cases += result.cases;
      spent += result.seconds;
      for (const [name, { cases, refused, seconds }] of Object.entries(result.tallies)) {
        const tally = tallies[name] ??= { cases: 0, refused: 0, seconds: 0 };
        tally.cases += cases;
        tally.refused += refused;
        tally.seconds += seconds;
      }
      if (result.finding === undefined) break;
      findings++;
      const number = first + cases - 1;
      const path = join(results, `${name}-${seed}-${number}`);
      if (existsSync(join(dir, "case"))) copyFileSync(join(dir, "case"), path);
      console.log(`FOUND ${name}, seed ${seed}, case ${number}, in ${path}\n${result.finding}`);
      rmSync(join(dir, "files"), { recursive: true, force: true });
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  console.log(`${name}: ${spent.toFixed()} s, ${cases} cases, ${findings} findings`);
  for (const [name, { cases, refused, seconds }] of Object.entries(tallies)) {
    console.log(`  ${name}: ${seconds.toFixed()} s of it, ${cases} cases, ${refused} refused`);
  }
  return findings;
}

async function main(args: readonly string[]): Promise<number> {
  const [what = "", seconds = "", seed = "1", first = "0"] = args;
  const chosen = what === "all" ? READERS.map(({ name }) => name) : [what];
  const isKnown = chosen.every((names) => readersOf(names).length === names.split("+").length);
  if (!isKnown || ![seconds, seed, first].every((text) => /^\d+$/.test(text))) {
    console.error("usage: bun scripts/fuzz.ts READER[+READER...]|all SECONDS [SEED [FIRST]]");
    console.error(`readers: ${READERS.map(({ name }) => name).join(" ")}`);
    return 2;
  }
  const results = mkdtempSync(join(tmpdir(), "seedstrap-findings-"));
  console.log(`findings go to ${results}`);
  let findings = 0;
  for (const name of chosen) {
    findings += await fuzz(name, Number(seconds), Number(seed), Number(first), results);
  }
  return findings === 0 ? 0 : 1;
}

const [flag, ...rest] = process.argv.slice(2);
if (flag === "--child") {
  const [name, seconds, seed, first, dir] = rest;
  await child(name!, Number(seconds), Number(seed), Number(first), dir!);
}
process.exit(await main(process.argv.slice(2)));
