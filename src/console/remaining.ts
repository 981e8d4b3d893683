// SPDX-License-Identifier: MIT
/**
 * How long the rest of a run takes, by how long its parts took in earlier runs.
 *
 * The parts are "boot", "load", "stage0" and each step of the manifest. The time of a part is that
 * from its beginning to the beginning of the one right after it. Where earlier runs have no time for
 * a part that is to come, nothing is said.
 *
 * @module
 */

import type { RunState } from "./position.ts";

/** Places of the parts before the first step. */
const FIRST_PARTS = { boot: 0, load: 1, stage0: 2 } as const;

/** The part that a run is in; undefined where it is in none that can be named. */
function partOf({ phase, step }: RunState): number | undefined {
  if (phase === undefined) return undefined;
  if (phase !== "steps") return FIRST_PARTS[phase];
  return step?.number === undefined ? undefined : FIRST_PARTS.stage0 + step.number;
}

/** Milliseconds that each part took. */
export type PartTimes = ReadonlyMap<number, number>;

/** Takes the times of the parts of a run, from its states. */
export class PartClock {
  readonly #times = new Map<number, number>();
  #part: number | undefined;
  #beganMs = 0;

  get times(): PartTimes {
    return this.#times;
  }

  /** The part that the run is in, and since when. */
  get current(): { readonly part: number; readonly beganMs: number } | undefined {
    return this.#part === undefined ? undefined : { part: this.#part, beganMs: this.#beganMs };
  }

  /** Takes the state of the run after an event. */
  take(state: RunState, atMs: number): void {
    // What is between stage0-posix and the first step belongs to the former.
    if (state.phase === "steps" && state.step === undefined) return;
    const part = partOf(state);
    if (part === this.#part) return;
    if (part !== undefined && this.#part !== undefined) {
      // The machine has begun again.
      if (part < this.#part) this.#times.clear();
      else if (part === this.#part + 1) this.#times.set(this.#part, atMs - this.#beganMs);
    }
    this.#part = part;
    this.#beganMs = atMs;
  }

  /** The run has come to its end: the last part is over. */
  end(atMs: number): void {
    if (this.#part !== undefined) this.#times.set(this.#part, atMs - this.#beganMs);
  }
}

/** What earlier runs cannot know: a part may take so much less, or more, than it ever did. */
const MARGIN = 0.1;
/** The pace of this run counts once the parts that it has done took so long in earlier runs. */
const PACE_FROM_MS = 60_000;

/** Estimates the rest of a run. */
export class Estimator {
  readonly #last: number;
  /** Shortest and longest time of each part, and of all parts from it on. */
  readonly #least = new Map<number, number>();
  readonly #most = new Map<number, number>();
  readonly #leastFrom = new Map<number, number>();
  readonly #mostFrom = new Map<number, number>();

  /**
   * @param earlier Times of earlier runs of the same manifest under like conditions.
   * @param stepCount Steps of the manifest.
   */
  constructor(earlier: readonly PartTimes[], stepCount: number) {
    this.#last = FIRST_PARTS.stage0 + stepCount;
    for (const times of earlier) {
      for (const [part, ms] of times) {
        this.#least.set(part, Math.min(this.#least.get(part) ?? ms, ms));
        this.#most.set(part, Math.max(this.#most.get(part) ?? ms, ms));
      }
    }
    let [least, most] = [0, 0];
    this.#leastFrom.set(this.#last + 1, 0);
    this.#mostFrom.set(this.#last + 1, 0);
    for (let part = this.#last; this.#least.has(part); part--) {
      least += this.#least.get(part)!;
      most += this.#most.get(part)!;
      this.#leastFrom.set(part, least);
      this.#mostFrom.set(part, most);
    }
  }

  /**
   * The rest of a run in milliseconds.
   *
   * @returns undefined where a part that is to come has never been timed.
   */
  remaining({ times, current }: PartClock, nowMs: number): RunState["remaining"] {
    if (current === undefined) return undefined;
    const { part, beganMs } = current;
    const least = this.#leastFrom.get(part + 1);
    const most = this.#mostFrom.get(part + 1);
    const [leastHere, mostHere] = [this.#least.get(part), this.#most.get(part)];
    if (
      least === undefined || most === undefined || leastHere === undefined || mostHere === undefined
    ) return undefined;
    const inPartMs = nowMs - beganMs;
    const pace = this.#pace(times);
    const from = (least + leastHere) * Math.min(1, pace) * (1 - MARGIN) - inPartMs;
    const to = (most + mostHere) * Math.max(1, pace) * (1 + MARGIN) - inPartMs;
    // A part that takes longer than ever says nothing of those after it.
    return {
      fromMs: Math.max(from, least * Math.min(1, pace) * (1 - MARGIN)),
      toMs: Math.max(to, most * Math.max(1, pace) * (1 + MARGIN)),
    };
  }

  /** How long this run takes for what it has done, as a multiple of what earlier ones took. */
  #pace(times: PartTimes): number {
    let [own, earlier] = [0, 0];
    for (const [part, ms] of times) {
      const [least, most] = [this.#least.get(part), this.#most.get(part)];
      if (least === undefined || most === undefined) continue;
      own += ms;
      earlier += (least + most) / 2;
    }
    return earlier < PACE_FROM_MS ? 1 : own / earlier;
  }
}
