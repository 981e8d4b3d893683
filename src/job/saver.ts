// SPDX-License-Identifier: MIT
/**
 * Saves checkpoints of a running guest, and lets a guest go on from one.
 *
 * A checkpoint is saved like this: the guest is stopped; each of its disks gets a new layer; memory
 * and devices are written to a file; the guest goes on. What was saved is then forced to the disk,
 * hashed and recorded, while the guest runs. If any of that fails the guest goes on all the same,
 * and the earlier checkpoints stay.
 *
 * @module
 */

import { existsSync, rmSync, writeFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as v from "valibot";
import { sha256Of } from "../bytes.ts";
import { messageOf, systemCode, UserError } from "../errors.ts";
import { LAYER_CLUSTER_BYTES, type LayerBase, qcow2 } from "../format/qcow2.ts";
import { MIB } from "../format/segment.ts";
import { anyText, openObject } from "../json.ts";
import { shellQuote } from "../launch/process.ts";
import type { Accel } from "../launch/qemu.ts";
import { type Qmp, QmpError } from "../launch/qmp.ts";
import { type LayeredDisk, layerNode, nodeOf } from "../plan/layers.ts";
import {
  type Checkpoint,
  layerName,
  listCheckpoints,
  makeCheckpointsDir,
  memoryName,
  nextNumbers,
  putCheckpoint,
  putLayers,
  removeAllCheckpoints,
  removeCheckpoints,
  removeUnneeded,
  replaceLayers,
  type SavedFile,
  settleFile,
} from "../record/checkpoints.ts";
import type { RecordedImage } from "../record/types.ts";
import { writing } from "../refused.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { mergeLayers } from "../write/layers.ts";

/** What a guest is saved with. */
export interface SaverOptions {
  /** The target, absolute; the caller has its lock. */
  readonly dir: string;
  readonly images: readonly RecordedImage[];
  /** Arguments of QEMU, without those of disks. */
  readonly machine: readonly string[];
  /** How many checkpoints are kept, besides those of jumps. */
  readonly keep: number;
  /** What the guest goes on from; it was verified. */
  readonly from: Checkpoint | undefined;
  /** Where the guest is, for the record. */
  readonly at: () => string;
  /** The log, and how much the guest has printed. */
  readonly log: () => Checkpoint["log"];
}

/** Told what happens. */
export interface SaverEvents {
  readonly onSaved: (saved: SavedCheckpoint) => void;
  readonly onNotice: (text: string) => void;
  /** The guest cannot go on. */
  readonly onFailure: (error: UserError) => void;
}

/** A checkpoint that was saved. */
export interface SavedCheckpoint extends Pick<Checkpoint, "number" | "reason" | "at"> {
  /** Bytes that it takes: its memory, and what the guest has written since the one before. */
  readonly sizeBytes: number;
  /** How long the guest stood still. */
  readonly pausedMs: number;
}

/** A layer of a disk. */
interface Layer {
  readonly name: string;
  /** By which QEMU knows it, see {@link nodeOf}. */
  readonly node: number;
  /** Known once it no longer changes, and was forced to the disk. */
  saved?: SavedFile;
}

/** A disk of the guest, and its layers, the lowest first: the last one is written. */
interface GuestDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly built: string;
  readonly layers: Layer[];
  /** How many names QEMU has had for its layers. */
  nodes: number;
}

/** So much is left to the guest, and to whatever else writes to that disk. */
const RESERVE_BYTES = 64 * MIB;
/** A guest whose disk was full goes on when there is as much. */
const ENOUGH_BYTES = 64 * MIB;
const LOOK_MS = 5000;
const POLL_MS = 20;
/** Without any progress for so long, memory cannot be written. */
const STUCK_MS = 60_000;
/** In bytes a second: QEMU's default slows down what is no network. */
const NO_LIMIT = 2 ** 40;

const statusSchema = openObject({ status: anyText });
const migrationSchema = openObject({
  status: v.optional(anyText),
  "error-desc": v.optional(anyText),
  ram: v.optional(openObject({ transferred: v.number() })),
});
const isStatus = (value: unknown) => v.is(statusSchema, value);
const isMigration = (value: unknown) => v.is(migrationSchema, value);

