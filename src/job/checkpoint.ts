// SPDX-License-Identifier: MIT
/**
 * Checkpoints of a target: when they are saved, which one a run goes on from, and what is listed and
 * removed by hand.
 *
 * @module
 */

import { closeSync, readSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { ConsoleEvent } from "../console/events.ts";
import { UserError } from "../errors.ts";
import { hurry } from "../launch/interrupt.ts";
import { shellQuote } from "../launch/process.ts";
import type { Accel, QemuOptions } from "../launch/qemu.ts";
import { layeredDriveArgs } from "../plan/layers.ts";
import { qemuArgs } from "../plan/qemu.ts";
import { UNWATCHED } from "../progress.ts";
import { openRegular } from "../read.ts";
import {
  type Checkpoint,
  checkpointFault,
  checkpointsDir,
  hasCheckpoints,
  listCheckpoints,
  removeAllCheckpoints,
  removeCheckpoints,
  removeUnneeded,
} from "../record/checkpoints.ts";
import { runsDir } from "../record/run.ts";
import type { TargetRecord } from "../record/types.ts";
import { takeTarget } from "../write/target.ts";
import { type SavedCheckpoint, Saver } from "./saver.ts";
import { areBuilt } from "./guest_disks.ts";
import { isAsBuilt } from "./verify.ts";

/** When checkpoints are saved. A jump always is one. */
export interface CheckpointTimes {
  /** At the latest so long after the one before, in milliseconds. */
  readonly everyMs: number;
  /** Before a step, if the one before is older than this. */
  readonly stepMs: number;
  /** How many are kept, besides those of jumps. */
  readonly keep: number;
  /** So long after this program began, the guest is saved and ended; never if absent. */
  readonly budget?: Budget | undefined;
}

/** How long a run may take before it is saved, to go on later. */
export interface Budget {
  readonly ms: number;
  /** As the user has said it, such as 5h. */
  readonly text: string;
}

/** So many checkpoints are kept by default. */
export const KEPT_CHECKPOINTS = 3;
/** A step of an hour is begun anew by few; a save costs a second or so. */
const AUTO = { everyMs: 30 * 60_000, stepMs: 10 * 60_000 };
/** A guest that is interrupted is saved within this time, or not at all. */
const INTERRUPT_MS = 60_000;
/**
 * The saving at the end of a budget begins so long before: at least this, twice as long as the
 * longest save took, and never before half of the budget.
 */
const BUDGET_LEAD_MS = 30_000;
/** And ends so long after it, at the latest. */
const BUDGET_LATE_MS = 30_000;

const MOST_WAIT_MS = 2 ** 31 - 1;

/** When checkpoints are saved by themselves, or every so many minutes. */
export function checkpointTimes(minutes: number | "auto", keep: number): CheckpointTimes {
  if (minutes === "auto") return { ...AUTO, keep };
  return { everyMs: minutes * 60_000, stepMs: minutes * 20_000, keep };
}

/** A run whose guest is saved. */
export interface SavedRun {
  /** The target, absolute; the caller has its lock. */
  readonly dir: string;
  readonly record: TargetRecord;
  readonly extraArgs: readonly string[];
  readonly times: CheckpointTimes;
  readonly from: Checkpoint | undefined;
  readonly logPath: string;
  /** Where the guest is. */
  readonly at: () => string;
  readonly onSaved: (saved: SavedCheckpoint) => void;
  readonly onNotice: (text: string) => void;
}

/** A run whose budget is spent, and of which nothing could be saved. */
export class UnsavedError extends UserError {
  constructor(budget: string) {
    super(
      "target",
      `the budget of ${budget} is spent, and no checkpoint could be saved: the guest was ended`,
      { hint: "Give it a larger --budget: a guest has to start, and saving takes its time" },
    );
  }
}

/** Saves the guest of a run at the right times. */
export class Checkpointer {
  readonly #run: SavedRun;
  readonly #saver: Saver;
  readonly #ending = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #budgetTimer: ReturnType<typeof setTimeout> | undefined;
  #savedMs = performance.now();
  #longestMs = 0;
  #logBytes = 0;
  #ended: Promise<void> | undefined;
  #failure: UserError | undefined;

  /** @throws {UserError} "target" where the disks of the guest cannot be made. */
  constructor(run: SavedRun) {
    this.#run = run;
    const { dir, record, from, times, at, onSaved, onNotice } = run;
    this.#saver = new Saver({
      dir,
      images: record.images,
      machine: machineArgs(run),
      keep: times.keep,
      from,
      at,
      log: () => ({ name: basename(run.logPath), sizeBytes: this.#logBytes }),
    }, {
      onSaved,
      onNotice,
      onFailure: (error) => {
        this.#failure ??= error;
        this.#ending.abort(error);
      },
    });
  }

  /** What QEMU is started with in place of what starts a guest that is not saved. */
  get qemu(): Pick<QemuOptions, "args" | "disks" | "onControl" | "onHostFull" | "earlierLog"> {
    const { from, dir } = this.#run;
    const { disks } = this.#saver;
    return {
      args: [
        ...machineArgs(this.#run),
        ...layeredDriveArgs(disks),
        ...(from === undefined ? [] : ["-S", "-incoming", "defer"]),
      ],
      disks: disks.map(({ layers }) => layers.at(-1)!),
      onControl: (qmp) => this.#saver.control(qmp),
      onHostFull: () => this.#saver.diskFull(),
      ...(from !== undefined && { earlierLog: earlierOutput(dir, from, separator(from)) }),
    };
  }

  /** The guest starts, or starts again from its beginning. */
  begin(accel: Accel): void {
    this.#saver.begin(accel);
    this.#savedMs = performance.now();
    this.#wait();
  }

  /** The log has so many bytes. */
  logged(sizeBytes: number): void {
    this.#logBytes = sizeBytes;
  }

  /** The console has said something. */
  event({ kind }: ConsoleEvent): void {
    const ageMs = performance.now() - this.#savedMs;
    if (kind === "jump") this.#save("jump");
    else if (kind === "step" && ageMs >= this.#run.times.stepMs) this.#save("step");
  }

  #save(reason: Checkpoint["reason"]): void {
    const began = performance.now();
    void this.#saver.save(reason).finally(() => {
      this.#savedMs = performance.now();
      this.#longestMs = Math.max(this.#longestMs, this.#savedMs - began);
      this.#wait();
    });
  }

  /** Waits until it is time for the next one. */
  #wait(): void {
    clearTimeout(this.#timer);
    const waitMs = this.#savedMs + this.#run.times.everyMs - performance.now();
    this.#timer = setTimeout(() => this.#save("time"), Math.max(0, waitMs));
    this.#waitForBudget();
  }

  /** Waits until it is time for the last one of the budget: a save that took long makes it earlier. */
  #waitForBudget(): void {
    const { budget } = this.#run.times;
    if (budget === undefined || this.#ending.signal.aborted) return;
    clearTimeout(this.#budgetTimer);
    const leadMs = Math.min(Math.max(BUDGET_LEAD_MS, 2 * this.#longestMs), budget.ms / 2);
    const waitMs = Math.max(0, budget.ms - leadMs - performance.now());
    this.#budgetTimer = setTimeout(
      // A timer takes no more than 24 days.
      () => waitMs > MOST_WAIT_MS ? this.#waitForBudget() : void this.#spent(budget),
      Math.min(waitMs, MOST_WAIT_MS),
    );
  }

  /** The budget is about to be spent: saves the guest, and ends it. */
  async #spent({ ms, text }: Budget): Promise<void> {
    this.#run.onNotice(`the budget of ${text} is spent: saving a checkpoint, and ending the guest`);
    const isSaved = await this.#saveLast("budget", ms + BUDGET_LATE_MS - performance.now());
    const number = this.#saver.lastSaved;
    this.#failure ??= isSaved || number !== undefined
      ? new UserError(
        "budget",
        `the budget of ${text} is spent: the guest was ` +
          (isSaved ? "saved and ended" : `ended, and goes on from checkpoint ${number}`),
      )
      : new UnsavedError(text);
    this.#ending.abort(this.#failure);
  }

  /** Saves a guest that is to be ended, within a time; it stands still afterwards. */
  async #saveLast(
    reason: "interrupt" | "budget",
    withinMs: number,
    early?: AbortSignal,
  ): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<false>((resolve) => {
      const giveUp = () => {
        this.#saver.giveUp();
        resolve(false);
      };
      timer = setTimeout(giveUp, Math.max(0, withinMs));
      early?.addEventListener("abort", giveUp, { once: true });
    });
    try {
      return await Promise.race([this.#saver.save(reason, true).catch(() => false), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs a guest. When it is interrupted it is saved first.
   *
   * @param run Ends the guest by its signal.
   * @throws {UserError} also "launch", where the guest could not go on.
   */
  async guard(signal: AbortSignal, run: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const interrupted = () => void this.#interrupt(signal);
    signal.addEventListener("abort", interrupted, { once: true });
    try {
      if (signal.aborted) this.#ending.abort(signal.reason);
      await run(this.#ending.signal);
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      signal.removeEventListener("abort", interrupted);
      await this.end();
    }
  }

  /** Ends the saving, also of a guest that was not started. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    clearTimeout(this.#budgetTimer);
    await (this.#ended ??= this.#saver.end());
  }

  async #interrupt({ reason }: AbortSignal): Promise<void> {
    const isAsked = reason instanceof UserError && reason.kind === "interrupt";
    if (isAsked && !hurry.aborted) {
      this.#run.onNotice(
        `saving a checkpoint before the guest is ended, for ${INTERRUPT_MS / 1000} s at most; ` +
          "Ctrl-C again ends it without",
      );
      await this.#saveLast("interrupt", INTERRUPT_MS, hurry);
    }
    this.#ending.abort(reason);
  }
}

/** Arguments of QEMU for a target, without those of disks. */
function machineArgs(
  { record: { options }, extraArgs }: Pick<SavedRun, "record" | "extraArgs">,
): string[] {
  return [...qemuArgs(options, []), ...extraArgs];
}

function separator({ number, saved }: Checkpoint): Uint8Array {
  const text = `going on from checkpoint ${number}, saved at ${saved}`;
  return new TextEncoder().encode(`\n--- seedstrap: ${text} ---\n`);
}

const CHUNK_BYTES = 1024 * 1024;

/** What the guest of a checkpoint had printed; nothing where its log is gone or shorter. */
export function* earlierOutput(
  dir: string,
  { log: { name, sizeBytes } }: Checkpoint,
  end?: Uint8Array,
): Generator<Uint8Array, void, undefined> {
  const path = join(runsDir(dir), name);
  let opened: ReturnType<typeof openRegular> | undefined;
  try {
    opened = openRegular(path, { followsLink: false });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
  if (opened !== undefined) {
    try {
      for (let at = 0; at < sizeBytes;) {
        const buffer = new Uint8Array(Math.min(CHUNK_BYTES, sizeBytes - at));
        const read = readSync(opened.file, buffer, 0, buffer.length, at);
        if (read === 0) break;
        yield buffer.subarray(0, read);
        at += read;
      }
    } finally {
      closeSync(opened.file);
    }
  }
  if (end !== undefined) yield end;
}

/** What a run goes on from, as the user says it. */
export interface ResumeRequest {
  /** Number of the checkpoint; the last good one if absent. */
  readonly number: number | undefined;
}

/**
 * Finds the checkpoint to go on from: the last one of which everything is as it was saved, or a
 * certain one.
 *
 * @param run What will be started.
 * @throws {UserError} "target" where there is none that can be used; "usage" for another machine.
 */
export async function chooseCheckpoint(
  run: Pick<SavedRun, "dir" | "record" | "extraArgs" | "onNotice">,
  { number }: ResumeRequest,
  accel: Accel | "auto",
  signal: AbortSignal,
): Promise<Checkpoint> {
  const { dir, onNotice } = run;
  const found = listCheckpoints(dir).filter((one) => number === undefined || one.number === number);
  for (const { number: tried, read } of found.toReversed()) {
    const fault = typeof read === "string" ? read : await checkpointFault(dir, read, signal);
    if (fault === undefined && typeof read !== "string") {
      checkSame(run, read, accel);
      await checkImagesOf(run);
      return read;
    }
    onNotice(`checkpoint ${tried} cannot be used: ${fault}`);
  }
  const what = number === undefined ? "a checkpoint" : `checkpoint ${number}`;
  throw new UserError(
    "target",
    found.length === 0
      ? `Cannot find ${what} of ${dir}`
      : `Cannot go on from ${what} of ${dir}: nothing is as it was saved`,
    {
      where: checkpointsDir(dir),
      hint: found.length === 0 && number === undefined
        ? "A run saves them with --checkpoint auto"
        : `See what there is with: ${shellQuote(["seedstrap", "checkpoint", "ls", dir])}`,
    },
  );
}

/** Refuses another machine than that which was saved. */
function checkSame(
  { dir, record, extraArgs }: Pick<SavedRun, "dir" | "record" | "extraArgs">,
  { number, machine, disks, accel: saved }: Checkpoint,
  accel: Accel | "auto",
): void {
  const refuse = (why: string, hint: string) => {
    throw new UserError("usage", `Cannot go on from checkpoint ${number} of ${dir}: ${why}`, {
      where: checkpointsDir(dir),
      hint,
    });
  };
  if (accel !== "auto" && accel !== saved) {
    refuse(
      `it was saved under ${saved}, and what the CPU is differs under ${accel}`,
      `Leave --accel out, or use --accel ${saved}`,
    );
  }
  if (!areBuilt(disks, record.images)) {
    refuse(
      "the target was built anew since",
      `Remove what was saved before: ${removeAllCommand(dir)}`,
    );
  }
  const now = machineArgs({ record, extraArgs });
  if (shellQuote(now) !== shellQuote(machine)) {
    refuse(
      `QEMU had other arguments: it had ${shellQuote(machine)}, and would get ${shellQuote(now)}`,
      'A saved machine keeps its memory and its devices: give the same arguments after "--"',
    );
  }
}

/** Refuses images that were written to since they were built. */
async function checkImagesOf({ dir, record }: Pick<SavedRun, "dir" | "record">): Promise<void> {
  for (const image of record.images) {
    const path = join(dir, image.name);
    if (await isAsBuilt(path, image, UNWATCHED)) continue;
    throw new UserError("target", `Cannot go on: ${path} is not as it was built`, {
      where: path,
      hint: "The checkpoints have only what differs from it: restore it, or build and run anew",
    });
  }
}

/**
 * Refuses to start a target anew that has checkpoints: they would no longer fit to its images, and
 * they may be days of work.
 *
 * @throws {UserError} "target"
 */
export function refuseCheckpoints(dir: string): void {
  if (!hasCheckpoints(dir)) return;
  const hasAny = listCheckpoints(dir).length > 0;
  throw new UserError(
    "target",
    `Cannot start ${dir} from its beginning: it has ${
      hasAny ? "checkpoints" : "what a guest has written"
    } in ${checkpointsDir(dir)}`,
    {
      where: dir,
      hint:
        (hasAny
          ? `Go on with: ${shellQuote(["seedstrap", "resume", dir])}. Or give them up: `
          : "Give it up: ") +
        removeAllCommand(dir),
    },
  );
}

/** What to type to go on from the last checkpoint of a target; undefined where it has none. */
export function resumeCommand(dir: string): string | undefined {
  return listCheckpoints(dir).length === 0 ? undefined : shellQuote(["seedstrap", "resume", dir]);
}

function removeAllCommand(dir: string): string {
  return shellQuote(["seedstrap", "checkpoint", "rm", dir, "--all"]);
}

/** A checkpoint for a list. */
export interface ListedCheckpoint {
  readonly number: number;
  /** The checkpoint, or why it cannot be used. */
  readonly read: Checkpoint | string;
}

/** The checkpoints of a target, in order; only their records are read. */
export function checkpointsOf(target: string): readonly ListedCheckpoint[] {
  return listCheckpoints(resolve(target));
}

/**
 * Removes checkpoints.
 *
 * @param numbers Which; "all" also removes what guests have written, and is not in the images.
 * @returns Bytes that were freed, where that is known.
 * @throws {UserError} "target" where a guest runs, or one of them does not exist.
 */
export function removeCheckpointsOf(
  target: string,
  numbers: readonly number[] | "all",
): number | undefined {
  const dir = resolve(target);
  if (!hasCheckpoints(dir)) {
    throw new UserError("target", `Cannot find checkpoints of ${dir}`, { where: dir });
  }
  const lock = takeTarget(dir);
  if (typeof lock === "number") {
    throw new UserError("target", `Cannot remove checkpoints of ${dir}: process ${lock} uses it`, {
      where: dir,
      hint: "Wait for it, or end it",
    });
  }
  try {
    if (numbers === "all") return void removeAllCheckpoints(dir);
    const there = new Set(listCheckpoints(dir).map(({ number }) => number));
    const missing = numbers.find((number) => !there.has(number));
    if (missing !== undefined) {
      throw new UserError("target", `Cannot find checkpoint ${missing} of ${dir}`, {
        where: checkpointsDir(dir),
        hint: `There are: ${[...there].join(", ")}`,
      });
    }
    removeCheckpoints(dir, numbers);
    return removeUnneeded(dir);
  } finally {
    lock.release();
  }
}
