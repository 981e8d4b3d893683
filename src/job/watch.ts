// SPDX-License-Identifier: MIT
/**
 * Follows the console of a machine that we do not run, or of a run of another seedstrap.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { resolve } from "node:path";
import type { ConsoleEvent } from "../console/events.ts";
import { type FollowEvents, RunFollower } from "../console/follow.ts";
import type { Expected, Outcome } from "../console/outcome.ts";
import { NO_PLAN, type RunState } from "../console/position.ts";
import { UserError } from "../errors.ts";
import { readConsole, STANDARD_INPUT } from "../launch/console_source.ts";
import { expectedOf, type ExpectedRun } from "../record/expected.ts";
import { readRecord } from "../record/read.ts";
import { runOfLog, targetOfLog } from "../record/run.ts";
import { statIfThere } from "../runtime/stat.ts";
import { outcomeError } from "./run_judge.ts";

/** What to watch. */
export interface WatchRequest {
  /** A serial port, a log, a fifo, a socket, or `-` for standard input. */
  readonly source: string;
  /** The target that the machine runs; undefined where that is not known. */
  readonly target: string | undefined;
  /** Speed of a serial port, in bits a second. */
  readonly baud: number;
  /** How long a console has to be silent after what looks like the end; 10 s if absent. */
  readonly quietMs?: number;
}

/** Told what happens on a console that is watched. */
export interface WatchEvents extends FollowEvents {
  /** Told once, when it can be read. */
  readonly onStart?: (target: string | undefined) => void;
  /** What the machine prints, as it comes. */
  readonly onSerial?: ((chunk: Uint8Array) => void) | undefined;
  /** Settles when what was printed is gone: a log comes faster than a terminal takes it. */
  readonly drained?: () => Promise<void>;
  /** Told once, when it is over, also where it failed. */
  readonly onOutcome?: (outcome: Outcome) => void;
}

/** A console is silent for so long after a failure, or the last step, where that was the end. */
const QUIET_MS = 10_000;
/** The record of a run is looked at so often. */
const RECORD_EVERY_MS = 500;
/** What the log of a run says before the guest begins again, see {@link runQemu}. */
const AGAIN = ", starting again under TCG ---\n";

/** Nothing is known of the machine. */
const UNKNOWN_RUN: ExpectedRun = { plan: NO_PLAN, lastStep: undefined, switchesOff: true };

/**
 * Watches a console until it shows how the bootstrap ended. That is when the machine switches itself
 * off; when something has failed, or the last step of a directory was built, and nothing more comes;
 * when a machine that was past its files begins again; when the console ends; or, for the log of a
 * run, when its record says so.
 *
 * @throws {UserError} "target" where it cannot be read, or `target` is no target; "launch" where the
 * bootstrap has not come to its end, or nothing proves that it has; "interrupt" when the signal is
 * raised.
 */
export async function watchConsole(
  { source, target, baud, quietMs = QUIET_MS }: WatchRequest,
  events: WatchEvents,
  signal: AbortSignal,
): Promise<void> {
  const dir = target === undefined ? targetOfLog(source) : resolve(target);
  const run = dir === undefined ? UNKNOWN_RUN : knownRun(dir);
  const over = new AbortController();
  const end = new EndFinder(run, quietMs, () => over.abort());
  const isLog = targetOfLog(source) !== undefined;
  const follower = followerOf(run, isLog ? source : undefined, {
    onEvent: (event, state) => {
      end.take(event, state);
      events.onEvent?.(event, state);
    },
    onState: events.onState,
  });
  const recorded = isLog ? recordWatcher(() => recordedEnd(source), () => over.abort()) : undefined;
  try {
    await readInto(
      follower,
      { source, baud, isLog, signal: AbortSignal.any([signal, over.signal]) },
      { ...events, onStart: () => events.onStart?.(dir) },
      {
        restart: () => end.restart(),
        heard: () => {
          end.heard();
          recorded?.heard();
        },
      },
    );
    const outcome = signal.aborted
      ? follower.judge(run, { kind: "interrupted", why: "it is not watched any more" })
      : recorded?.outcome ?? judged(follower, run, end, over.signal.aborted);
    events.onOutcome?.(outcome);
    if (signal.aborted) throw signal.reason;
    if (outcome.verdict === "interrupted") throw new UserError("interrupt", outcome.why);
    if (outcome.verdict === "paused") throw new UserError("budget", outcome.why);
    if (outcome.verdict !== "done") throw outcomeError(outcome, source, hintOf(source));
  } finally {
    end.stop();
    recorded?.stop();
    follower.stop();
  }
}

