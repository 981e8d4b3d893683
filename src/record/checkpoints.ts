// SPDX-License-Identifier: MIT
/**
 * Checkpoints: the whole state of a guest, to go on from.
 *
 *   TARGET/.seedstrap/checkpoints/N.json          a checkpoint; it is one when this file is there
 *   TARGET/.seedstrap/checkpoints/N.memory        memory and devices: QEMU's migration stream
 *   TARGET/.seedstrap/checkpoints/IMAGE.N.qcow2   a layer: what a guest has written over IMAGE, which
 *                                                 stays as it was built, and over lower layers
 *   TARGET/.seedstrap/checkpoints/layers.json     the layers of the guest that runs, or has run last
 *   TARGET/.seedstrap/checkpoints/NAME.part       what is being written
 *
 * N counts from 1, apart for checkpoints and for layers. A guest writes into its topmost layer. At a
 * checkpoint it gets a new one, so that the others never change again; two between which no checkpoint
 * is left become one, in a file of its own. What a checkpoint needs is then forced to the disk, hashed, and only then named in its N.json, which
 * gets its name when it is complete. So whatever is killed or loses power at whatever moment, all
 * earlier checkpoints are what they were; and a file that was cut, or has a flipped bit, is found
 * before QEMU sees it.
 *
 * Two other ways were tried with QEMU 7.2. Its internal snapshots (snapshot-save) are inside of the
 * one file into which the guest goes on writing: that file has no digest, its tables are shared by
 * all snapshots, and a host that loses power in the middle can lose all of them, unless every write
 * of the guest's tables waits for the disk. They are as fast, and as large: 0.3 s and 303 MiB for a
 * guest that uses 300 MiB, both ways. A copy of the disk at each checkpoint takes the time and the
 * space of the whole disk.
 *
 * N.json has the SHA-256 of itself, with 64 "0" in place of that.
 *
 * @module
 */

import { createReadStream, readdirSync, renameSync, rmSync } from "node:fs";
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { sha256Of } from "../bytes.ts";
import { messageOf, throwIfInterrupted, UserError } from "../errors.ts";
import {
  anyText,
  count,
  list,
  objectOf,
  oneOf,
  parseJson,
  sha256,
  size,
  textThat,
} from "../json.ts";
import { readWholeText } from "../read.ts";
import { writing } from "../refused.ts";
import { syncDirectory, writeNewFile } from "../runtime/durable.ts";
import { hasOwnDirectory, makeOwnDirectory, WORK_DIR } from "../runtime/own.ts";
import { lstatIfThere } from "../runtime/stat.ts";

const FORMAT = "seedstrap-checkpoint/1";
const LAYERS_FORMAT = "seedstrap-layers/1";
const LAYERS_NAME = "layers.json";
const CHECKPOINTS_DIR = join(WORK_DIR, "checkpoints");
/** Each layer has a line; a hundred thousand of them are years. */
export const MAX_CHECKPOINT_BYTES = 16 * 1024 * 1024;
const MAX_NUMBER = 999_999_999;
const NO_DIGEST = "0".repeat(64);

/** A file that a checkpoint needs, and that no longer changes. */
export interface SavedFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** A disk of a guest. */
export interface SavedDisk {
  /** Name of the image in the target. */
  readonly image: string;
  readonly sizeBytes: number;
  /** Digest of what the record of the target says of the image: another build is another disk. */
  readonly built: string;
  /** The lowest first; at least one. */
  readonly layers: readonly SavedFile[];
}

/** A checkpoint. */
export interface Checkpoint {
  readonly format: typeof FORMAT;
  readonly number: number;
  /** ISO 8601, UTC. */
  readonly saved: string;
  /** What it was saved for: those of jumps are kept. */
  readonly reason: "jump" | "step" | "time" | "interrupt" | "budget";
  /** Where the guest was, such as `tcc-0.9.26 pass 1`. */
  readonly at: string;
  readonly accel: "kvm" | "hvf" | "tcg";
  /** Version of QEMU, as it says it itself. */
  readonly qemu: string;
  /** Arguments of QEMU, without those of disks: another machine cannot take up the state. */
  readonly machine: readonly string[];
  readonly disks: readonly SavedDisk[];
  readonly memory: SavedFile;
  /** The run that was saved, and how much of its log the guest had printed by then. */
  readonly log: { readonly name: string; readonly sizeBytes: number };
}

