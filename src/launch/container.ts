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

import { basename } from "node:path";
import { setTimeout } from "node:timers/promises";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { askEngine, type Engine, engineDoes } from "./engine.ts";
import { imageOfPass, newContainerName, removeKept } from "./kept.ts";
import {
  findProgram,
  type ProcessOutcome,
  type RunningChild,
  runProcess,
  shellQuote,
} from "./process.ts";

/** What a container is made of. */
export type ContainerOrigin =
  | {
    readonly kind: "archive";
    /** The image as a file. */
    readonly path: string;
    /**
     * The digests by which an engine may know the image, in lower-case hex: podman and docker by
     * that of its config, docker with the store of containerd by that of its manifest.
     */
    readonly digests: readonly string[];
  }
  /** Of what is in another container, which is left as it is. */
  | { readonly kind: "container"; readonly name: string };

/** What to run. */
export interface ContainerRun {
  readonly engine: Engine;
  readonly origin: ContainerOrigin;
  /** With which the engine makes the container. */
  readonly options: readonly string[];
  /** Gives the bootstrap our terminal; otherwise it has no input, and what it prints is taken. */
  readonly interactive: boolean;
  readonly onOutput: (chunk: Uint8Array) => void;
  /** Told when the engine has been asked to start it: the process of the engine. */
  readonly onProcess?: ((engine: RunningChild) => void) | undefined;
  /** Told when the container has started. */
  readonly onReady?: (() => void) | undefined;
  /**
   * Told the name of a container that stays, and whether the bootstrap in it has succeeded. Where we
   * are killed before this returns, the container is removed.
   */
  readonly onKept: (name: string, hasSucceeded: boolean) => void;
  /** A file that proves that the bootstrap has come to its end; undefined if none is known. */
  readonly proof: string | undefined;
  /** Told where there is that file. */
  readonly onProof: () => void;
  readonly onNotice: (text: string) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Runs a container to its end.
 *
 * @throws {UserError} "launch" if the engine cannot make the image or start it; "step" if the
 * bootstrap fails; "interrupt". Unless a container stays, neither it nor an image that was made for
 * it is left then.
 */
export async function runContainer(run: ContainerRun): Promise<void> {
  const { engine, origin, signal, options, interactive, onOutput, onProcess, onReady, onKept } =
    run;
  const name = newContainerName();
  const image = new ImageOfRun(run, name);
  const remove = () => engineDoes(engine, ["rm", "--force", name]);
  const watcher = await watch(engine, name, origin.kind === "container");
  let isKept = false;
  const keep = (hasSucceeded: boolean) => {
    isKept = true;
    onKept(name, hasSucceeded);
  };
  try {
    const from = await image.get(signal);
    await askEngine(engine, ["create", "--name", name, ...options, from], "make a container");
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
    let hasStarted = false;
    try {
      const ended = runProcess({
        argv,
        stdin: interactive ? "inherit" : "ignore",
        ...(!interactive && { onStdout: onOutput, onStderr: onOutput }),
        ...(onProcess && { onSpawn: onProcess }),
        // The keys of the terminal are ours, unless the bootstrap has it.
        isApart: !interactive,
        signal: stuck.signal,
      });
      hasStarted = await startsBefore(ended, engine, name);
      if (hasStarted) onReady?.();
      outcome = await ended;
    } finally {
      signal.removeEventListener("abort", stop);
      await removing;
    }
    if (signal.aborted) throw interrupted();
    if (outcome.code === 0) {
      keep(true);
      const { proof, onProof } = run;
      if (proof !== undefined && await engineDoes(engine, ["cp", `${name}:${proof}`, "-"])) {
        onProof();
      }
      return;
    }
    const end = outcome.code === null ? `killed by ${outcome.signal}` : `exit code ${outcome.code}`;
    const why = `${end}: ${shellQuote(argv)}`;
    if (!hasStarted) {
      // The image goes with the container.
      const again = origin.kind === "archive" && [
        [engine.name, "load", "--input", origin.path],
        [engine.name, "run", "--rm", ...options, from],
      ];
      throw new UserError("launch", `${engine.name} could not start the container: ${why}`, {
        ...(again && { hint: `Try ${again.map(shellQuote).join(" && ")}` }),
      });
    }
    keep(false);
    throw new UserError(outcome.code === null ? "died" : "step", why);
  } catch (error) {
    if (isKept) throw error;
    // It may have been made after it was removed.
    await remove();
    await image.remove();
    throw signal.aborted ? interrupted() : error;
  } finally {
    watcher.release();
  }
}

/** When a container was started that never was. */
const NEVER = "0001-01-01";
/** How often an engine is asked whether a container has started. */
const ASK_MS = 200;

/** Waits until a container has started; returns false where its engine has ended before that. */
async function startsBefore(
  ended: Promise<unknown>,
  engine: Engine,
  name: string,
): Promise<boolean> {
  const inspect = ["container", "inspect", "--format", "{{.State.StartedAt}}", name];
  const isStarted = async () => {
    try {
      return !(await askEngine(engine, inspect, "tell of its container")).startsWith(NEVER);
    } catch (error) {
      // It was removed, as we were interrupted.
      if (error instanceof UserError) return false;
      throw error;
    }
  };
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  const over = ended.then(end, end);
  while (!isOver) {
    if (await isStarted()) return true;
    await Promise.race([over, setTimeout(ASK_MS, undefined, { ref: false })]);
  }
  return await isStarted();
}

function interrupted(): UserError {
  return new UserError("interrupt", "Interrupted, the container was ended");
}

/** The image that the container of a run is made from. */
class ImageOfRun {
  readonly #run: ContainerRun;
  /** The name of the container. */
  readonly #name: string;
  /** Whether an image that the engine has by now is of our making. */
  #isMade = false;

