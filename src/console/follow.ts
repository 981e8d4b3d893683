// SPDX-License-Identifier: MIT
/**
 * Follows the console of a run: what it says, where the run is, and how it ends.
 *
 * @module
 */

import type { ConsoleEvent } from "./events.ts";
import { type End, type Expected, type Outcome, RunWatch } from "./outcome.ts";
import { nextState, type RunPlan, type RunState, startOfRun, stepNumbers } from "./position.ts";
import { Estimator, PartClock, type PartTimes } from "./remaining.ts";

/** The state is told at most so often. */
const STATE_EVERY_MS = 100;
/** The number of files that were loaded or imported is told at most so often. */
const COUNT_EVERY_MS = 1000;

/** Told what a console says. */
export interface FollowEvents {
  /** An event, and the state of the run after it. Counts of files are told once a second. */
  readonly onEvent?: ((event: ConsoleEvent, state: RunState) => void) | undefined;
  /** Where the run is: at an event, and when there was output, but ten times a second at most. */
  readonly onState?: ((state: RunState) => void) | undefined;
}

type CountEvent = Extract<ConsoleEvent, { kind: "load" | "import" }>;

/** Follows the console of one run; {@link stop} it. */
export class RunFollower {
  readonly #plan: RunPlan;
  readonly #events: FollowEvents;
  readonly #nowMs: () => number;
  readonly #numbers: ReturnType<typeof stepNumbers>;
  #estimator: Estimator | undefined;
  #watch!: RunWatch;
  #clock = new PartClock();
  #state!: RunState;
  #lastOutputMs = 0;
  /** The last count that was not told yet, and when one was told. */
  #count: CountEvent | undefined;
  #countedMs = -Infinity;
  #toldMs = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param nowMs The clock, in milliseconds. */
  constructor(plan: RunPlan, events: FollowEvents, nowMs: () => number = () => performance.now()) {
    this.#plan = plan;
    this.#events = events;
    this.#nowMs = nowMs;
    this.#numbers = stepNumbers(plan);
    this.restart();
  }

  /** Takes what the console prints, cut anywhere. */
  push(chunk: Uint8Array): void {
    this.#lastOutputMs = this.#nowMs();
    this.#watch.push(chunk);
    if (this.#events.onState !== undefined) this.#tellSoon();
  }

  /**
   * The guest begins, or begins again from its start.
   *
   * @param earlier Times of earlier runs of the same plan under like conditions.
   */
  restart(earlier: readonly PartTimes[] = []): void {
    const nowMs = this.#nowMs();
    const { steps } = this.#plan;
    this.#estimator = steps === undefined || earlier.length === 0
      ? undefined
      : new Estimator(earlier, steps.length);
    const { loadSizes } = this.#plan;
    this.#watch = new RunWatch({ onEvent: (event) => this.#take(event), loadSizes });
    this.#clock = new PartClock();
    this.#state = startOfRun(this.#plan, nowMs);
    this.#lastOutputMs = nowMs;
    this.#count = undefined;
  }

  /** Where the run is now. */
  get state(): RunState {
    const remaining = this.#estimator?.remaining(this.#clock, this.#nowMs());
    return { ...this.#state, remaining, lastOutputMs: this.#lastOutputMs };
  }

  /** The last step that was seen, for a message. */
  get lastStep(): string | undefined {
    return this.#watch.lastStep;
  }

  /** Notes that the guest has reset itself. */
  sawReset(): void {
    this.#watch.sawReset();
  }

  /** Judges the run when it is over. */
  judge(expected: Expected, end: End): Outcome {
    const outcome = this.#watch.judge(expected, end);
    this.#tellCount();
    this.#tell();
    this.stop();
    return outcome;
  }

  /** Tells nothing more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #take(event: ConsoleEvent): void {
    const atMs = this.#nowMs();
    this.#state = nextState(this.#state, event, {
      steps: this.#plan.steps,
      numbers: this.#numbers,
      atMs,
    });
    this.#clock.take(this.#state, atMs);
    if (event.kind === "load" || event.kind === "import") {
      this.#count = event;
      if (atMs - this.#countedMs >= COUNT_EVERY_MS) this.#tellCount();
      return;
    }
    this.#tellCount();
    this.#events.onEvent?.(event, this.state);
    if (this.#events.onState !== undefined) this.#tellSoon();
  }

  #tellCount(): void {
    const count = this.#count;
    if (count === undefined) return;
    this.#count = undefined;
    this.#countedMs = this.#nowMs();
    this.#events.onEvent?.(count, this.state);
  }

  /** Tells the state at once, or as soon as it may be told again. */
  #tellSoon(): void {
    if (this.#timer !== undefined) return;
    const waitMs = this.#toldMs + STATE_EVERY_MS - this.#nowMs();
    if (waitMs <= 0) this.#tell();
    else this.#timer = setTimeout(() => this.#tell(), waitMs);
  }

  #tell(): void {
    this.stop();
    this.#toldMs = this.#nowMs();
    this.#events.onState?.(this.state);
  }
}
