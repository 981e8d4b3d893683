// SPDX-License-Identifier: MIT
/**
 * Where a run is, by the events of its console. Times are in milliseconds, of a clock that the
 * caller has.
 *
 * @module
 */

import type { ConsoleEvent, Kernel, RunPhase } from "./events.ts";
import type { StepPass } from "./outcome.ts";

/** What a run goes through, where that is known beforehand. */
export interface RunPlan {
  /** The `build:` lines of the manifest that are executed, in order; undefined if not known. */
  readonly steps: readonly StepPass[] | undefined;
  /** Bytes of each entry of the srcfs that builder-hex0 loads, in order; none if not known. */
  readonly loadSizes: readonly number[];
}

/** Nothing is known of the run beforehand. */
export const NO_PLAN: RunPlan = { steps: undefined, loadSizes: [] };

/** Files and their bytes. */
export interface Amount {
  readonly files: number;
  readonly bytes: number;
}

/** Where a run is. */
export interface RunState {
  readonly phase: RunPhase | undefined;
  readonly kernel: Kernel | undefined;
  /** The last step that was seen. */
  readonly step: {
    readonly name: string;
    readonly pass: number;
    /** Its place among the `build:` lines that the run goes through, from 1. */
    readonly number: number | undefined;
    /** The phase that a step in bash is in. */
    readonly phase: string | undefined;
  } | undefined;
  /** How many `build:` lines the run goes through. */
  readonly stepCount: number | undefined;
  readonly beganMs: number;
  readonly stepBeganMs: number | undefined;
  /** What builder-hex0 has loaded so far. `bytes` is 0 where nobody knows the sizes. */
  readonly load: Amount | undefined;
  /** All that it will load, where that is known. */
  readonly loadWhole?: Amount;
  readonly imported: Amount & { readonly isDone: boolean } | undefined;
  readonly checksums: { readonly right: number; readonly wrong: number };
  /** How long the rest of the run takes, if there is ground for saying that. */
  readonly remaining: { readonly fromMs: number; readonly toMs: number } | undefined;
  readonly lastOutputMs: number;
}

/** The places of steps, by name and pass. */
export type StepNumbers = ReadonlyMap<string, number>;

/** Finds the place of each step of a plan, from 1. */
export function stepNumbers({ steps = [] }: RunPlan): StepNumbers {
  return new Map(steps.map(({ name, pass }, index) => [`${name} ${pass}`, index + 1]));
}

/** A run that begins at a time. */
export function startOfRun({ steps, loadSizes }: RunPlan, beganMs: number): RunState {
  const bytes = loadSizes.reduce((sum, size) => sum + size, 0);
  return {
    phase: undefined,
    kernel: undefined,
    step: undefined,
    stepCount: steps?.length,
    beganMs,
    stepBeganMs: undefined,
    load: undefined,
    ...(loadSizes.length > 0 && { loadWhole: { files: loadSizes.length, bytes } }),
    imported: undefined,
    checksums: { right: 0, wrong: 0 },
    remaining: undefined,
    lastOutputMs: beganMs,
  };
}

/** The state of a run after an event, which changes nothing where it says nothing of it. */
export function nextState(
  state: RunState,
  event: ConsoleEvent,
  { steps = [], atMs, numbers }: {
    readonly steps: RunPlan["steps"];
    readonly numbers: StepNumbers;
    readonly atMs: number;
  },
): RunState {
  switch (event.kind) {
    case "phase":
      return event.phase === "boot"
        ? { ...state, phase: "boot", kernel: undefined, step: undefined, stepBeganMs: undefined }
        : { ...state, phase: event.phase };
    case "kernel":
      return { ...state, kernel: event.name };
    case "load":
      return { ...state, load: amountOf(event) };
    case "step": {
      const { name, pass } = event;
      const number = numbers.get(`${name} ${pass}`);
      return { ...state, step: { name, pass, number, phase: undefined }, stepBeganMs: atMs };
    }
    case "step-phase":
      if (state.step?.name !== event.name) return state;
      return { ...state, step: { ...state.step, phase: event.phase } };
    case "step-done": {
      if (state.step?.name === event.name && state.step.phase !== undefined) {
        return { ...state, step: { ...state.step, phase: undefined } };
      }
      // A package of an earlier run is installed without a word at the beginning of its step.
      const index = steps.findIndex(({ name }, at) =>
        at >= (state.step?.number ?? 0) && name === event.name
      );
      if (index < 0) return state;
      const step = { ...steps[index]!, number: index + 1, phase: undefined };
      return { ...state, step, stepBeganMs: atMs };
    }
    case "checksum": {
      const { right, wrong } = state.checksums;
      const checksums = event.isRight ? { right: right + 1, wrong } : { right, wrong: wrong + 1 };
      return { ...state, checksums };
    }
    case "import":
    case "import-done":
      return {
        ...state,
        imported: { ...amountOf(event), isDone: event.kind === "import-done" },
      };
    case "jump":
    case "fault":
    case "power-off":
    case "halt":
      return state;
  }
}

function amountOf({ files, bytes }: Amount): Amount {
  return { files, bytes };
}
