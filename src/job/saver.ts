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

import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf, UserError } from "../errors.ts";
import type { Accel } from "../launch/qemu.ts";
import { type Qmp, QmpError } from "../launch/qmp.ts";
import type { LayeredDisk } from "../plan/layers.ts";
import {
  type Checkpoint,
  listCheckpoints,
  makeCheckpointsDir,
  memoryName,
  nextNumbers,
  putCheckpoint,
  removeAllCheckpoints,
  removeCheckpoints,
  removeUnneeded,
  settleFile,
} from "../record/checkpoints.ts";
import type { RecordedImage } from "../record/types.ts";
import { GuestDisks, type Layer } from "./guest_disks.ts";
import { guestStatus, loadMemory, setLimits, writeMemory } from "./guest_memory.ts";
import { LayerMerger } from "./layer_merge.ts";
import { checkFree, ENOUGH_BYTES, freeBytes, mebibytes } from "./space.ts";

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

const LOOK_MS = 5000;
/** Saves the checkpoints of one guest. */
export class Saver {
  readonly #options: SaverOptions;
  readonly #events: SaverEvents;
  readonly #place: string;
  readonly #disks: GuestDisks;
  readonly #merger: LayerMerger;
  #qmp: Qmp | undefined;
  #accel: Accel | undefined;
  #memoryBytes = 0;
  /** Numbers of those that were saved of this guest. */
  readonly #saved = new Set<number>();
  #saving: Promise<boolean> | undefined;
  #isWaiting = false;
  #isOver = false;
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
    this.#disks = new GuestDisks(dir, this.#place, images, from);
    this.#merger = new LayerMerger(dir, this.#place, this.#disks, events.onNotice);
    this.#memoryBytes = from?.memory.sizeBytes ?? 0;
    removeUnneeded(dir);
  }

  /** The disks of the guest. */
  get disks(): LayeredDisk[] {
    return this.#disks.layered;
  }

  /** Number of the last checkpoint that was saved of this guest. */
  get lastSaved(): number | undefined {
    return this.#saved.size === 0 ? undefined : Math.max(...this.#saved);
  }

  /** Told how the guest starts, and each time that it does: nothing that it wrote counts. */
  begin(accel: Accel): void {
    this.#accel = accel;
    this.#disks.clear();
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
    if (from !== undefined) await loadMemory(qmp, from, join(this.#place, from.memory.name));
    await setLimits(qmp);
    this.#qmp = qmp;
  }

  /** Ends the control of the guest, when it is gone. What it was saved with is still recorded. */
  async end(): Promise<void> {
    this.#isOver = true;
    this.#qmp = undefined;
    this.#merger.end();
    await this.#saving;
    const { dir } = this.#options;
    // A guest that did not start, or has written nothing, leaves nothing in the way of another one.
    if (listCheckpoints(dir).length > 0 || this.#disks.isWritten) {
      removeUnneeded(dir);
    } else {
      removeAllCheckpoints(dir);
    }
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
    if (isLast) this.#merger.abort();
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
    const status = await guestStatus(qmp);
    if (status !== "running") {
      const why = status === "io-error" ? "it waits for space on the disk" : status;
      throw new UserError("target", `the guest stands still (${why})`);
    }
    await checkFree(this.#place, this.#memoryBytes * 1.25);
    const number = nextNumbers(dir).checkpoint;
    const memory = memoryName(number);
    const began = performance.now();
    let frozen: Layer[];
    let log: Checkpoint["log"];
    let at: string;
    let pausedMs: number;
    try {
      await qmp.execute("stop");
      frozen = await this.#disks.freeze(qmp);
      await writeMemory(qmp, this.#place, memory);
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
      const disks = await this.#disks.settle(signal);
      const saved = await settleFile(dir, memory, signal);
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
    if (!isLast) await this.#merger.run(qmp);
    return true;
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

  #remove(name: string): void {
    for (const path of [name, `${name}.part`]) rmSync(join(this.#place, path), { force: true });
  }
}

function asUserError(error: QmpError | UserError): UserError {
  if (error instanceof UserError) return error;
  return new UserError("launch", `QEMU cannot be controlled: ${error.message}`, { cause: error });
}

function ignore(): void {}
