// SPDX-License-Identifier: MIT
/**
 * The runs that go on, for their user: each has a file while its process lives.
 *
 *   XDG_STATE_HOME/seedstrap/runs/PID-START.MACHINE
 *
 * PID-START is its process, see {@link ../runtime/lock.ts}, and MACHINE tells machines apart that have
 * one home directory, and PID namespaces. A target may come from a stranger, and name any process in
 * its lock: so a process is only sent a signal if a file here, written by its own user, says that it
 * runs the target. The files are not in XDG_RUNTIME_DIR, as that is removed at the last logout.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { homedir, hostname } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { systemCode, UserError } from "../errors.ts";
import { anyText, bool, count, objectOf, parseJson, textThat } from "../json.ts";
import { openRegular } from "../read.ts";
import { writing } from "../refused.ts";
import { writeNewFile } from "../runtime/durable.ts";
import { isRunning, ownName } from "../runtime/lock.ts";
import { hasOwnDirectory, makeOwnDirectory } from "../runtime/own.ts";

const FORMAT = "seedstrap-running/1";
const MAX_ENTRY_BYTES = 64 * 1024;

/** A run that goes on, or was killed. */
export interface RunningRun {
  readonly format: typeof FORMAT;
  /** The host and the boot of its process. */
  readonly host: string;
  readonly boot: string;
  /** The target, absolute, and what tells it from all others on this machine. */
  readonly target: string;
  readonly targetId: string;
  /** Number of the run of the target. */
  readonly run: number;
  /** ISO 8601, UTC. */
  readonly began: string;
  readonly isDetached: boolean;
}

/** An entry that was read. */
export interface RunEntry extends RunningRun {
  readonly path: string;
  /** `PID-START` */
  readonly process: string;
  readonly pid: number;
  /** Whether its process lives. */
  readonly isAlive: boolean;
}

const schema = objectOf<RunningRun>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  host: anyText,
  boot: anyText,
  target: textThat(isAbsolute, "an absolute path"),
  targetId: anyText,
  run: count(1, 999_999_999),
  began: textThat((value) => !Number.isNaN(Date.parse(value)), "a time"),
  isDetached: bool,
});

/** The directory of the entries of this user, which may not exist. */
export function runningDir(
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const state = env["XDG_STATE_HOME"] ?? "";
  const base = isAbsolute(state) ? state : join(env["HOME"] || homedir(), ".local/state");
  return join(base, "seedstrap", "runs");
}

/**
 * Registers a run of this process.
 *
 * @param dir The target, absolute.
 * @throws {UserError} "target" where that cannot be written.
 */
export function registerRun(
  dir: string,
  run: number,
  isDetached: boolean,
): { readonly release: () => void } {
  const runs = runningDir();
  const path = join(runs, ownFileName());
  writing(runs, () => {
    mkdirSync(dirname(dirname(runs)), { recursive: true });
    for (const made of [dirname(runs), runs]) makeOwnDirectory(made, { isPrivate: true });
    const entry: RunningRun = {
      format: FORMAT,
      ...{ host: hostname(), boot: bootId(), target: dir, targetId: targetIdOf(dir) },
      ...{ run, began: new Date().toISOString(), isDetached },
    };
    // A process has one run at a time; one that was killed had another start.
    rmSync(path, { force: true });
    writeNewFile(path, `${JSON.stringify(entry)}\n`, 0o600);
  });
  return { release: () => rmSync(path, { force: true }) };
}

/** The runs of this user on this machine, the oldest first; also those that were killed. */
export function registeredRuns(): RunEntry[] {
  const runs = runningDir();
  if (!hasOwnDirectory(dirname(runs)) || !hasOwnDirectory(runs)) return [];
  return readdirSync(runs)
    .flatMap((name) => readEntry(join(runs, name), name) ?? [])
    .sort((a, b) => Date.parse(a.began) - Date.parse(b.began) || a.pid - b.pid);
}

/** Removes the entry of a run whose process is dead. */
export function removeEntry({ path, isAlive }: RunEntry): void {
  if (!isAlive) rmSync(path, { force: true });
}

/** What tells a directory from all others of this machine. */
export function targetIdOf(dir: string): string {
  const { dev, ino } = statSync(dir, { bigint: true });
  return `${dev}:${ino}`;
}

function readEntry(path: string, name: string): RunEntry | undefined {
  const [, owner, machine] = /^((?:[1-9]\d*)-\d*)\.([\da-f]{8})$/.exec(name) ?? [];
  if (owner === undefined) return undefined;
  const text = ownText(path);
  const entry = text === undefined ? undefined : parseJson(schema, text);
  if (entry === undefined || typeof entry === "string") return undefined;
  const isHere = machine === machineMark();
  // What another machine, or another PID namespace, runs is not seen from here.
  if (!isHere && (entry.host !== hostname() || entry.boot === bootId())) return undefined;
  const isAlive = isHere && isRunning(owner) === true;
  return { ...entry, path, process: owner, pid: Number.parseInt(owner), isAlive };
}

/** The text of a file of ours; undefined for others. */
function ownText(path: string): string | undefined {
  try {
    const { file, stat, close } = openRegular(path, { followsLink: false });
    try {
      const isOurs = stat.uid === process.geteuid?.();
      return isOurs && stat.size <= MAX_ENTRY_BYTES ? readFileSync(file, "utf8") : undefined;
    } finally {
      close();
    }
  } catch (error) {
    // It has ended meanwhile.
    if (error instanceof UserError || systemCode(error) !== undefined) return undefined;
    throw error;
  }
}

function ownFileName(): string {
  return `${ownName()}.${machineMark()}`;
}

function machineMark(): string {
  const namespace = orNothing(() => readlinkSync("/proc/self/ns/pid"));
  return createHash("sha256").update(`${hostname()} ${bootId()} ${namespace}`).digest("hex")
    .slice(0, 8);
}

/** What is another after each boot; nothing where the system does not report it. */
function bootId(): string {
  return orNothing(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
}

function orNothing(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return "";
  }
}
