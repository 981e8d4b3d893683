// SPDX-License-Identifier: MIT
/**
 * The events of a run, with their times, beside its log:
 *
 *   TARGET/.seedstrap/runs/N.events   JSON, a line each:
 *
 *     header = {"format": "seedstrap-events/1", "began": TIME, "by": BY, "machine": MACHINE
 *               [, "steps": COUNT, "manifest": SHA-256]}
 *     event  = {"ms": MS, "kind": KIND, …}       a ConsoleEvent
 *     again  = {"ms": MS, "kind": "restart", "by": BY}
 *     end    = {"ms": MS, "kind": "end", "verdict": VERDICT, "why": TEXT}
 *
 *   TARGET/.seedstrap/runs/N.times    "MS BYTES\n": at that time the log had so many bytes
 *
 * TIME is in ISO 8601, UTC; MS are milliseconds since then. BY is an accelerator of QEMU, or "chroot"
 * or "bwrap". MACHINE is the processor of the host, and the cores and MiB of memory that the guest
 * has. "steps" and "manifest" are there where the steps are known beforehand; the SHA-256 is of
 * "NAME PASS\n" for each. A restart is one from the beginning: what comes before it is of a guest
 * that KVM could not run. Counts of files, and lines of N.times, come once a second at most, and last. A run
 * that was killed has no end, and may end within a line. Events that would make the file longer than
 * {@link MAX_EVENTS_BYTES}, or more than {@link MAX_EVENTS}, are left out.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { closeSync, openSync, writeSync } from "node:fs";
import * as v from "valibot";
import { sha256Of } from "../bytes.ts";
import { type ConsoleEvent, KERNELS, RUN_PHASES } from "../console/events.ts";
import type { Outcome } from "../console/outcome.ts";
import type { RunPlan } from "../console/position.ts";
import { messageOf, UserError } from "../errors.ts";
import {
  amount,
  anyText,
  bool,
  count,
  object,
  objectOf,
  oneOf,
  parseJson,
  sha256,
  size,
  textThat,
} from "../json.ts";
import { readWholeText } from "../read.ts";

/** The longest record of the events of a run, without its end: thousands of steps. */
export const MAX_EVENTS_BYTES = 8 * 1024 * 1024;
/** The most events of a run that are recorded, and read. */
export const MAX_EVENTS = 50_000;

const FORMAT = "seedstrap-events/1";
/** All that a guest is started by. */
export const STARTERS = ["kvm", "hvf", "tcg", "chroot", "bwrap", "podman", "docker"] as const;
const VERDICTS = ["done", "failed", "interrupted", "paused", "unknown"] as const;

/** What starts a guest. */
export type Starter = (typeof STARTERS)[number];

/** What a guest runs on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMib: number;
}

/** The first line of a record. */
export interface EventsHeader {
  readonly format: typeof FORMAT;
  readonly began: string;
  readonly by: Starter;
  readonly machine: Machine;
  readonly steps?: number;
  readonly manifest?: string;
}

/** The guest begins again from its start, by another accelerator. */
interface Restart {
  readonly kind: "restart";
  readonly by: Starter;
}

/** A line of a record after the first, in milliseconds since the run began. */
export type RecordedEvent =
  & { readonly ms: number }
  & (
    | ConsoleEvent
    | Restart
    | { readonly kind: "end"; readonly verdict: Outcome["verdict"]; readonly why: string }
  );

/** The record of a run. */
export interface RecordedEvents {
  readonly header: EventsHeader;
  readonly events: readonly RecordedEvent[];
}

const headerSchema = objectOf<EventsHeader>({
  format: v.literal(FORMAT, `"${FORMAT}"`),
  began: textThat((value) => !Number.isNaN(Date.parse(value)), "a time"),
  by: oneOf(STARTERS),
  machine: objectOf<Machine>({ cpu: anyText, cores: size, memoryMib: size }),
  steps: v.optional(size),
  manifest: v.optional(sha256),
});

const files = { files: size, bytes: size };

function line<const Kind extends string, const Fields extends v.ObjectEntries>(
  kind: Kind,
  fields: Fields,
) {
  return object({ ms: amount, kind: v.literal(kind), ...fields });
}

const eventSchema: v.GenericSchema<unknown, RecordedEvent> = v.variant("kind", [
  line("phase", { phase: oneOf(RUN_PHASES) }),
  line("kernel", { name: oneOf(KERNELS) }),
  line("load", files),
  line("step", { name: anyText, pass: count(0, 9999) }),
  line("step-phase", { name: anyText, phase: anyText }),
  line("step-done", { name: anyText }),
  line("jump", { name: anyText }),
  line("checksum", { path: anyText, isRight: bool }),
  line("import", files),
  line("import-done", files),
  line("fault", { text: anyText }),
  line("power-off", {}),
  line("halt", { text: anyText }),
  line("restart", { by: oneOf(STARTERS) }),
  line("end", { verdict: oneOf(VERDICTS), why: anyText }),
], "an event");

/** The first line of the record of a run that begins. */
export function eventsHeader(
  began: Date,
  by: Starter,
  machine: Machine,
  { steps }: Pick<RunPlan, "steps">,
): EventsHeader {
  return {
    format: FORMAT,
    began: began.toISOString(),
    by,
    machine,
    ...(steps && { steps: steps.length, manifest: manifestDigest(steps) }),
  };
}

