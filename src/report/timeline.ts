// SPDX-License-Identifier: MIT
/**
 * What a run did when: its parts and steps with their times, from its events. Pure.
 *
 * @module
 */

import type { Kernel, RunPhase } from "../console/events.ts";
import type { RecordedEvent, Starter } from "../record/events.ts";
import { counted, formatBytes } from "../text.ts";

/** A part of a run, or a step. */
export interface Span {
  readonly name: string;
  /** The pass of a step; undefined for a part of the run that is no step. */
  readonly pass: number | undefined;
  readonly beganMs: number;
  readonly endedMs: number;
  /** "open" where it is the last one, and was not seen to end. */
  readonly state: "done" | "open";
  /** What was seen in it, in a few words each. */
  readonly notes: readonly string[];
  /** What went wrong in it. */
  readonly faults: readonly string[];
  readonly marks: readonly Mark[];
}

/** A moment: a jump, or a kernel that begins to run. */
export interface Mark {
  readonly ms: number;
  readonly kind: "jump" | "kernel";
  readonly name: string;
}

/** The parts of a run, in order. */
export interface Timeline {
  readonly spans: readonly Span[];
  /** Time of the last event. */
  readonly wholeMs: number;
  /** How many spans are left out, of a history that is longer than any. */
  readonly leftOut: number;
  /** The guest began again from its start; what it did before is in no span. */
  readonly restart: { readonly ms: number; readonly by: Starter } | undefined;
}

/** The parts of a run before its first step; what comes between the steps belongs to them. */
const PARTS: Readonly<Record<Exclude<RunPhase, "steps">, string>> = {
  boot: "BIOS",
  load: "builder-hex0 loads its files",
  stage0: "stage0-posix",
};

const KERNEL_NAMES: Readonly<Record<Kernel, string>> = {
  "builder-hex0": "builder-hex0",
  fiwix: "Fiwix",
  linux: "Linux",
};

/** live-bootstrap has some 200. */
const MAX_SPANS = 2000;
const MAX_FAULTS = 5;
const MAX_MARKS = 20;

/** A span that goes on. */
interface OpenSpan {
  readonly name: string;
  readonly pass: number | undefined;
  readonly beganMs: number;
  endedMs: number | undefined;
  rightSums: number;
  count: string | undefined;
  readonly faults: string[];
  readonly marks: Mark[];
}

/** Finds the parts of a run by its events, which are in the order of their times. */
export function timelineOf(events: readonly RecordedEvent[]): Timeline {
  let spans: OpenSpan[] = [];
  let leftOut = 0;
  let restart: Timeline["restart"];
  const begin = (beganMs: number, name: string, pass?: number) => {
    const last = spans.at(-1);
    if (last !== undefined) last.endedMs ??= beganMs;
    const open = { endedMs: undefined, rightSums: 0, count: undefined, faults: [], marks: [] };
    if (spans.length >= MAX_SPANS) leftOut++;
    else spans.push({ name, pass, beganMs, ...open });
  };
  for (const event of events) {
    switch (event.kind) {
      case "phase":
        if (event.phase !== "steps") begin(event.ms, PARTS[event.phase]);
        break;
      case "step":
        begin(event.ms, event.name, event.pass);
        break;
      case "step-done": {
        const last = spans.at(-1);
        if (last?.name === event.name) last.endedMs ??= event.ms;
        // Its package was there: nothing was said when it began.
        else begin(event.ms, `${event.name}, as a package`);
        break;
      }
      case "restart":
        spans = [];
        leftOut = 0;
        restart = { ms: event.ms, by: event.by };
        break;
      case "end":
        break;
      default:
        if (spans.length === 0) begin(restart?.ms ?? 0, "the beginning");
        note(spans.at(-1)!, event);
    }
  }
  const wholeMs = events.at(-1)?.ms ?? 0;
  return { spans: spans.map((span) => closed(span, wholeMs)), wholeMs, leftOut, restart };
}

/** Notes what happened in a span. */
function note(span: OpenSpan, event: RecordedEvent): void {
  const mark = (kind: Mark["kind"], name: string) => {
    if (span.marks.length < MAX_MARKS) span.marks.push({ ms: event.ms, kind, name });
  };
  const fault = (what: string) => {
    if (span.faults.length < MAX_FAULTS) span.faults.push(what);
  };
  switch (event.kind) {
    case "kernel":
      mark("kernel", KERNEL_NAMES[event.name]);
      break;
    case "jump":
      mark("jump", event.name);
      break;
    case "load": {
      const bytes = event.bytes > 0 ? `, ${formatBytes(event.bytes)}` : "";
      span.count = `${counted(event.files, "entry", "entries")}${bytes}`;
      break;
    }
    case "import":
    case "import-done":
      span.count = `${counted(event.files, "file")} imported, ${formatBytes(event.bytes)}`;
      break;
    case "checksum":
      if (event.isRight) span.rightSums++;
      else fault(`wrong checksum of ${event.path}`);
      break;
    case "fault":
    case "halt":
      fault(event.text.trim());
  }
}

function closed(span: OpenSpan, wholeMs: number): Span {
  const { name, pass, beganMs, endedMs, rightSums, count, faults, marks } = span;
  return {
    name,
    pass,
    beganMs,
    endedMs: endedMs ?? wholeMs,
    state: endedMs === undefined ? "open" : "done",
    notes: [
      ...(count === undefined ? [] : [count]),
      ...(rightSums === 0 ? [] : [`${counted(rightSums, "checksum")} OK`]),
    ],
    faults,
    marks,
  };
}

/** How long each kernel ran, in the order in which they took over. */
export function kernelTimes(
  { spans, wholeMs }: Timeline,
): { readonly name: string; readonly ms: number }[] {
  const begun = spans.flatMap(({ marks }) => marks.filter(({ kind }) => kind === "kernel"));
  return begun.map(({ name, ms }, index) => ({
    name,
    ms: (begun[index + 1]?.ms ?? wholeMs) - ms,
  }));
}
