// SPDX-License-Identifier: MIT
/**
 * The events of a run, as lines for people and for scripts.
 *
 * @module
 */

import { fstatSync } from "node:fs";
import process from "node:process";
import type { ConsoleEvent } from "../console/events.ts";
import type { RunState } from "../console/position.ts";
import { counted, formatBytes } from "../text.ts";
import { formatSeconds } from "./progress.ts";

/** Counts of files are shown so often. */
const COUNT_EVERY_MS = 30_000;

const PHASES = {
  boot: "the machine boots",
  load: "builder-hex0 loads files",
  stage0: "stage0-posix begins",
  steps: "the steps of the manifest begin",
} as const;

type CountEvent = Extract<ConsoleEvent, { kind: "load" | "import" }>;

/** Makes lines of events: what happened when. */
export class EventLines {
  #count: CountEvent | undefined;
  #countedMs = -Infinity;

  /**
   * The lines for an event.
   *
   * @param state The run after it.
   * @param nowMs The time, of any clock.
   */
  of(event: ConsoleEvent, state: RunState, nowMs: number): string[] {
    if (event.kind === "load" || event.kind === "import") {
      this.#count = event;
      return nowMs - this.#countedMs < COUNT_EVERY_MS ? [] : this.#counted(state, nowMs);
    }
    return [...this.#counted(state, nowMs), lineOf(event, state)];
  }

  /** The count that was not shown yet. */
  #counted(state: RunState, nowMs: number): string[] {
    const count = this.#count;
    if (count === undefined) return [];
    this.#count = undefined;
    this.#countedMs = nowMs;
    return [countLine(count, state)];
  }
}

function countLine({ kind, files, bytes }: CountEvent, { loadWhole }: RunState): string {
  const text = bytes > 0 ? `, ${formatBytes(bytes)}` : "";
  if (kind === "import") return `payload: ${counted(files, "file")}${text} restored`;
  const of = loadWhole === undefined ? "" : ` of ${loadWhole.files}`;
  return `loaded: ${files}${of} entries${text}`;
}

function lineOf(event: Exclude<ConsoleEvent, CountEvent>, state: RunState): string {
  switch (event.kind) {
    case "phase":
      return `${PHASES[event.phase]}${restOf(state)}`;
    case "kernel":
      return `kernel: ${event.name}`;
    case "step":
      return `${stepPlace(state)}${event.name} pass ${event.pass}${restOf(state)}`;
    case "step-phase":
      return `${event.name}: ${event.phase}`;
    case "step-done":
      return `${event.name}: built`;
    case "jump":
      return `jump: ${event.name}`;
    case "checksum":
      return `checksum ${event.isRight ? "OK" : "WRONG"}: ${event.path}`;
    case "import-done":
      return `payload: ${counted(event.files, "file")} done, ${formatBytes(event.bytes)} written`;
    case "fault":
      return `failed: ${event.text}`;
    case "power-off":
      return "the machine switches itself off";
    case "halt":
      return `stopped: ${event.text}`;
  }
}

function stepPlace({ step, stepCount }: RunState): string {
  return step?.number === undefined ? "" : `step ${step.number} of ${stepCount}: `;
}

/** How long the rest takes, where that is known. */
function restOf({ remaining }: RunState): string {
  if (remaining === undefined) return "";
  const [from, to] = [remaining.fromMs, remaining.toMs].map((ms) => formatSeconds(ms / 1000));
  return `; ${from === to ? from : `${from} to ${to}`} left`;
}

/** The time as lines for people begin with it: UTC, to the second. */
export function timeNow(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}

/** An event as it is told to scripts. `ms` is the time since the guest was started. */
export function eventObject(event: ConsoleEvent, state: RunState, nowMs: number): object {
  const { step, stepCount, remaining, loadWhole, beganMs } = state;
  return {
    time: new Date().toISOString(),
    ms: Math.round(nowMs - beganMs),
    ...event,
    ...(event.kind === "step" && step?.number !== undefined &&
      { number: step.number, of: stepCount }),
    ...(event.kind === "load" && loadWhole !== undefined && { of: loadWhole.files }),
    ...((event.kind === "step" || event.kind === "phase") && remaining !== undefined && {
      remainingMs: [Math.round(remaining.fromMs), Math.round(remaining.toMs)],
    }),
  };
}

/** Reports whether what a guest prints, on standard output, and our lines end in the same place. */
export function areOutputsOne(): boolean {
  try {
    const [out, error] = [fstatSync(1), fstatSync(2)];
    return out.ino === error.ino && out.dev === error.dev && !process.stdout.isTTY;
  } catch {
    return false;
  }
}
