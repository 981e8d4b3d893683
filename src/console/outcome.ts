// SPDX-License-Identifier: MIT
/**
 * How a run ended, judged by what the guest said: success needs proof.
 *
 * @module
 */

import { classifyKvmFailure } from "../launch/accel.ts";
import { type Cause, causeOf } from "./causes.ts";
import { type ConsoleEvent, EventReader } from "./events.ts";
import type { RunFailure } from "./failure.ts";
import { LineReader } from "./lines.ts";

/**
 * How a run ended.
 *
 * - done: the last step was built, and the guest has ended in good order
 * - failed: something failed, or it ended before that
 * - interrupted: it was ended from outside
 * - paused: its budget was spent; it was saved, and goes on with `resume`
 * - unknown: nothing of what it said was seen, so that nothing can be said
 */
export type Verdict = "done" | "failed" | "interrupted" | "paused" | "unknown";

/** The outcome of a run. */
export interface Outcome {
  readonly verdict: Verdict;
  /** How it failed, where the verdict is that; absent where nobody can tell. */
  readonly failure?: RunFailure;
  /** Why, as a phrase. */
  readonly why: string;
  /** The last step that was seen to begin, as `NAME pass N`; "stage0-posix" before the first. */
  readonly lastStep?: string;
  /** The lines of the console that matter, as they came; none where it is done. */
  readonly lines: readonly string[];
  /** The likely cause of a failure, where one is seen. */
  readonly cause?: Cause;
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
  /** Memory of the machine in MiB, where it is one of QEMU. */
  readonly memoryMib?: number;
  /** Titles of the limits that the plan broke. */
  readonly brokenLimits?: readonly string[];
  /** Whether a directory is run, by chroot or bwrap, or a container. */
  readonly isDirectory?: boolean;
}

/** What is known of a machine besides its console. */
export type Facts = Pick<Expected, "memoryMib" | "brokenLimits" | "isDirectory">;

type Judged = Pick<Outcome, "verdict" | "failure" | "why">;

/** How the process ended that ran the guest. */
export type End =
  /** With exit code 0. */
  | { readonly kind: "ended" }
  | { readonly kind: "interrupted" | "paused"; readonly why: string }
  /** In another way, which is told where the console says nothing better. */
  | { readonly kind: "failed"; readonly why: string; readonly failure: RunFailure };

/** Failures that come from outside of the guest: whatever it has printed is not the reason. */
const FROM_OUTSIDE: ReadonlySet<RunFailure> = new Set(["host-disk-full", "kvm"]);

/** Lines that are shown before the first that says that something failed, and at the end. */
const CONTEXT_LINES = 6;
const LAST_LINES = 8;
/** Lines before that, in which a cause is looked for. */
const CAUSE_LINES = 40;

/** What seedstrap writes into a log when it ends a guest, or one has ended; see `launch/log.ts`. */
const OWN_LINE = /^--- seedstrap: (.*) ---$/;
const OWN_FAILURES: readonly (readonly [RegExp, RunFailure])[] = [
  [/^the console has been silent for /, "stall"],
  [/^the guest has reset itself$/, "reset"],
  [/^QEMU (?:was killed|failed)\b/, "died"],
  [/^no space is left on this host\b/, "host-disk-full"],
];
const PAUSED = /^the budget of .* is spent/;
const STARTED_AGAIN = /, starting again under TCG$/;

/** What a console is followed with. */
export interface WatchOptions {
  /** Told each event of the console. */
  readonly onEvent?: (event: ConsoleEvent) => void;
  /** Bytes of each entry of the srcfs, in its order, where they are known. */
  readonly loadSizes?: readonly number[];
  /**
   * Whether it is a log, which has lines of QEMU and of seedstrap besides; a guest that prints such
   * a line deceives whoever reads its log.
   */
  readonly isLog?: boolean;
}

