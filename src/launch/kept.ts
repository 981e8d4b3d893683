// SPDX-License-Identifier: MIT
/**
 * Containers that stay when a bootstrap has ended in them.
 *
 * A later pass goes on with what is in one: the engine makes an image of that, named after the
 * container that is made from the image.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import type { Writable } from "node:stream";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { askEngine, type Engine, engineDoes, engineError, Told } from "./engine.ts";
import { runProcess } from "./process.ts";

const NAME = /^seedstrap-[0-9a-f]{12}$/;

/** Returns the name of a new container, which nobody guesses. */
export function newContainerName(): string {
  return `seedstrap-${randomBytes(6).toString("hex")}`;
}

/** Reports whether a text is a name as {@link newContainerName} returns it. */
export function isContainerName(text: string): boolean {
  return NAME.test(text);
}

/** The image that the container of a later pass is made from, by the name of that. */
export function imageOfPass(name: string): string {
  return `localhost/${name}`;
}

/**
 * Reports whether there is a container, and finds out that it is one of an image.
 *
 * @param layerSha256 The first layer of the image, in lower-case hex. What was made of a container
 * of that image has it as its first layer, too.
 * @throws {UserError} "target" for a container of another image, or one that runs; "launch" where
 * the engine does not answer; "interrupt"
 */
export async function findKept(
  engine: Engine,
  name: string,
  layerSha256: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const list = ["ps", "--all", "--filter", `name=^${name}$`, "--format", "{{.Names}}"];
  if (await askEngine(engine, list, "list its containers", signal) !== name) return false;
  const fail = (why: string, hint?: string) =>
    new UserError("target", `Cannot go on with the container ${name}: ${why}`, {
      ...(hint !== undefined && { hint }),
    });
  const what = `tell of the container ${name}`;
  const inspect = ["container", "inspect", "--format", "{{.State.Running}} {{.Image}}", name];
  const said = await askEngine(engine, inspect, what, signal);
  const [, running, image] = /^(true|false) (?:sha256:)?([0-9a-f]{64})$/.exec(said) ?? [];
  if (image === undefined) throw fail(`${engine.name} says of it ${JSON.stringify(said)}`);
  if (running === "true") throw fail("it runs", `Wait, or end it: ${engine.name} stop ${name}`);
  const first = ["image", "inspect", "--format", "{{index .RootFS.Layers 0}}", `sha256:${image}`];
  if (await askEngine(engine, first, what, signal) === `sha256:${layerSha256}`) return true;
  throw fail(
    "its image is not that of the target",
    "The target was built again, or comes from elsewhere: begin with --internal-ci pass1",
  );
}

/** Reports whether a container has a file. */
export function keptHas(
  engine: Engine,
  name: string,
  path: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  return engineDoes(engine, ["cp", `${name}:${path}`, "-"], signal);
}

/**
 * Puts a tar into the root of a container that does not run. It ends early where it cannot be
 * written as a whole, and members that are whole may be there then.
 *
 * @param write Writes the tar, and closes the stream or aborts it.
 * @throws {UserError} "launch" where the engine fails; "interrupt"
 * @throws what `write` throws
 */
export async function copyIntoKept(
  engine: Engine,
  name: string,
  write: (to: WritableStream<Uint8Array>) => Promise<unknown>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const told = new Told();
  const argv = [engine.path, "cp", "-", `${name}:/`];
  let written: Promise<unknown> = Promise.resolve();
  const { code } = await runProcess({
    argv,
    stdin: "pipe",
    // Not ended by the signal: it ends with its input, and leaves nothing of its own then.
    onInput: (input) => {
      written = write(streamInto(input));
      // Waited for below.
      written.catch(() => {});
    },
    onStdout: told.take,
    onStderr: told.take,
    isApart: true,
  });
  const failure = await written.then(() => undefined, (error: unknown) => error);
  throwIfInterrupted(signal);
  // An engine that fails reads no more, which is no failure of its own here.
  if (failure instanceof UserError) throw failure;
  if (code !== 0) {
    const said = told.text || `exit code ${code}`;
    throw engineError(engine.name, argv, `put files into the container ${name}`, said);
  }
  if (failure !== undefined) throw failure;
}

/** Takes one chunk after the other: what is given to a pipe before it can take it is in memory. */
function streamInto(input: Writable): WritableStream<Uint8Array> {
  const done = (use: (told: (error?: Error | null) => void) => void) =>
    new Promise<void>((settle, reject) => use((error) => error ? reject(error) : settle()));
  return new WritableStream({
    write: (chunk) => done((told) => input.write(chunk, told)),
    close: () => done((told) => input.end(told)),
    abort: () => void input.destroy(),
  });
}

/** Removes a container that does not run, and the image that was made for it, if any. */
export async function removeKept(
  engine: Engine,
  name: string,
  onNotice: (text: string) => void,
): Promise<void> {
  const image = imageOfPass(name);
  const { name: program } = engine;
  for (
    const [is, remove] of [
      [["container", "inspect", name], ["rm", name]],
      [["image", "inspect", image], ["image", "rm", image]],
    ] as const
  ) {
    if (!await engineDoes(engine, is) || await engineDoes(engine, remove)) continue;
    onNotice(`${program} keeps ${remove.at(-1)}: ${program} ${remove.join(" ")} removes it`);
  }
}
