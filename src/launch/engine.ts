// SPDX-License-Identifier: MIT
/**
 * podman and docker: which of them is here, and how it is asked for something.
 *
 * @module
 */

import { throwIfInterrupted, UserError } from "../errors.ts";
import { findProgram, installHint, runProcess, shellQuote } from "./process.ts";

/** The programs that can run a container; the first that is installed does. */
export const ENGINES = ["podman", "docker"] as const;

/** A program that runs containers. */
export interface Engine {
  readonly name: (typeof ENGINES)[number];
  /** Its full path. */
  readonly path: string;
}

/**
 * Returns the engine of this machine.
 *
 * @param name The one that it has to be; any if absent.
 * @throws {UserError} "launch" if it is not installed.
 */
export async function findEngine(name?: Engine["name"]): Promise<Engine> {
  const names = name === undefined ? ENGINES : [name];
  for (const name of names) {
    const path = await findProgram(name);
    if (path !== undefined) return { name, path };
  }
  throw new UserError("launch", `Cannot find ${names.join(" or ")} in PATH`, {
    hint: name === undefined
      ? `${installHint("podman", "podman")}. seedstrap build --container makes the image without`
      : `The container of the target is one of ${name}`,
  });
}

/** Reports whether an engine works, or the daemon that it needs. */
export function engineAnswers(engine: Engine, signal: AbortSignal): Promise<boolean> {
  return engineDoes(engine, ["info"], signal);
}

/**
 * Has an engine do something.
 *
 * @param what What that is, for the error.
 * @returns What it says on its standard output.
 * @throws {UserError} "launch" with all that it says, where it fails.
 */
export async function askEngine(
  { name, path }: Engine,
  args: readonly string[],
  what: string,
  signal?: AbortSignal,
): Promise<string> {
  const answer = new Told();
  const told = new Told();
  const argv = [path, ...args];
  const { code } = await runProcess({
    argv,
    stdin: "ignore",
    onStdout: (chunk) => {
      answer.take(chunk);
      told.take(chunk);
    },
    onStderr: told.take,
    isApart: true,
    ...(signal && { signal }),
  });
  throwIfInterrupted(signal);
  if (code === 0) return answer.text;
  throw engineError(name, argv, what, told.text || `exit code ${code}`);
}

/** The error for what an engine has failed to do, and what it has said. */
export function engineError(
  name: Engine["name"],
  argv: readonly string[],
  what: string,
  said: string,
): UserError {
  return new UserError("launch", `${name} cannot ${what}: ${said}`, {
    hint: `The command was: ${shellQuote(argv)}`,
  });
}

/** The end of what a program says. */
export class Told {
  #bytes = new Uint8Array();

  readonly take = (chunk: Uint8Array): void => {
    this.#bytes = new Uint8Array([...this.#bytes, ...chunk]).slice(-MOST_TOLD_BYTES);
  };

  get text(): string {
    return new TextDecoder().decode(this.#bytes).trim();
  }
}

const MOST_TOLD_BYTES = 2048;

/** Asks an engine for something, and reports whether it has done it. */
export async function engineDoes(
  { path }: Engine,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<boolean> {
  const nothing = () => {};
  const { code } = await runProcess({
    argv: [path, ...args],
    stdin: "ignore",
    onStdout: nothing,
    onStderr: nothing,
    isApart: true,
    ...(signal && { signal }),
  });
  return code === 0;
}