/** The digest by which runs of the same steps are known. */
export function manifestDigest(steps: NonNullable<RunPlan["steps"]>): string {
  return sha256Of(steps.map(({ name, pass }) => `${name} ${pass}\n`).join(""));
}

/**
 * Reads a record. Lines that are none of it are left out: the last one of a run that was killed, and
 * those of a later version. A time that is before that of an earlier line is that of the latter.
 *
 * @returns undefined where there is none, or it has no header.
 */
export function readEvents(path: string): RecordedEvents | undefined {
  let text: string;
  try {
    // The end comes after the bytes that are counted.
    text = readWholeText(path, { limitBytes: 2 * MAX_EVENTS_BYTES, followsLink: false });
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
  return parseEvents(text);
}

/** Reads a record that is in memory, as {@link readEvents} does. */
export function parseEvents(text: string): RecordedEvents | undefined {
  const firstEnd = text.indexOf("\n");
  const header = parseJson(headerSchema, text.slice(0, Math.max(firstEnd, 0)));
  if (typeof header === "string") return undefined;
  const events: RecordedEvent[] = [];
  let lastMs = 0;
  for (let at = firstEnd + 1; at < text.length && events.length <= MAX_EVENTS;) {
    const end = text.indexOf("\n", at);
    if (end < 0) break;
    const event = parseJson(eventSchema, text.slice(at, end));
    at = end + 1;
    if (typeof event === "string") continue;
    lastMs = Math.max(lastMs, event.ms);
    events.push(event.ms === lastMs ? event : { ...event, ms: lastMs });
  }
  return { header, events };
}

/** So many bytes wait to be written, or as long. */
const BUFFER_CHARS = 16 * 1024;
const BUFFER_MS = 1000;

/** Writes the record of a run; it never throws, and {@link EventsWriter.end} ends it. */
export class EventsWriter {
  readonly #onProblem: (text: string) => void;
  readonly #eventsPath: string;
  #events: number | undefined;
  #times: number | undefined;
  #buffer = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #countLeft = MAX_EVENTS;
  #bytesLeft = MAX_EVENTS_BYTES;
  #timedMs = -Infinity;
  /** The size of the log that was not written yet. */
  #untimed: { readonly ms: number; readonly sizeBytes: number } | undefined;

  /**
   * Begins a record.
   *
   * @param paths Files that are not there.
   * @param onProblem Takes the one message about a failed write: the record ends there.
   */
  constructor(
    { eventsPath, timesPath }: { readonly eventsPath: string; readonly timesPath: string },
    header: EventsHeader,
    onProblem: (text: string) => void,
  ) {
    this.#eventsPath = eventsPath;
    this.#onProblem = onProblem;
    this.#trying(() => {
      this.#events = openSync(eventsPath, "wx", 0o666);
      this.#times = openSync(timesPath, "wx", 0o666);
      this.#add(header);
      this.#flush();
    });
  }

  /** @param ms Milliseconds since the run began, and not less than before. */
  event(ms: number, event: ConsoleEvent | Restart): void {
    if (this.#countLeft <= 0) return;
    const text = `${JSON.stringify({ ms: Math.round(ms), ...event })}\n`;
    const sizeBytes = Buffer.byteLength(text);
    if (sizeBytes > this.#bytesLeft) {
      this.#countLeft = 0;
      return;
    }
    this.#countLeft--;
    this.#bytesLeft -= sizeBytes;
    this.#append(text);
  }

  /** The log has so many bytes now. */
  logged(ms: number, sizeBytes: number): void {
    this.#untimed = { ms, sizeBytes };
    if (ms - this.#timedMs >= BUFFER_MS) this.#time();
  }

  #time(): void {
    if (this.#times === undefined || this.#untimed === undefined) return;
    const { ms, sizeBytes } = this.#untimed;
    const file = this.#times;
    this.#untimed = undefined;
    this.#timedMs = ms;
    this.#trying(() => writeSync(file, `${Math.round(ms)} ${sizeBytes}\n`));
  }

  /** Ends the record. */
  end(ms: number, { verdict, why }: Pick<Outcome, "verdict" | "why">): void {
    this.#time();
    this.#trying(() => {
      this.#add({ ms: Math.round(ms), kind: "end", verdict, why });
      this.#flush();
    });
    this.#close();
  }

  #add(value: object): void {
    this.#buffer += `${JSON.stringify(value)}\n`;
  }

  #append(text: string): void {
    if (this.#events === undefined) return;
    this.#buffer += text;
    if (this.#buffer.length >= BUFFER_CHARS) this.#trying(() => this.#flush());
    else this.#timer ??= setTimeout(() => this.#trying(() => this.#flush()), BUFFER_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const bytes = new TextEncoder().encode(this.#buffer);
    this.#buffer = "";
    if (this.#events === undefined) return;
    for (let done = 0; done < bytes.length;) done += writeSync(this.#events, bytes, done);
  }

  #trying(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#close();
      this.#onProblem(
        `The times of the run end here, it continues: ${this.#eventsPath}: ${messageOf(error)}`,
      );
    }
  }

  #close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const open = [this.#events, this.#times];
    this.#events = this.#times = undefined;
    for (const file of open) {
      try {
        if (file !== undefined) closeSync(file);
      } catch {
        // What could not be written was said.
      }
    }
  }
}