/** Saves the checkpoints of one guest. */
export class Saver {
  readonly #options: SaverOptions;
  readonly #events: SaverEvents;
  readonly #place: string;
  readonly #disks: readonly GuestDisk[];
  #qmp: Qmp | undefined;
  #accel: Accel | undefined;
  #memoryBytes = 0;
  /** Numbers of those that were saved of this guest. */
  readonly #saved = new Set<number>();
  #saving: Promise<boolean> | undefined;
  #isWaiting = false;
  #isOver = false;
  /** Ends the merging of layers. */
  #compacting: AbortController | undefined;
  #mayCompact = true;
  readonly #givenUp = new AbortController();

  /**
   * Gives each disk a layer of its own.
   *
   * @throws {UserError} "target" where that cannot be written.
   */
  constructor(options: SaverOptions, events: SaverEvents) {
    this.#options = options;
    this.#events = events;
    const { dir, images, from } = options;
    this.#place = makeCheckpointsDir(dir);
    this.#disks = images.map((image) => {
      const { name, sizeBytes } = image;
      const saved = from?.disks.find((disk) => disk.image === name)?.layers ?? [];
      const layers = saved.map((saved, index) => ({ name: saved.name, node: index + 1, saved }));
      return { name, sizeBytes, built: builtDigest(image), layers, nodes: layers.length };
    });
    this.#memoryBytes = from?.memory.sizeBytes ?? 0;
    this.#addLayers();
    this.#tell();
    removeUnneeded(dir);
  }

  /** The disks of the guest. */
  get disks(): LayeredDisk[] {
    return this.#disks.map(({ name, layers }) => ({
      image: join(this.#options.dir, name),
      layers: layers.map(({ name }) => join(this.#place, name)),
    }));
  }

  /** Number of the last checkpoint that was saved of this guest. */
  get lastSaved(): number | undefined {
    return this.#saved.size === 0 ? undefined : Math.max(...this.#saved);
  }

  /** Told how the guest starts, and each time that it does: nothing that it wrote counts. */
  begin(accel: Accel): void {
    this.#accel = accel;
    for (const disk of this.#disks) this.#write(disk, disk.layers.length - 1);
  }

  /** Takes the control of a QEMU that has started. */
  control(opened: Promise<Qmp>): void {
    this.#take(opened).catch((error) => {
      // QEMU itself says why it has ended.
      if (this.#isOver || error instanceof QmpError && error.fault === "closed") return;
      if (!(error instanceof QmpError || error instanceof UserError)) throw error;
      this.#events.onFailure(asUserError(error));
    });
  }

  async #take(opened: Promise<Qmp>): Promise<void> {
    this.#qmp = undefined;
    const qmp = await opened;
    const { from } = this.#options;
    if (from !== undefined) await goOn(qmp, from, join(this.#place, from.memory.name));
    await qmp.execute("migrate-set-parameters", { "max-bandwidth": NO_LIMIT });
    this.#qmp = qmp;
  }

  /** Ends the control of the guest, when it is gone. What it was saved with is still recorded. */
  async end(): Promise<void> {
    this.#isOver = true;
    this.#qmp = undefined;
    this.#compacting?.abort();
    await this.#saving;
    const { dir } = this.#options;
    // A guest that did not start, or has written nothing, leaves nothing in the way of another one.
    if (listCheckpoints(dir).length > 0 || this.#disks.some((disk) => this.#isWritten(disk))) {
      removeUnneeded(dir);
    } else {
      removeAllCheckpoints(dir);
    }
  }

  #isWritten(disk: GuestDisk): boolean {
    const { length } = this.#emptyLayer(disk, disk.layers.length - 1);
    const path = join(this.#place, disk.layers.at(-1)!.name);
    return disk.layers.length > 1 || lstatIfThere(path)?.size !== length;
  }

  /** Gives up the checkpoint that is being saved, if any. */
  giveUp(): void {
    this.#givenUp.abort();
  }

  /**
   * Saves a checkpoint; where one is being saved, that one counts.
   *
   * @param isLast Whether the guest is to stand still afterwards: it will be ended.
   * @returns Whether it was saved. Where it was not, the user was told.
   */
  async save(reason: Checkpoint["reason"], isLast = false): Promise<boolean> {
    if (isLast) this.#compacting?.abort();
    if (this.#saving !== undefined) {
      const isSaved = await this.#saving;
      if (!isLast) return isSaved;
    }
    this.#saving = this.#save(reason, isLast).catch((error) => {
      if (!this.#isOver) {
        const after = isLast ? "" : "; the guest goes on";
        this.#events.onNotice(`no checkpoint was saved: ${messageOf(error)}${after}`);
      }
      if (!(error instanceof QmpError || error instanceof UserError)) throw error;
      return false;
    }).finally(() => this.#saving = undefined);
    return await this.#saving;
  }

  async #save(reason: Checkpoint["reason"], isLast: boolean): Promise<boolean> {
    const { dir, machine } = this.#options;
    const qmp = this.#qmp;
    if (qmp === undefined || this.#accel === undefined) return false;
    const { status } = await qmp.ask(isStatus, "query-status");
    if (status !== "running") {
      const why = status === "io-error" ? "it waits for space on the disk" : status;
      throw new UserError("target", `the guest stands still (${why})`);
    }
    await this.#checkSpace(this.#memoryBytes * 1.25);
    const number = nextNumbers(dir).checkpoint;
    const memory = memoryName(number);
    const began = performance.now();
    let frozen: Layer[];
    let log: Checkpoint["log"];
    let at: string;
    let pausedMs: number;
    try {
      await qmp.execute("stop");
      frozen = await this.#freeze(qmp);
      await this.#writeMemory(qmp, memory);
      // The guest has stood still since: what it had printed has come by now.
      log = this.#options.log();
      at = this.#options.at();
    } catch (error) {
      this.#remove(memory);
      throw error;
    } finally {
      if (!isLast && qmp.isOpen) await this.#cont(qmp);
      pausedMs = performance.now() - began;
    }
    const { signal } = this.#givenUp;
    try {
      for (const { layers } of this.#disks) {
        for (const layer of layers.slice(0, -1)) {
          layer.saved ??= await settleFile(dir, layer.name, signal);
        }
      }
      const saved = await settleFile(dir, memory, signal);
      const disks = this.#disks.map(({ name: image, sizeBytes, built, layers }) => ({
        image,
        sizeBytes,
        built,
        layers: layers.slice(0, -1).map((layer) => layer.saved!),
      }));
      const [accel, qemu] = [this.#accel, qmp.version];
      const time = new Date().toISOString();
      putCheckpoint(dir, {
        ...{ number, saved: time, reason, at, accel, qemu, machine, disks, memory: saved, log },
      });
      this.#memoryBytes = saved.sizeBytes;
      this.#saved.add(number);
    } catch (error) {
      this.#remove(memory);
      throw error;
    }
    this.#drop();
    const written = frozen.reduce((sum, { saved }) => sum + (saved?.sizeBytes ?? 0), 0);
    const sizeBytes = this.#memoryBytes + written;
    this.#events.onSaved({ number, reason, at, sizeBytes, pausedMs });
    if (!isLast) await this.#compact(qmp);
    return true;
  }

  /**
   * Makes one layer of two between which there is no checkpoint any more. What is written often is
   * merged often, and what is large seldom: of layers that are merged with one a quarter as large
   * there are as many as the logarithm of what the guest has written.
   */
  async #compact(qmp: Qmp): Promise<void> {
    if (!this.#mayCompact) return;
    this.#compacting = new AbortController();
    try {
      for (const [disk, { layers }] of this.#disks.entries()) {
        for (;;) {
          const at = mergeableAt(layers, this.#chains(disk));
          if (at === undefined) break;
          if (!await this.#merge(qmp, disk, at, this.#compacting.signal)) return;
        }
      }
    } catch (error) {
      // Nothing was lost: both layers are still there.
      this.#mayCompact = error instanceof UserError && error.kind === "interrupt";
      if (systemCode(error) === undefined && !isExpected(error)) throw error;
      if (!this.#mayCompact && !this.#isOver) {
        this.#events.onNotice(`layers are not merged any more: ${messageOf(error)}`);
      }
    } finally {
      this.#compacting = undefined;
    }
  }

  /** The layers that each checkpoint needs of a disk. */
  #chains(disk: number): (readonly string[])[] {
    const { name } = this.#disks[disk]!;
    return listCheckpoints(this.#options.dir).map(({ read }) =>
      typeof read === "string"
        ? []
        : read.disks.find(({ image }) => image === name)?.layers.map(({ name }) => name) ?? []
    );
  }

  /** Merges the layers at an index and above it. The guest goes on meanwhile. */
  async #merge(qmp: Qmp, disk: number, at: number, signal: AbortSignal): Promise<boolean> {
    const { dir } = this.#options;
    const { name: image, layers } = this.#disks[disk]!;
    const [lower, upper, above] = layers.slice(at, at + 3) as [Layer, Layer, Layer];
    const name = layerName(image, nextNumbers(dir).layer);
    const path = (layer: string) => join(this.#place, layer);
    const base = this.#baseOf(this.#disks[disk]!, at);
    const paths = { lower: path(lower.name), upper: path(upper.name), into: path(name) };
    let merged: Layer;
    const { nodes } = this.#disks[disk]!;
    try {
      await this.#checkSpace(lower.saved!.sizeBytes + upper.saved!.sizeBytes);
      if (!await mergeLayers(paths, base, signal)) return false;
      const saved = await settleFile(dir, name, signal);
      merged = { name, node: nodes + 1, saved };
      this.#disks[disk]!.nodes++;
      const below = nodeOf(disk, layers[at - 1]?.node ?? 0);
      await qmp.execute("blockdev-add", {
        ...this.#nodeOf(disk, merged),
        "read-only": true,
        backing: below,
      });
      await qmp.execute("blockdev-reopen", {
        options: [{
          ...this.#nodeOf(disk, above),
          "read-only": true,
          backing: nodeOf(disk, merged.node),
        }],
      });
    } catch (error) {
      const node = nodeOf(disk, nodes + 1);
      await qmp.execute("blockdev-del", { "node-name": node }).catch(ignore);
      this.#remove(name);
      throw error;
    }
    layers.splice(at, 2, merged);
    this.#tell();
    replaceLayers(dir, image, [lower.name, upper.name], merged.saved!);
    for (const { node } of [upper, lower]) {
      // One that was made by -drive is gone by itself.
      await qmp.execute("blockdev-del", { "node-name": nodeOf(disk, node) }).catch(ignore);
    }
    removeUnneeded(dir);
    return true;
  }

  /** A layer as QEMU knows it. */
  #nodeOf(disk: number, { name, node: number }: Layer): Readonly<Record<string, unknown>> {
    return layerNode({ disk, number, path: join(this.#place, name) });
  }

  /** Drops the checkpoints that are too many. */
  #drop(): void {
    const { dir, keep } = this.#options;
    const first = this.#options.from?.number ?? Infinity;
    const isLeft = ({ number }: Checkpoint) => number > first && !this.#saved.has(number);
    // Those that the user has gone back from count as the oldest.
    const all = listCheckpoints(dir).flatMap(({ read }) => typeof read === "string" ? [] : [read])
      .sort((a, b) => Number(isLeft(b)) - Number(isLeft(a)) || a.number - b.number);
    const old = all.slice(0, Math.max(0, all.length - keep));
    removeCheckpoints(
      dir,
      old.filter(({ reason }) => reason !== "jump").map(({ number }) => number),
    );
    removeUnneeded(dir);
  }

  async #checkSpace(sizeBytes: number): Promise<void> {
    const free = await freeBytes(this.#place);
    const needed = sizeBytes + RESERVE_BYTES;
    if (free >= needed) return;
    throw new UserError(
      "target",
      `${mebibytes(free)} are free in ${this.#place}, and it takes ${mebibytes(needed)}`,
    );
  }

  /** Gives each disk of a guest that stands still a new layer, and returns those it had. */
  async #freeze(qmp: Qmp): Promise<Layer[]> {
    const frozen = this.#disks.map(({ layers }) => layers.at(-1)!);
    const added = this.#addLayers();
    const nodes: string[] = [];
    try {
      const actions = [];
      for (const [disk, { layers }] of this.#disks.entries()) {
        const [below, added] = layers.slice(-2) as [Layer, Layer];
        const overlay = nodeOf(disk, added.node);
        await qmp.execute("blockdev-add", { ...this.#nodeOf(disk, added), backing: null });
        nodes.push(overlay);
        const node = nodeOf(disk, below.node);
        actions.push({ type: "blockdev-snapshot", data: { node, overlay } });
      }
      // Before: until the guest writes to it, a new layer changes nothing.
      this.#tell();
      await qmp.execute("transaction", { actions });
    } catch (error) {
      for (const { layers } of this.#disks) layers.pop();
      this.#tell();
      for (const node of nodes) {
        await qmp.execute("blockdev-del", { "node-name": node }).catch(ignore);
      }
      for (const name of added) this.#remove(name);
      throw error;
    }
    return frozen;
  }

  /** Writes memory and devices of a guest that stands still. */
  async #writeMemory(qmp: Qmp, name: string): Promise<void> {
    const path = join(this.#place, name);
    const part = `${path}.part`;
    // cat reports a full disk only by its exit code, which QEMU may not look at: hence the name.
    const [from, to] = [shellQuote([part]), shellQuote([path])];
    rmSync(part, { force: true });
    await qmp.execute("migrate", {
      uri: `exec:umask 077; cat > ${from} 2>/dev/null && mv ${from} ${to}`,
    });
    let movedAt = performance.now();
    for (let moved = -1;;) {
      const state = await qmp.ask(isMigration, "query-migrate");
      if (state.status === "completed") break;
      if (["failed", "cancelled"].includes(state.status ?? "")) {
        throw await this.#memoryError(state["error-desc"] ?? "QEMU does not say why");
      }
      const transferred = state.ram?.transferred ?? 0;
      if (transferred !== moved) [moved, movedAt] = [transferred, performance.now()];
      if (performance.now() - movedAt > STUCK_MS) {
        await qmp.execute("migrate_cancel");
        throw await this.#memoryError("the disk takes no more");
      }
      await delay(POLL_MS);
    }
    for (let waitedMs = 0; !existsSync(path); waitedMs += POLL_MS) {
      if (waitedMs > LOOK_MS || !existsSync(part) && !existsSync(path)) {
        throw await this.#memoryError("it is not complete");
      }
      await delay(POLL_MS);
    }
  }

  async #memoryError(why: string): Promise<UserError> {
    const free = await freeBytes(this.#place);
    const isFull = free < ENOUGH_BYTES ? `, ${mebibytes(free)} are free in ${this.#place}` : "";
    return new UserError("target", `its memory could not be written (${why})${isFull}`);
  }

  /** Lets the guest go on. */
  async #cont(qmp: Qmp): Promise<void> {
    try {
      await qmp.execute("cont");
    } catch (error) {
      if (this.#isOver || error instanceof QmpError && error.fault === "closed") return;
      this.#events.onFailure(
        new UserError("launch", `The guest does not go on after a checkpoint: ${messageOf(error)}`),
      );
    }
  }

  /** Told that the guest stands still, as the disk is full. */
  diskFull(): void {
    if (!this.#isWaiting) void this.#waitForSpace().catch(ignore);
  }

  /** QEMU stops a guest that cannot write, as the disk is full: it goes on when there is space. */
  async #waitForSpace(): Promise<void> {
    this.#isWaiting = true;
    this.#events.onNotice(
      `the disk with ${this.#place} is full: the guest waits until ${
        mebibytes(ENOUGH_BYTES)
      } are free`,
    );
    try {
      while (!this.#isOver && await freeBytes(this.#place) < ENOUGH_BYTES) {
        await delay(LOOK_MS, undefined, { ref: false });
      }
      if (this.#isOver || this.#qmp === undefined) return;
      await this.#qmp.execute("cont");
      this.#events.onNotice("there is space again: the guest goes on");
    } finally {
      this.#isWaiting = false;
    }
  }

  /** Adds an empty layer to each disk, and returns their names. */
  #addLayers(): string[] {
    const number = nextNumbers(this.#options.dir).layer;
    for (const disk of this.#disks) {
      disk.layers.push({ name: layerName(disk.name, number), node: ++disk.nodes });
      this.#write(disk, disk.layers.length - 1);
    }
    return this.#disks.map(({ layers }) => layers.at(-1)!.name);
  }

  /** Records which layers the disks have by now. */
  #tell(): void {
    putLayers(
      this.#options.dir,
      this.#disks.map(({ name: image, layers }) => ({
        image,
        layers: layers.map(({ name }) => name),
      })),
    );
  }

  /** Makes a layer in which nothing is written. */
  #write(disk: GuestDisk, index: number): void {
    const bytes = this.#emptyLayer(disk, index);
    const path = join(this.#place, disk.layers[index]!.name);
    writing(path, () => writeFileSync(path, bytes, { mode: 0o600 }));
  }

  #emptyLayer(disk: GuestDisk, index: number): Uint8Array {
    const sizeBytes = Math.ceil(disk.sizeBytes / 512) * 512;
    return qcow2(sizeBytes, this.#baseOf(disk, index), LAYER_CLUSTER_BYTES);
  }

  /** What a layer lies over. */
  #baseOf({ name, layers }: GuestDisk, index: number): LayerBase {
    const below = layers[index - 1]?.name;
    return below === undefined
      ? { name: `../../${name}`, format: "raw" }
      : { name: below, format: "qcow2" };
  }

  #remove(name: string): void {
    for (const path of [name, `${name}.part`]) rmSync(join(this.#place, path), { force: true });
  }
}

