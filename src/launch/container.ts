// SPDX-License-Identifier: MIT
/**
 * Runs a bootstrap in a container of podman or docker.
 *
 * The engine gets the image from a file, and gives it the name that is in it. What is started is
 * known by digest, and not by that name, which may be another image's by then. The container has a
 * name of its own; it stays, with what was built in it, where the bootstrap has ended by itself.
 *
 * An engine may leave the container to a daemon, or to a monitor that outlives its own program. So
 * the container is removed by its name where we are interrupted, and by a watcher where we are
 * killed: a shell that reads a pipe of which we hold the only other end. A daemon goes on with what
 * it was asked for when nobody waits for it any more: so a container is made first, and started then,
 * and an interrupt waits for what would be made after it.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import { throwIfInterrupted, UserError } from "../errors.ts";
import {
  findProgram,
  type ProcessOutcome,
  type RunningChild,
  runProcess,
  shellQuote,
} from "./process.ts";

/** The programs that can run a container; the first that is installed does. */
const ENGINES = ["podman", "docker"] as const;

/** A program that runs containers. */
export interface Engine {
  readonly name: (typeof ENGINES)[number];
  /** Its full path. */
  readonly path: string;
}

/** What to run. */
export interface ContainerRun {
  readonly engine: Engine;
  /** The image as a file. */
  readonly archive: string;
  /**
   * The digests by which an engine may know the image, in lower-case hex: podman and docker by that
   * of its config, docker with the store of containerd by that of its manifest.
   */
  readonly digests: readonly string[];
  /** With which the engine makes the container. */
  readonly options: readonly string[];
  /** Gives the bootstrap our terminal; otherwise it has no input, and what it prints is taken. */
  readonly interactive: boolean;
  readonly onOutput: (chunk: Uint8Array) => void;
  /** Told when the engine has been asked to start it: the process of the engine. */
  readonly onProcess?: ((engine: RunningChild) => void) | undefined;
  /** Told the name of a container that stays. */
  readonly onKept: (name: string) => void;
  /** A file that proves that the bootstrap has come to its end; undefined if none is known. */
  readonly proof: string | undefined;
  /** Told where there is that file. */
  readonly onProof: () => void;
  readonly onNotice: (text: string) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Returns the engine of this machine.
 *
 * @throws {UserError} "launch" if none is installed.
 */
export async function findEngine(): Promise<Engine> {
  for (const name of ENGINES) {
    const path = await findProgram(name);
    if (path !== undefined) return { name, path };
  }
  throw new UserError("launch", `Cannot find ${ENGINES.join(" or ")} in PATH`, {
    hint:
      "Install one of them: on Debian apt-get install podman. seedstrap build --container makes " +
      "the image without",
  });
}

/** Reports whether an engine works, or the daemon that it needs. */
export function engineAnswers(engine: Engine, signal: AbortSignal): Promise<boolean> {
  return quietly(engine, ["info"], signal);
}

/**
 * Runs a container to its end.
 *
 * @throws {UserError} "launch" if the engine cannot load the image or start it; "step" if the
 * bootstrap fails; "interrupt", and then neither the container nor an image that was loaded for it
 * is left.
 */
export async function runContainer(run: ContainerRun): Promise<void> {
  const { engine, signal, options, interactive, onOutput, onProcess, onKept, onNotice } = run;
  const name = `seedstrap-${randomBytes(6).toString("hex")}`;
  const remove = () => quietly(engine, ["rm", "--force", name]);
  // Whether an image that the engine has by now is of our making.
  let isLoaded = false;
  const watcher = await watch(engine, name);
  try {
    const there = await imageOf(run, signal);
    throwIfInterrupted(signal);
    isLoaded = there === undefined;
    const image = there ?? await load(run);
    await ask(engine, ["create", "--name", name, ...options, image], "make a container");
    throwIfInterrupted(signal);
    const argv = [
      engine.path,
      "start",
      "--attach",
      ...(interactive ? ["--interactive"] : []),
      name,
    ];
    // The engine ends by itself when its container is gone; only if it does not, it is killed.
    const stuck = new AbortController();
    let removing: Promise<unknown> | undefined;
    const stop = () => removing = remove().finally(() => stuck.abort());
    signal.addEventListener("abort", stop, { once: true });
    let outcome: ProcessOutcome;
    try {
      outcome = await runProcess({
        argv,
        stdin: interactive ? "inherit" : "ignore",
        ...(!interactive && { onStdout: onOutput, onStderr: onOutput }),
        ...(onProcess && { onSpawn: onProcess }),
        // The keys of the terminal are ours, unless the bootstrap has it.
        isApart: !interactive,
        signal: stuck.signal,
      });
    } finally {
      signal.removeEventListener("abort", stop);
      await removing;
    }
    if (signal.aborted) throw interrupted();
    if (outcome.code === 0) {
      onKept(name);
      const { proof, onProof } = run;
      if (proof !== undefined && await quietly(engine, ["cp", `${name}:${proof}`, "-"])) onProof();
      return;
    }
    const end = outcome.code === null ? `killed by ${outcome.signal}` : `exit code ${outcome.code}`;
    const why = `${end}: ${shellQuote(argv)}`;
    const inspect = ["container", "inspect", "--format", "{{.State.StartedAt}}", name];
    if ((await ask(engine, inspect, "tell of its container")).startsWith(NEVER)) {
      await remove();
      throw new UserError("launch", why);
    }
    onKept(name);
    throw new UserError(outcome.code === null ? "died" : "step", why);
  } catch (error) {
    if (!signal.aborted) throw error;
    // It may have been made after it was removed.
    await remove();
    const loaded = isLoaded ? await imageOf(run) : undefined;
    if (loaded !== undefined && !await quietly(engine, ["image", "rm", loaded])) {
      onNotice(`${engine.name} keeps the image: ${engine.name} image rm ${loaded} removes it`);
    }
    throw interrupted();
  } finally {
    watcher.release();
  }
}

/** When a container was started that never was. */
const NEVER = "0001-01-01";

function interrupted(): UserError {
  return new UserError("interrupt", "Interrupted, the container was ended");
}

/** Returns the digest by which an engine has an image; undefined if it does not have it. */
async function imageOf(
  { engine, digests }: ContainerRun,
  signal?: AbortSignal,
): Promise<string | undefined> {
  for (const digest of digests) {
    const image = `sha256:${digest}`;
    if (await quietly(engine, ["image", "inspect", image], signal)) return image;
  }
  return undefined;
}

/** Has an engine load an image, and returns the digest by which it has it then. */
async function load(run: ContainerRun): Promise<string> {
  const { engine, archive, onNotice, signal } = run;
  onNotice(`${engine.name} loads ${basename(archive)}`);
  // podman ends with its program, the daemon of docker does not.
  const ends = engine.name === "podman" ? signal : undefined;
  await ask(engine, ["load", "--input", archive], `load ${archive}`, ends);
  throwIfInterrupted(signal);
  const image = await imageOf(run, signal);
  throwIfInterrupted(signal);
  if (image !== undefined) return image;
  throw new UserError("launch", `${engine.name} does not have the image that it has loaded`, {
    where: archive,
  });
}

/**
 * Has an engine do something.
 *
 * @param what What that is, for the error.
 * @returns What it says.
 * @throws {UserError} "launch" with that, where it fails.
 */
async function ask(
  { name, path }: Engine,
  args: readonly string[],
  what: string,
  signal?: AbortSignal,
): Promise<string> {
  const told = new Told();
  const argv = [path, ...args];
  const { code } = await runProcess({
    argv,
    stdin: "ignore",
    onStdout: told.take,
    onStderr: told.take,
    isApart: true,
    ...(signal && { signal }),
  });
  throwIfInterrupted(signal);
  if (code === 0) return told.text;
  throw new UserError("launch", `${name} cannot ${what}: ${told.text || `exit code ${code}`}`, {
    hint: `The command was: ${shellQuote(argv)}`,
  });
}

/** The end of what a program says. */
class Told {
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
async function quietly(
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

/**
 * Waits for a line, and runs its arguments where none comes, and once more for what was made
 * meanwhile. It is a child of the shell that dies
 * with us, and has no signal for the death of its own parent.
 */
const WATCHES = `exec 3<&0
(read -r line <&3 || { "$@"; sleep 5; exec "$@"; }) >/dev/null 2>&1 &
wait`;

/** Has a container removed where we are killed. */
async function watch(
  { path }: Engine,
  name: string,
): Promise<{ release(): void }> {
  const shell = await findProgram("sh");
  if (shell === undefined) return { release() {} };
  let tell: RunningChild | undefined;
  const ended = runProcess({
    argv: [shell, "-c", WATCHES, shell, path, "rm", "--force", name],
    stdin: "pipe",
    isApart: true,
    onSpawn: (child) => tell = child,
  });
  // Without it a kill leaves the container, and nothing else is lost.
  ended.catch(() => {});
  return {
    release() {
      tell?.write?.(new TextEncoder().encode("done\n"));
      tell?.end?.();
    },
  };
}