const number = count(1, MAX_NUMBER);
const plainName = textThat(
  (value) => /^[\w.+-]{1,200}$/.test(value) && !/^\.\.?$/.test(value),
  "a name",
);
const savedFile = objectOf<SavedFile>({ name: plainName, sizeBytes: size, sha256 });

const checkpointSchema = objectOf<Checkpoint & { readonly sha256: string }>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  number,
  saved: textThat((value) => !Number.isNaN(Date.parse(value)), "a time"),
  reason: oneOf(["jump", "step", "time", "interrupt", "budget"]),
  at: anyText,
  accel: oneOf(["kvm", "hvf", "tcg"]),
  qemu: anyText,
  machine: list(anyText),
  disks: list(
    objectOf<SavedDisk>({
      image: plainName,
      sizeBytes: size,
      built: sha256,
      layers: list(savedFile),
    }),
  ),
  memory: savedFile,
  log: objectOf<Checkpoint["log"]>({ name: plainName, sizeBytes: size }),
  sha256,
});

/** Returns the text of a checkpoint's N.json. */
export function formatCheckpoint(checkpoint: Omit<Checkpoint, "format">): string {
  const text = (sha256: string) =>
    `${JSON.stringify({ format: FORMAT, ...checkpoint, sha256 }, null, 1)}\n`;
  return text(sha256Of(text(NO_DIGEST)));
}

/** Parses the text of a checkpoint's N.json; the fault, where it is not as it was written. */
export function parseCheckpoint(text: string): Checkpoint | string {
  const parsed = parseJson(checkpointSchema, text);
  if (typeof parsed === "string") return parsed;
  const { sha256, ...checkpoint } = parsed;
  // Also where the digest is a part of another text, this text is not the one that was hashed.
  const own = sha256Of(text.replace(sha256, NO_DIGEST));
  return own === sha256 ? checkpoint : "it is not as it was written";
}

/** A checkpoint as it was found. */
export interface FoundCheckpoint {
  readonly number: number;
  /** The checkpoint, or why it cannot be used. */
  readonly read: Checkpoint | string;
}

/**
 * The checkpoints of a target, in order. Only their N.json are read.
 *
 * @param dir The target, absolute.
 */
export function listCheckpoints(dir: string): FoundCheckpoint[] {
  const place = checkpointsDir(dir);
  return namesIn(dir).flatMap((name) => {
    const [, digits] = /^([1-9]\d{0,8})\.json$/.exec(name) ?? [];
    if (digits === undefined) return [];
    return [{ number: Number(digits), read: readOne(join(place, name), Number(digits)) }];
  }).sort((a, b) => a.number - b.number);
}

