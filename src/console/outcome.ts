// SPDX-License-Identifier: MIT
/**
 * How a run ended, judged by what the guest said: success needs proof.
 *
 * @module
 */

import { type ConsoleEvent, EventReader } from "./events.ts";
import { LineReader } from "./lines.ts";

/**
 * How a run ended.
 *
 * - done: the last step was built, and the guest has ended in good order
 * - failed: something failed, or it ended before that
 * - interrupted: it was ended from outside
 * - unknown: nothing of what it said was seen, so that nothing can be said
 */
export type Verdict = "done" | "failed" | "interrupted" | "unknown";

/** The outcome of a run. */
export interface Outcome {
  readonly verdict: Verdict;
  /** Why, as a phrase. */
  readonly why: string;
  /** The last step that was seen to begin, as `NAME pass N`; "stage0-posix" before the first. */
  readonly lastStep?: string;
  /** The lines of the console that matter, as they came; none where it is done. */
  readonly lines: readonly string[];
}

/** A step of a manifest, in the pass that its line is. */
export interface StepPass {
  readonly name: string;
  readonly pass: number;
}

/** What is expected of a run. */
export interface Expected {
  /** The last step that the manifest builds; undefined where it builds none. */
  readonly lastStep: StepPass | undefined;
  /** Whether the machine switches itself off at the end; otherwise its first process exits with 0. */
  readonly switchesOff: boolean;
  /** Reports whether the package of the last step has come into the repository of the target. */
  readonly isPackaged?: () => boolean;
}

/** How the process ended that ran the guest. */
export type End =
  /** With exit code 0. */
  | { readonly kind: "ended" }
  /** In another way; `why` says in which. */
  | { readonly kind: "failed" | "interrupted"; readonly why: string };

/** Lines that are shown before the first that says that something failed, and at the end. */
const CONTEXT_LINES = 6;
const LAST_LINES = 8;

/** What a console is followed with. */
export interface WatchOptions {
  /** Told each event of the console. */
  readonly onEvent?: (event: ConsoleEvent) => void;
  /** Bytes of each entry of the srcfs, in its order, where they are known. */
  readonly loadSizes?: readonly number[];
}

/** Follows the console of a run. */
export class RunWatch {
  readonly #lines = new LineReader();
  readonly #events: EventReader;
  readonly #onEvent: (event: ConsoleEvent) => void;
  readonly #recent: string[] = [];
  #step: StepPass | undefined;
  readonly #done = new Set<string>();
  #hasTrace = false;
  #hasOutput = false;
  #switchedOff = false;
  /** The first line that says that something failed, and those around it. */
  #fault: { readonly text: string; readonly lines: string[] } | undefined;

  constructor({ onEvent = () => {}, loadSizes = [] }: WatchOptions = {}) {
    this.#onEvent = onEvent;
    this.#events = new EventReader(loadSizes);
  }

  /** Takes what the console prints, cut anywhere. */
  push(chunk: Uint8Array): void {
    for (const line of this.#lines.push(chunk)) this.#take(line);
  }

  #take(line: string): void {
    if (line === "") return;
    this.#hasOutput = true;
    if (this.#fault !== undefined && this.#fault.lines.length < CONTEXT_LINES + LAST_LINES) {
      this.#fault.lines.push(line);
    }
    this.#recent.push(line);
    if (this.#recent.length > LAST_LINES + CONTEXT_LINES) this.#recent.shift();
    this.#hasTrace ||= /^\s*\+> /.test(line);
    for (const event of this.#events.read(line)) {
      this.#note(event);
      this.#onEvent(event);
    }
  }

  #note(event: ConsoleEvent): void {
    switch (event.kind) {
      case "step":
        // kaem says nothing at the end of a step: it goes on.
        if (this.#step !== undefined) this.#done.add(this.#step.name);
        this.#step = { name: event.name, pass: event.pass };
        this.#done.delete(event.name);
        break;
      case "step-done":
        this.#done.add(event.name);
        break;
      case "checksum":
        if (!event.isRight) this.#failed(`wrong checksum of ${event.path}`);
        break;
      case "fault":
      case "halt":
        this.#failed(event.text.trim());
        break;
      case "power-off":
        this.#switchedOff = true;
        break;
      case "jump":
      case "phase":
      case "kernel":
      case "load":
      case "step-phase":
      case "import":
      case "import-done":
        break;
    }
  }

  #failed(text: string): void {
    this.#fault ??= { text, lines: this.#recent.slice(-CONTEXT_LINES - 1) };
  }

  /** The last step that was seen, for a message. */
  get lastStep(): string | undefined {
    if (this.#step !== undefined) return `${this.#step.name} pass ${this.#step.pass}`;
    return this.#hasTrace ? "stage0-posix" : undefined;
  }

  /** Judges the run when it is over. */
  judge({ lastStep, switchesOff, isPackaged }: Expected, end: End): Outcome {
    for (const line of this.#lines.end()) this.#take(line);
    const at = this.lastStep;
    const seen = at === undefined ? {} : { lastStep: at };
    const outcome = (verdict: Verdict, why: string): Outcome => ({
      verdict,
      why,
      ...seen,
      lines: verdict === "done" ? [] : this.#fault?.lines ?? this.#recent.slice(-LAST_LINES),
    });
    if (end.kind === "interrupted") return outcome("interrupted", end.why);
    if (this.#fault !== undefined) return outcome("failed", this.#fault.text);
    if (end.kind === "failed") return outcome("failed", end.why);
    const isPacked = isPackaged?.() === true;
    if (!this.#hasOutput && !isPacked) return outcome("unknown", "nothing was seen on its console");
    if (lastStep !== undefined && !isPacked && !this.#isBuilt(lastStep)) {
      const wanted = `${lastStep.name} pass ${lastStep.pass}`;
      return outcome("failed", `it ended before ${wanted}, the last step, was built`);
    }
    if (switchesOff && !this.#switchedOff) {
      return outcome("failed", "it ended without switching itself off in good order");
    }
    return outcome("done", "every step was built");
  }

  #isBuilt({ name, pass }: StepPass): boolean {
    // A package that is installed as it was built before has no pass.
    const isThatPass = this.#step?.name !== name || this.#step.pass >= pass;
    return this.#done.has(name) && isThatPass;
  }
}
