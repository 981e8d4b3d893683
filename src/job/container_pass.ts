// SPDX-License-Identifier: MIT
/**
 * The container in which a later pass of live-bootstrap's own CI goes on.
 *
 * A build puts the distfiles into the container of the pass before, as into a directory. A run makes
 * an image of that container, and a new one of the image: what the pass before has left stays until
 * the pass is done, so that it can be done again.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../errors.ts";
import { type ContainerHead, isOwnContainer, readContainer } from "../format/oci.ts";
import { type FileSegment, paddingTo, type Segment } from "../format/segment.ts";
import { TAR_BLOCK_BYTES, tarHeader } from "../format/tar.ts";
import { type Engine, findEngine } from "../launch/engine.ts";
import { copyIntoKept, findKept, keptHas, removeKept } from "../launch/kept.ts";
import { containerSettings } from "../plan/container.ts";
import type { BuildOptions } from "../plan/options.ts";
import { CONTAINER_IMAGE } from "../plan/types.ts";
import { containersOf, recordContainers } from "../record/containers.ts";
import { openImage } from "../source/file.ts";
import { streamImage } from "../write/stream.ts";
import { DigestMismatch } from "../write/writer.ts";

/** The container of the pass before. */
export interface FoundPass {
  readonly engine: Engine;
  readonly name: string;
  /** It, and others that are to be removed with it. */
  readonly names: readonly string[];
  /** The layer of the image of the target. */
  readonly layerSha256: string;
}

/**
 * Reads what there is to know of the image in a file.
 *
 * @throws {UserError} "verify" for another than a build makes: the engine would give it any name.
 */
export function ownContainerHead(path: string, options: BuildOptions): ContainerHead {
  const source = openImage(path);
  try {
    const head = readContainer(source);
    if (isOwnContainer(source, head, containerSettings(options))) return head;
    throw new UserError("verify", `Cannot trust ${path}: it is not as seedstrap makes it`, {
      where: path,
      hint: "Build the target again",
    });
  } finally {
    source.close();
  }
}

/**
 * Finds the container in which a pass goes on.
 *
 * @param dir The target, absolute.
 * @throws {UserError} "target" where there is none, "launch" where the engine that has it is not
 * here or does not answer, "interrupt"
 */
export async function findPass(
  dir: string,
  options: BuildOptions,
  signal: AbortSignal | undefined,
): Promise<FoundPass> {
  const fail = (why: string) =>
    new UserError("target", `Cannot go on in ${dir}: ${why}`, {
      where: dir,
      hint: "Begin with --container --internal-ci pass1 and the same --target, and run it",
    });
  const recorded = containersOf(dir);
  if (recorded === undefined) throw fail("no pass1 has come to its end there");
  const { names } = recorded;
  const { layerSha256 } = ownContainerHead(join(dir, CONTAINER_IMAGE), options);
  const engine = await findEngine(recorded.engine);
  for (const name of names) {
    if (!await findKept(engine, name, layerSha256, signal)) continue;
    if (await keptHas(engine, name, "/init", signal)) return { engine, name, names, layerSha256 };
    throw fail(`its container ${name} has no /init, which pass1 makes`);
  }
  throw fail(`${engine.name} does not have its container ${names[0]} any more`);
}

/** A distfile, and the file on this machine. */
export interface PassFile {
  readonly name: string;
  readonly body: FileSegment;
}

/**
 * Puts distfiles into the container of the pass before, in place of others of their names.
 *
 * @throws {UserError} "verify" for a file whose digest is wrong (`DigestMismatch`), which is not
 * there as a whole then; "launch" where the engine fails; "interrupt"
 */
export async function putIntoPass(
  { engine, name }: FoundPass,
  files: readonly PassFile[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const dir = "external/distfiles";
  const header = (path: string, kind: "file" | "directory", size: number): Segment => ({
    kind: "bytes",
    bytes: tarHeader({ path, kind, size, isExecutable: false }),
  });
  const segments: Segment[] = [
    header("external", "directory", 0),
    header(dir, "directory", 0),
    ...files.flatMap(({ name, body }) => [
      header(`${dir}/${name}`, "file", body.sizeBytes),
      body,
      ...paddingTo(body.sizeBytes, TAR_BLOCK_BYTES),
    ]),
    { kind: "zeros", sizeBytes: 2 * TAR_BLOCK_BYTES },
  ];
  const write = (to: WritableStream<Uint8Array>) =>
    streamImage(segments, to, { ...(signal && { signal }) });
  try {
    await copyIntoKept(engine, name, write, signal);
  } catch (error) {
    // What was streamed is put again, so that all may begin again.
    if (error instanceof UserError && error.cause instanceof DigestMismatch) throw error.cause;
    throw error;
  }
}

/** A container that stays where a bootstrap has ended with exit code 0. */
export interface KeptRun {
  readonly engine: Engine;
  readonly name: string;
  /** That of the pass before; undefined for a run from the beginning. */
  readonly before: FoundPass | undefined;
}

/** Records the container of a run. Those of the pass before stay until that is judged. */
export function recordKept(dir: string, { engine, name, before }: KeptRun): void {
  recordContainers(dir, engine.name, [name, ...before?.names ?? []]);
}

/**
 * Removes the containers of the pass before when a pass is done; else that goes on in them when it
 * is done again.
 */
export async function settlePass(
  dir: string,
  { engine, name, before }: KeptRun,
  isDone: boolean,
  onNotice: (text: string) => void,
): Promise<void> {
  if (before === undefined) return;
  if (!isDone) return recordContainers(dir, engine.name, before.names);
  for (const earlier of before.names) {
    try {
      const isThere = await findKept(engine, earlier, before.layerSha256);
      if (isThere) await removeKept(engine, earlier, onNotice);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      onNotice(`the container ${earlier} stays: ${error.message}`);
    }
  }
  recordContainers(dir, engine.name, [name]);
}