function readOne(path: string, expected: number): Checkpoint | string {
  try {
    const options = { limitBytes: MAX_CHECKPOINT_BYTES, followsLink: false };
    const read = parseCheckpoint(readWholeText(path, options));
    if (typeof read === "string") return read;
    return read.number === expected ? read : `it is checkpoint ${read.number}`;
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

/** Reports whether a target has checkpoints, or a guest has written to layers of its images. */
export function hasCheckpoints(dir: string): boolean {
  return namesIn(dir).some((name) => /\.(?:json|qcow2)$/.test(name));
}

/** Absolute path of the directory of checkpoints, which may not exist. */
export function checkpointsDir(dir: string): string {
  return join(dir, CHECKPOINTS_DIR);
}

/** Makes the directory of checkpoints, where there is none, and returns its absolute path. */
export function makeCheckpointsDir(dir: string): string {
  const place = checkpointsDir(dir);
  return writing(place, () => {
    makeOwnDirectory(join(dir, WORK_DIR), { isPrivate: true });
    makeOwnDirectory(place, { isPrivate: true });
    return place;
  });
}

/** The number of the next checkpoint, and of the next layer: none had it yet. */
export function nextNumbers(dir: string): { readonly checkpoint: number; readonly layer: number } {
  const highest = (pattern: RegExp) =>
    Math.max(0, ...namesIn(dir).map((name) => Number(pattern.exec(name)?.[1] ?? 0)));
  return {
    checkpoint: 1 + highest(/^([1-9]\d{0,8})\.(?:json|memory)/),
    layer: 1 + highest(/\.([1-9]\d{0,8})\.qcow2$/),
  };
}

/** Name of a layer. */
export function layerName(image: string, number: number): string {
  return `${image}.${number}.qcow2`;
}

/** The layers of a disk, by name. */
export interface LayersOfDisk {
  /** Name of the image in the target. */
  readonly image: string;
  /** The lowest first. */
  readonly layers: readonly string[];
}

/** The content of layers.json. */
interface LayersFile {
  readonly format: typeof LAYERS_FORMAT;
  readonly disks: readonly LayersOfDisk[];
}

const layersSchema = objectOf<LayersFile>({
  format: v.literal(LAYERS_FORMAT, `"${LAYERS_FORMAT}"`),
  disks: list(objectOf<LayersOfDisk>({ image: plainName, layers: list(plainName) })),
});

/**
 * Records the layers of the guest that runs.
 *
 * @throws {UserError} "target"
 */
export function putLayers(dir: string, disks: readonly LayersOfDisk[]): void {
  put(dir, LAYERS_NAME, `${JSON.stringify({ format: LAYERS_FORMAT, disks }, null, 1)}\n`);
}

/**
 * The layers of the guest that runs, or has run last, over an image of a target.
 *
 * @returns Absolute paths, the lowest first; none where no guest has written to layers of it.
 * @throws {UserError} "target" where that is recorded, and cannot be understood.
 */
export function layersOf(dir: string, image: string): string[] {
  const layers = readLayers(dir).find((disk) => disk.image === image)?.layers ?? [];
  return layers.map((name) => join(checkpointsDir(dir), name));
}

function readLayers(dir: string): readonly LayersOfDisk[] {
  if (!namesIn(dir).includes(LAYERS_NAME)) return [];
  const path = join(checkpointsDir(dir), LAYERS_NAME);
  const options = { limitBytes: MAX_CHECKPOINT_BYTES, followsLink: false };
  const read = parseJson(layersSchema, readWholeText(path, options));
  if (typeof read !== "string") return read.disks;
  throw new UserError("target", `Cannot understand ${path}: ${read}`, { where: path });
}

/** Reports whether a name is that of the memory of a checkpoint, or of a layer. */
export function isDataName(name: string): boolean {
  return /^[1-9]\d{0,8}\.memory$/.test(name) || /^[\w+-][\w.+-]*\.[1-9]\d{0,8}\.qcow2$/.test(name);
}

/** Name of the memory of a checkpoint. */
export function memoryName(number: number): string {
  return `${number}.memory`;
}

/**
 * Forces a file of a checkpoint to the disk, and hashes it.
 *
 * @throws {UserError} "target" where the disk is full, or fails; "interrupt".
 */
export async function settleFile(
  dir: string,
  name: string,
  signal?: AbortSignal,
): Promise<SavedFile> {
  const path = join(checkpointsDir(dir), name);
  try {
    const file = await open(path, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    return { name, ...await digestOf(path, signal) };
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError("target", `Cannot save ${path}: ${messageOf(cause)}`, {
      where: path,
      cause,
    });
  }
}

async function digestOf(
  path: string,
  signal: AbortSignal | undefined,
): Promise<Pick<SavedFile, "sizeBytes" | "sha256">> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    throwIfInterrupted(signal);
    hash.update(chunk as Uint8Array);
    sizeBytes += (chunk as Uint8Array).length;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
}

const READ_BYTES = 1024 * 1024;

/**
 * Puts a checkpoint in its place, when all that it needs was settled.
 *
 * @throws {UserError} "target"
 */
export function putCheckpoint(dir: string, checkpoint: Omit<Checkpoint, "format">): void {
  put(dir, `${checkpoint.number}.json`, formatCheckpoint(checkpoint));
}

/** Writes a small file, which has its name only when it is complete. */
function put(dir: string, name: string, text: string): void {
  const place = checkpointsDir(dir);
  const part = join(place, `${name}.part`);
  writing(place, () => {
    rmSync(part, { recursive: true, force: true });
    writeNewFile(part, text, 0o600);
    renameSync(part, join(place, name));
    syncDirectory(place);
  });
}

/**
 * Reads all that a checkpoint needs, and compares it.
 *
 * @returns The first fault, as a phrase; undefined where all is as it was saved.
 * @throws {UserError} "interrupt"
 */
export async function checkpointFault(
  dir: string,
  { disks, memory }: Pick<Checkpoint, "disks" | "memory">,
  signal?: AbortSignal,
): Promise<string | undefined> {
  for (const { name, sizeBytes, sha256 } of [memory, ...disks.flatMap(({ layers }) => layers)]) {
    const path = join(checkpointsDir(dir), name);
    const stat = lstatIfThere(path);
    if (stat === undefined) return `${name} is missing`;
    if (!stat.isFile()) return `${name} is no regular file`;
    if (stat.size !== sizeBytes) {
      return `${name} has ${stat.size} bytes, and was saved with ${sizeBytes}`;
    }
    let found: Pick<SavedFile, "sha256">;
    try {
      found = await digestOf(path, signal);
    } catch (error) {
      if (error instanceof UserError) throw error;
      return `${name} cannot be read: ${messageOf(error)}`;
    }
    if (found.sha256 !== sha256) return `${name} is not as it was saved`;
  }
  return undefined;
}

/**
 * Records that two layers of a disk, one above the other, are one by now. The disks of all checkpoints
 * read as before, also where only some of them were recorded.
 */
export function replaceLayers(
  dir: string,
  image: string,
  names: readonly [lower: string, upper: string],
  merged: SavedFile,
): void {
  for (const { read } of listCheckpoints(dir)) {
    if (typeof read === "string") continue;
    const disks = read.disks.map((disk) => {
      const at = disk.image === image ? disk.layers.findIndex(({ name }) => name === names[0]) : -1;
      if (at < 0 || disk.layers[at + 1]?.name !== names[1]) return disk;
      return { ...disk, layers: disk.layers.toSpliced(at, 2, merged) };
    });
    if (disks.some((disk, index) => disk !== read.disks[index])) {
      putCheckpoint(dir, { ...read, disks });
    }
  }
}

/** Removes checkpoints. What only they need remains, see {@link removeUnneeded}. */
export function removeCheckpoints(dir: string, numbers: readonly number[]): void {
  const place = checkpointsDir(dir);
  writing(place, () => {
    for (const number of numbers) rmSync(join(place, `${number}.json`), { force: true });
    if (numbers.length > 0) syncDirectory(place);
  });
}

/**
 * Removes files that neither a checkpoint needs, nor the guest that runs, or has run last.
 *
 * @returns Bytes that were freed.
 */
export function removeUnneeded(dir: string): number {
  const place = checkpointsDir(dir);
  const found = listCheckpoints(dir);
  const needed = new Set(readLayers(dir).flatMap(({ layers }) => layers));
  // What an unreadable one needs is not known; it may be mended.
  const isSure = found.every(({ read }) => typeof read !== "string");
  for (const { number, read } of found) {
    needed.add(memoryName(number));
    if (typeof read === "string") continue;
    needed.add(read.memory.name);
    for (const { layers } of read.disks) for (const { name } of layers) needed.add(name);
  }
  let freed = 0;
  writing(place, () => {
    for (const name of namesIn(dir)) {
      const isUnfinished = name.endsWith(".part");
      const isData = /\.(?:memory|qcow2)$/.test(name) && isSure;
      if (needed.has(name) || !(isUnfinished || isData)) continue;
      const path = join(place, name);
      freed += lstatIfThere(path)?.size ?? 0;
      rmSync(path, { recursive: true, force: true });
    }
  });
  return freed;
}

/** Removes all checkpoints and layers. */
export function removeAllCheckpoints(dir: string): void {
  const place = checkpointsDir(dir);
  writing(place, () => {
    // The checkpoints first: one without its files would be a damaged one.
    removeCheckpoints(dir, listCheckpoints(dir).map(({ number }) => number));
    if (!isReal(dir)) return;
    rmSync(place, { recursive: true, force: true });
  });
}

function namesIn(dir: string): string[] {
  return isReal(dir) ? readdirSync(checkpointsDir(dir)) : [];
}

/** Reports whether there is a directory of checkpoints that seedstrap has made. */
function isReal(dir: string): boolean {
  if (lstatIfThere(join(dir, WORK_DIR))?.isDirectory() !== true) return false;
  return hasOwnDirectory(checkpointsDir(dir), { isPrivate: true });
}