/** Loads the memory of a checkpoint into a QEMU that waits for it, and lets the guest go on. */
async function goOn(qmp: Qmp, from: Checkpoint, memory: string): Promise<void> {
  if (seriesOf(qmp.version) !== seriesOf(from.qemu)) {
    throw new UserError(
      "launch",
      `Cannot go on from checkpoint ${from.number}: QEMU is ${qmp.version}, and it was saved by ` +
        from.qemu,
      { hint: "Use the QEMU that has saved it: name it with --qemu-cmd" },
    );
  }
  await qmp.execute("migrate-incoming", { uri: `exec:cat < ${shellQuote([memory])}` });
  for (;;) {
    const { status } = await qmp.ask(isStatus, "query-status");
    if (status !== "inmigrate") break;
    await delay(POLL_MS);
  }
  await qmp.execute("cont");
}

/** The digest by which an image is known again, see {@link SavedDisk.built}. */
export function builtDigest(image: RecordedImage): string {
  return sha256Of(JSON.stringify(image));
}

/** QEMU keeps the form of a saved state within a series, such as 7.2. */
function seriesOf(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}

/** A layer is merged with one below it that is at most so many times as large. */
const MERGE_RATIO = 4;
/** Deeper than this, any two are merged: QEMU looks for what was not written in every layer. */
const MOST_LAYERS = 32;