/** The log of a run of another seedstrap. */
export interface FollowedRun {
  readonly source: string;
  /** Its target, absolute. */
  readonly dir: string;
  /** How the run has ended; undefined while it goes on. Asked when its log is silent. */
  readonly recorded: () => Outcome | undefined;
}

/**
 * Follows a run of another seedstrap, from its beginning until that says how it ended.
 *
 * @param events Without `onOutcome`.
 * @returns How it has ended; undefined where the signal was raised before.
 * @throws {UserError} "target" where its log cannot be read, or it is of no target.
 */
export async function followConsole(
  { source, dir, recorded }: FollowedRun,
  events: Omit<WatchEvents, "onOutcome">,
  signal: AbortSignal,
): Promise<Outcome | undefined> {
  const over = new AbortController();
  const { onEvent, onState } = events;
  const follower = followerOf(knownRun(dir), source, { onEvent, onState });
  const watcher = recordWatcher(recorded, () => over.abort());
  try {
    const reading = { source, baud: 0, isLog: true };
    const until = AbortSignal.any([signal, over.signal]);
    await readInto(follower, { ...reading, signal: until }, events, watcher);
    return watcher.outcome;
  } finally {
    watcher.stop();
    follower.stop();
  }
}

/** Follows a console; that of a run began when the run did. */
function followerOf(
  { plan }: ExpectedRun,
  log: string | undefined,
  events: FollowEvents,
): RunFollower {
  return new RunFollower(plan, events, undefined, log === undefined ? undefined : beginningOf(log));
}

/** Reads a console to its end, or until the signal is raised. */
async function readInto(
  follower: RunFollower,
  { source, baud, isLog, signal }: {
    readonly source: string;
    readonly baud: number;
    readonly isLog: boolean;
    readonly signal: AbortSignal;
  },
  { onStart, onSerial, drained }: Pick<WatchEvents, "onStart" | "onSerial" | "drained">,
  { restart, heard }: { readonly restart?: () => void; readonly heard: () => void },
): Promise<void> {
  const parts = partsOfLog();
  await readConsole(source, {
    baud,
    onOpen: () => onStart?.(undefined),
    signal,
    onChunk: async (chunk) => {
      onSerial?.(chunk);
      for (const [index, part] of (isLog ? parts(chunk) : [chunk]).entries()) {
        if (index > 0) {
          follower.restart();
          restart?.();
        }
        follower.push(part);
      }
      heard();
      await drained?.();
    },
  });
}

/** When the run of a log began, by the clock of `performance.now()`; undefined if nobody knows. */
function beginningOf(log: string): number | undefined {
  const run = runOfLog(log);
  if (run === undefined) return undefined;
  return performance.now() - Math.max(0, Date.now() - Date.parse(run.began));
}

/** What a target says of its run. A package may be from before, so that it proves nothing. */
function knownRun(dir: string): ExpectedRun {
  const { isPackaged: _, ...run } = expectedOf(dir, readRecord(dir));
  return run;
}

/** Judges a run by its console alone: more than it shows is not known. */
function judged(
  follower: RunFollower,
  run: Expected,
  { hasFailed, beganAgain }: EndFinder,
  isOver: boolean,
): Outcome {
  const outcome = beganAgain
    ? follower.judge(run, {
      kind: "failed",
      failure: "reset",
      why: "the machine has begun again from its start",
    })
    : follower.judge(run, { kind: "ended" });
  if (outcome.verdict === "failed" && !hasFailed && !isOver) {
    const { failure: _, cause: __, ...seen } = outcome;
    return { ...seen, verdict: "unknown", why: `its console has ended; ${outcome.why}` };
  }
  if (outcome.verdict === "done" && run.lastStep === undefined) {
    const why =
      "it switched itself off, and nobody knows which step is the last: name its --target";
    return { ...outcome, verdict: "unknown", why };
  }
  return outcome;
}

