// SPDX-License-Identifier: MIT
/**
 * Runs the command line as a process of its own.
 *
 * @module
 */
import { test } from "bun:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url).href);
/** Entry point of the command line. */
export const MAIN = `${ROOT}src/cli/main.ts`;
/** The Deno binary: the file in .bin may be a script, which would get the signals instead. */
export const DENO = `${ROOT}node_modules/deno/deno`;

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Command in place of `bun src/cli/main.ts`. */
  readonly command?: readonly string[];
}

/** Runs seedstrap and waits for its end. */
export async function seedstrap(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return await run([...(options.command ?? [process.execPath, MAIN]), ...args], options);
}

/** Runs a program and waits for its end. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = start(argv, options);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Starts a program with pipes for its output. */
export function start(
  argv: readonly string[],
  { cwd, env }: RunOptions = {},
): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  const { PATH = "", HOME = "/", XDG_STATE_HOME } = process.env;
  return Bun.spawn([...argv], {
    ...(cwd !== undefined && { cwd }),
    env: {
      PATH,
      HOME,
      // Where a home is given, that has the state too.
      ...(env?.["HOME"] === undefined && XDG_STATE_HOME !== undefined && { XDG_STATE_HOME }),
      ...env,
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

/** Returns `test`, or `test.skip` if a program is missing, with the reason printed. */
export function testWith(program: string): typeof test | typeof test.skip {
  if (Bun.which(program) !== null) return test;
  console.log(`skipped: tests with ${program}: it is not installed here`);
  return test.skip;
}