/** Follows the console of a run. */
export class RunWatch {
  readonly #lines = new LineReader();
  readonly #loadSizes: readonly number[];
  #events: EventReader;
  readonly #onEvent: (event: ConsoleEvent) => void;
  readonly #recent: string[] = [];
  #step: StepPass | undefined;
  readonly #done = new Set<string>();
  #hasTrace = false;
  #hasOutput = false;
  #switchedOff = false;
  #isReset = false;
  readonly #isLog: boolean;
  /** In a log: how the guest has ended, in the words of whoever ended it. */
  #told: { readonly text: string; readonly failure: RunFailure | undefined } | undefined;
  /** The first line that says that something failed, those around it, and how many are not shown. */
  #fault:
    | {
      readonly text: string;
      readonly failure: RunFailure;
      readonly lines: string[];
      readonly hidden: number;
    }
    | undefined;

  constructor({ onEvent = () => {}, loadSizes = [], isLog = false }: WatchOptions = {}) {
    this.#onEvent = onEvent;
    this.#loadSizes = loadSizes;
    this.#events = new EventReader(loadSizes);
    this.#isLog = isLog;
  }

  /** Takes what the console prints, cut anywhere. */
  push(chunk: Uint8Array): void {
    for (const line of this.#lines.push(chunk)) this.#take(line);
  }

  #take(line: string): void {
    if (line === "" || (this.#isLog && this.#takeOwn(line))) return;
    this.#hasOutput = true;
    if (this.#fault !== undefined) {
      const { lines, hidden } = this.#fault;
      if (lines.length - hidden < CONTEXT_LINES + LAST_LINES) lines.push(line);
    }
    this.#recent.push(line);
    if (this.#recent.length > CAUSE_LINES) this.#recent.shift();
    this.#hasTrace ||= /^\s*\+> /.test(line);
    for (const event of this.#events.read(line)) {
      this.#note(event);
      this.#onEvent(event);
    }
  }

  /** Takes a line of a log that is not the guest's; reports whether it is none of those to show. */
  #takeOwn(line: string): boolean {
    const text = OWN_LINE.exec(line)?.[1];
    if (text === undefined) {
      const kvm = line.startsWith("KVM") ? classifyKvmFailure(line) : undefined;
      if (kvm?.kind === "died") this.#told ??= { text: kvm.line, failure: "kvm" };
      return false;
    }
    if (STARTED_AGAIN.test(text)) this.#forget();
    else this.#told ??= { text, failure: OWN_FAILURES.find(([own]) => own.test(text))?.[1] };
    return true;
  }

  /** Forgets everything: the guest has started again. */
  #forget(): void {
    this.#events = new EventReader(this.#loadSizes);
    this.#recent.length = 0;
    this.#done.clear();
    this.#step = this.#fault = this.#told = undefined;
    this.#hasTrace =
      this.#hasOutput =
      this.#switchedOff =
      this.#isReset =
        false;
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
        if (!event.isRight) this.#failed(`wrong checksum of ${event.path}`, "checksum");
        break;
      case "fault":
        this.#failed(event.text.trim(), "step");
        break;
      case "halt":
        this.#failed(event.text.trim(), haltFailure(event.text));
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

  #failed(text: string, failure: RunFailure): void {
    if (this.#fault !== undefined) return;
    const hidden = Math.max(0, this.#recent.length - CONTEXT_LINES - 1);
    this.#fault = { text, failure, lines: [...this.#recent], hidden };
  }

  /** Notes that the guest has reset itself: no console says that. */
  sawReset(): void {
    this.#isReset = true;
  }

  /** The last step that was seen, for a message. */
  get lastStep(): string | undefined {
    if (this.#step !== undefined) return `${this.#step.name} pass ${this.#step.pass}`;
    return this.#hasTrace ? "stage0-posix" : undefined;
  }

  /** Judges the run when it is over. */
  judge(expected: Expected, end: End): Outcome {
    for (const line of this.#lines.end()) this.#take(line);
    return this.#outcome(this.#verdict(expected, end), expected);
  }

  /**
   * Judges a log by its text alone, when all of it was taken. It is never done: nobody knows what
   * the last step is.
   */
  judgeLog(facts: Facts = {}): Outcome {
    for (const line of this.#lines.end()) this.#take(line);
    return this.#outcome(this.#logVerdict(), facts);
  }

  /** What the lines say of the cause of a failure that is known otherwise. */
  causeOf(failed: Pick<Outcome, "failure" | "why" | "lastStep">, facts: Facts): Cause | undefined {
    return causeOf({ ...facts, ...failed, lines: this.#fault?.lines ?? this.#recent });
  }

  #outcome({ verdict, failure, why }: Judged, facts: Facts): Outcome {
    const lastStep = this.lastStep;
    const seen = {
      verdict,
      ...(failure !== undefined && { failure }),
      why,
      ...(lastStep !== undefined && { lastStep }),
    };
    if (verdict === "done") return { ...seen, lines: [] };
    const all = this.#fault?.lines ?? this.#recent;
    const hidden = this.#fault?.hidden ?? Math.max(0, all.length - LAST_LINES);
    const cause = verdict === "failed" ? this.causeOf(seen, facts) : undefined;
    return { ...seen, lines: all.slice(hidden), ...(cause !== undefined && { cause }) };
  }

  #logVerdict(): Judged {
    const told = this.#told;
    if (told?.failure === "kvm" || told?.failure === "host-disk-full") {
      return { verdict: "failed", failure: told.failure, why: told.text };
    }
    if (this.#fault !== undefined) {
      return { verdict: "failed", failure: this.#fault.failure, why: this.#fault.text };
    }
    if (this.#switchedOff) {
      const why = "the machine switched itself off in good order; a log alone does not tell " +
        "whether every step was built";
      return { verdict: "unknown", why };
    }
    if (told?.failure !== undefined) {
      return { verdict: "failed", failure: told.failure, why: told.text };
    }
    if (told !== undefined) {
      return { verdict: PAUSED.test(told.text) ? "paused" : "interrupted", why: told.text };
    }
    const why = this.#hasOutput ? "nothing in the log says how it ended" : "the log is empty";
    return { verdict: "unknown", why };
  }

  #verdict(
    { lastStep, switchesOff, isPackaged }: Expected,
    end: End,
  ): Judged {
    const failed = (failure: RunFailure, why: string) =>
      ({ verdict: "failed", failure, why }) as const;
    if (end.kind === "interrupted" || end.kind === "paused") {
      return { verdict: end.kind, why: end.why };
    }
    if (end.kind === "failed" && FROM_OUTSIDE.has(end.failure)) return failed(end.failure, end.why);
    if (this.#fault !== undefined) {
      // What a directory is on is a disk of this host.
      const isFull = !switchesOff && this.#fault.lines.some((line) => NO_SPACE.test(line));
      return failed(isFull ? "host-disk-full" : this.#fault.failure, this.#fault.text);
    }
    if (end.kind === "failed") {
      if (end.failure !== "step") return failed(end.failure, end.why);
      if (this.lastStep === undefined) return failed("not-started", end.why);
      const isFull = !switchesOff && this.#recent.some((line) => NO_SPACE.test(line));
      return failed(isFull ? "host-disk-full" : "step", end.why);
    }
    const isPacked = isPackaged?.() === true;
    if (!this.#hasOutput && !isPacked) {
      return { verdict: "unknown", why: "nothing was seen on its console" };
    }
    const early = this.#isReset ? "reset" : "ended-early";
    if (lastStep !== undefined && !isPacked && !this.#isBuilt(lastStep)) {
      const wanted = `${lastStep.name} pass ${lastStep.pass}`;
      const did = this.#isReset ? "the guest reset itself" : "it ended";
      return failed(early, `${did} before ${wanted}, the last step, was built`);
    }
    if (switchesOff && !this.#switchedOff) {
      return failed(early, "it ended without switching itself off in good order");
    }
    return { verdict: "done", why: "every step was built" };
  }

  #isBuilt({ name, pass }: StepPass): boolean {
    // A package that is installed as it was built before has no pass.
    const isThatPass = this.#step?.name !== name || this.#step.pass >= pass;
    return this.#done.has(name) && isThatPass;
  }
}

/** What every kernel says, and what prints it. */
const NO_SPACE = /\bNo space left on device\b/;

/** How a guest failed that has stopped for good. */
function haltFailure(text: string): RunFailure {
  // The first process is live-bootstrap's script: its exit code in the second byte, no signal.
  if (/Attempted to kill init! exitcode=0x0000[0-9a-f]{2}00\b/.test(text)) return "step";
  return /panic/i.test(text) ? "panic" : "ended-early";
}