/** What is said to do about a failure, where nothing keeps the console; a log has it. */
function hintOf(source: string): UserError | undefined {
  if (source !== STANDARD_INPUT && statIfThere(source)?.isFile() === true) return undefined;
  return new UserError("launch", "it was watched", {
    hint: "To keep what it prints, pass standard output on to tee(1), or into a file",
  });
}

/** Finds the end of a run in what its console says. */
class EndFinder {
  readonly #run: ExpectedRun;
  readonly #quietMs: number;
  readonly #onEnd: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether it is over once nothing more comes. */
  #isNear = false;
  #isUnderWay = false;
  hasFailed = false;
  beganAgain = false;

  constructor(run: ExpectedRun, quietMs: number, onEnd: () => void) {
    this.#run = run;
    this.#quietMs = quietMs;
    this.#onEnd = onEnd;
  }

  /** The guest was started again: what was before does not count. */
  restart(): void {
    this.stop();
    this.#isNear =
      this.#isUnderWay =
      this.hasFailed =
      this.beganAgain =
        false;
  }

  take(event: ConsoleEvent, { step }: RunState): void {
    switch (event.kind) {
      case "phase":
        if (event.phase === "boot" && this.#isUnderWay) {
          this.beganAgain = true;
          this.#onEnd();
        }
        this.#isUnderWay = event.phase === "stage0" || event.phase === "steps";
        break;
      case "checksum":
        if (event.isRight) break;
        this.hasFailed = this.#isNear = true;
        break;
      case "fault":
      case "halt":
        this.hasFailed = this.#isNear = true;
        break;
      case "power-off":
        this.#onEnd();
        break;
      case "step-done": {
        const last = this.#run.lastStep;
        const isLast = last?.name === event.name && last.pass === step?.pass;
        if (isLast && !this.#run.switchesOff) this.#isNear = true;
        break;
      }
    }
  }

  /** Something was printed. */
  heard(): void {
    if (!this.#isNear) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onEnd, this.#quietMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/**
 * Makes a function that cuts the chunks of a log where the guest was started again; all but the
 * first part that it returns are of a new start.
 */
function partsOfLog(): (chunk: Uint8Array) => Uint8Array[] {
  const wanted = Buffer.from(AGAIN);
  let tail = Buffer.alloc(0);
  return (chunk) => {
    const seen = Buffer.concat([tail, chunk]);
    const cuts = [0];
    for (let at = seen.indexOf(wanted); at >= 0; at = seen.indexOf(wanted, at + 1)) {
      cuts.push(at + wanted.length - tail.length);
    }
    tail = seen.subarray(-(wanted.length - 1));
    return cuts.map((from, index) => chunk.subarray(from, cuts[index + 1]));
  };
}

/** How the run of a log has ended, by its record; undefined while that does not say it. */
export function recordedEnd(log: string): Outcome | undefined {
  const run = runOfLog(log);
  if (run === undefined || run.verdict === "running") return undefined;
  const { format: _, began: __, ended: ___, verdict, ...seen } = run;
  return { verdict, ...seen };
}

/** Looks whether the run of a log is over, once all of the log was read. */
function recordWatcher(
  recorded: () => Outcome | undefined,
  onEnd: () => void,
): { readonly outcome: Outcome | undefined; heard(): void; stop(): void } {
  let outcome: Outcome | undefined;
  let isSilent = false;
  const timer = setInterval(() => {
    const wasSilent = isSilent;
    isSilent = true;
    if (!wasSilent) return;
    outcome = recorded();
    if (outcome !== undefined) onEnd();
  }, RECORD_EVERY_MS);
  return {
    get outcome() {
      return outcome;
    },
    heard: () => isSilent = false,
    stop: () => clearInterval(timer),
  };
}