/**
 * Where two layers can be merged: the index of the lower one.
 *
 * @param layers Of a disk. The one above the two must no longer be written.
 * @param chains The layers that each checkpoint needs of it.
 */
export function mergeableAt(
  layers: readonly { readonly name: string; readonly saved?: SavedFile }[],
  chains: readonly (readonly string[])[],
): number | undefined {
  for (let at = layers.length - 4; at >= 0; at--) {
    const [lower, upper] = [layers[at]!, layers[at + 1]!];
    if (lower.saved === undefined || upper.saved === undefined) continue;
    const isBetween = chains.some((chain) => {
      const found = chain.indexOf(lower.name);
      return found >= 0 && chain[found + 1] !== upper.name;
    });
    if (isBetween) continue;
    const isNear = lower.saved.sizeBytes <= MERGE_RATIO * upper.saved.sizeBytes;
    if (isNear || layers.length > MOST_LAYERS) return at;
  }
  return undefined;
}

function isExpected(error: unknown): boolean {
  return error instanceof UserError || error instanceof QmpError;
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / MIB)} MiB`;
}

function asUserError(error: QmpError | UserError): UserError {
  if (error instanceof UserError) return error;
  return new UserError("launch", `QEMU cannot be controlled: ${error.message}`, { cause: error });
}

function ignore(): void {}