  constructor(run: ContainerRun, name: string) {
    this.#run = run;
    this.#name = name;
  }

  /** Makes it where the engine does not have it, and returns what the engine knows it by. */
  async get(signal: AbortSignal): Promise<string> {
    const { engine, origin } = this.#run;
    if (origin.kind === "container") {
      this.#isMade = true;
      return await commit(engine, origin.name, this.#name, signal);
    }
    const there = await imageOf(engine, origin.digests, signal);
    throwIfInterrupted(signal);
    this.#isMade = there === undefined;
    return there ?? await load(this.#run, origin);
  }

  /** Removes it where {@link get} has made it. */
  async remove(): Promise<void> {
    const { engine, origin, onNotice } = this.#run;
    if (!this.#isMade) return;
    if (origin.kind === "container") return await removeKept(engine, this.#name, onNotice);
    const loaded = await imageOf(engine, origin.digests);
    if (loaded !== undefined && !await engineDoes(engine, ["image", "rm", loaded])) {
      onNotice(`${engine.name} keeps the image: ${engine.name} image rm ${loaded} removes it`);
    }
  }
}

/** Returns the digest by which an engine has an image; undefined if it does not have it. */
async function imageOf(
  engine: Engine,
  digests: readonly string[],
  signal?: AbortSignal,
): Promise<string | undefined> {
  for (const digest of digests) {
    const image = `sha256:${digest}`;
    if (await engineDoes(engine, ["image", "inspect", image], signal)) return image;
  }
  return undefined;
}

/** Has an engine load an image, and returns the digest by which it has it then. */
async function load(
  { engine, onNotice, signal }: ContainerRun,
  { path, digests }: Extract<ContainerOrigin, { kind: "archive" }>,
): Promise<string> {
  onNotice(`${engine.name} loads ${basename(path)}`);
  await askEngine(engine, ["load", "--input", path], `load ${path}`, waits(engine, signal));
  throwIfInterrupted(signal);
  const image = await imageOf(engine, digests, signal);
  throwIfInterrupted(signal);
  if (image !== undefined) return image;
  throw new UserError("launch", `${engine.name} does not have the image that it has loaded`, {
    where: path,
  });
}

/**
 * Has an engine make an image of what is in a container, and returns its digest.
 *
 * @param name The container that is to be made from it, which the image is named after.
 */
async function commit(
  engine: Engine,
  from: string,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  const what = `make an image of the container ${from}`;
  const words = ["commit", from, imageOfPass(name)];
  const said = await askEngine(engine, words, what, waits(engine, signal));
  throwIfInterrupted(signal);
  const digest = /(?:^|\n)(?:sha256:)?([0-9a-f]{64})$/.exec(said)?.[1];
  if (digest !== undefined) return `sha256:${digest}`;
  throw new UserError("launch", `${engine.name} does not say which image it has made: ${said}`);
}

/** What ends a long command: podman ends with its program, the daemon of docker does not. */
function waits({ name }: Engine, signal: AbortSignal): AbortSignal | undefined {
  return name === "podman" ? signal : undefined;
}

/**
 * Waits for a line, and removes the container where none comes, with its image if there is a name
 * of one, and once more what was made meanwhile. It is a child of the shell that dies with us, and
 * has no signal for the death of its own parent.
 */
const WATCHES = `exec 3<&0
end() {
  "$0" rm --force "$1"
  [ -z "$2" ] || "$0" image rm "$2"
}
(read -r line <&3 || { end "$@"; sleep 5; end "$@"; }) >/dev/null 2>&1 &
wait`;

/**
 * Has a container removed where we are killed.
 *
 * @param hasImage Whether its image is one that was made for it.
 */
async function watch(
  { path }: Engine,
  name: string,
  hasImage: boolean,
): Promise<{ release(): void }> {
  const shell = await findProgram("sh");
  if (shell === undefined) return { release() {} };
  let tell: RunningChild | undefined;
  const ended = runProcess({
    argv: [shell, "-c", WATCHES, path, name, hasImage ? imageOfPass(name) : ""],
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
