// SPDX-License-Identifier: MIT
/**
 * Runs rootfs.py and seedstrap with stand-ins that record what they start.
 *
 * @module
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { runProcess } from "../../src/launch/process.ts";

/** Programs that are recorded instead of run. `env` starts chroot and bwrap. */
const STARTED: readonly string[] = ["qemu-system-x86_64", "env", "chroot", "bwrap"];

/** A program that appends its name and arguments to the file $RECORD, and succeeds. */
const STAND_IN = `#!/bin/sh
{ printf '%s\\0' "\${0##*/}" "$@"; echo; } >>"$RECORD"
`;

/** A sudo that also answers rootfs.py when it asks for the path of chroot. */
const SUDO_STAND_IN = STAND_IN.replace(
  "\n",
  `
case $1 in python3) exec "$@" ;; esac
`,
);

/** A directory with stand-ins. */
export interface Stage {
  /** Directory of the stand-ins. */
  readonly dir: string;
  /** File that they write to. */
  readonly record: string;
}

/** Makes the stand-ins. @param others More names of programs. */
export function makeStage(dir: string, others: readonly string[]): Stage {
  mkdirSync(dir);
  for (const name of [...STARTED, ...others]) {
    writeFileSync(join(dir, name), STAND_IN, { mode: 0o755 });
  }
  writeFileSync(join(dir, "sudo"), SUDO_STAND_IN, { mode: 0o755 });
  return { dir, record: join(dir, "record") };
}

/** How a run ended. */
export interface Ran {
  readonly failed: boolean;
  /** Its whole output. */
  readonly said: string;
  /** Each command that it started, as words; the paths of stand-ins become names. */
  readonly started: readonly (readonly string[])[];
}

/** Runs a program to its end. @param cwd Its working directory. */
export async function runOn(
  { dir, record: base }: Stage,
  argv: readonly string[],
  cwd: string,
): Promise<Ran> {
  const record = `${base}.${basename(argv[0]!)}`;
  rmSync(record, { force: true });
  const PATH = `${dir}:${process.env["PATH"]}:/usr/sbin:/sbin`;
  let said = "";
  // After an exception rootfs.py serves its mirrors for ever.
  const hung = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hear = (chunk: Uint8Array) => {
    said += new TextDecoder().decode(chunk);
    if (/^Traceback /m.test(said)) timer ??= setTimeout(() => hung.abort(), 1000);
  };
  const { code } = await runProcess({
    argv,
    cwd,
    env: { ...definedOf(process.env), PATH, RECORD: record, PYTHONDONTWRITEBYTECODE: "1" },
    stdin: "ignore",
    onStdout: hear,
    onStderr: hear,
    signal: hung.signal,
  });
  clearTimeout(timer);
  return { failed: code !== 0 || hung.signal.aborted, said, started: readRecord(record, dir) };
}

function readRecord(record: string, dir: string): string[][] {
  if (!existsSync(record)) return [];
  const runs = readFileSync(record, "utf8").split("\0\n").slice(0, -1);
  const nameOf = (word: string) => word.startsWith(`${dir}/`) ? basename(word) : word;
  return runs.map((run) => run.split("\0").map(nameOf)).flatMap(withoutNamespace);
}

/**
 * Takes out what seedstrap adds to a command to keep the processes of a bootstrap together
 * (src/launch/contain.ts), and the trials whether that works.
 */
function withoutNamespace(run: string[]): string[][] {
  const [program, first = ""] = run;
  if (program === "bwrap") return []; // env is recorded, and starts none
  if (program !== "sudo" || basename(first) !== "unshare") {
    return [run.filter((word) => word !== "--unshare-pid" && word !== "--die-with-parent")];
  }
  const start = run.indexOf("env");
  return start < 0 ? [] : [[program, ...run.slice(start)]];
}

function definedOf(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]),
  );
}
