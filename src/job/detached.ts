// SPDX-License-Identifier: MIT
/**
 * Runs without a terminal. The parent starts this program again, with the same command line, in a
 * session of its own, and waits. The child reports how it started in a file; its directory is a
 * temporary one that only the user can enter.
 *
 * @module
 */

import { closeSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import * as v from "valibot";
import { type ErrorKind, EXIT, UserError } from "../errors.ts";
import { anyText, count, list, objectOf, parseJson } from "../json.ts";
import { readWholeText } from "../read.ts";
import { type Starter, STARTERS } from "../record/events.ts";
import { readRecord } from "../record/read.ts";
import { makeOutput, nameOutput } from "../record/run.ts";
import { writing } from "../refused.ts";
import { type ApartProcess, startApart } from "../runtime/detach.ts";
import { makeScratch, removeScratch } from "../runtime/scratch.ts";
import { statIfThere } from "../runtime/stat.ts";
import type { RunEvents } from "./run_request.ts";

/** The variable with the {@link Places} in the environment of the child. */
const VARIABLE = "SEEDSTRAP_DETACHED";
const PREFIX = "seedstrap.start-";
const POLL_MS = 20;
const MAX_TOLD_BYTES = 1024 * 1024;

/** The files that the parent has made for the child. */
interface Places {
  /** The file for {@link Told}. */
  readonly told: string;
  /** Its standard output and error. */
  readonly output: string;
}

const placesSchema = objectOf<Places>({ told: anyText, output: anyText });

/** A run that has started. */
export interface StartedRun {
  /** The process of seedstrap. */
  readonly pid: number;
  /** Number of the run. */
  readonly run: number;
  readonly by: Starter;
  readonly logPath: string;
  /** The file with all that seedstrap says. */
  readonly outputPath: string;
}

/** A failure before the guest has started. */
interface ToldError {
  readonly kind: ErrorKind;
  readonly message: string;
  readonly where?: string | undefined;
  readonly hint?: string | undefined;
}

/** The report of the child. */
interface Told {
  readonly warnings: readonly string[];
  readonly started?: StartedRun | undefined;
  readonly error?: ToldError | undefined;
}

const KINDS = Object.keys(EXIT).filter((name): name is ErrorKind =>
  !["done", "bug", "readerGone"].includes(name)
);

const toldSchema = objectOf<Told>({
  warnings: list(anyText),
  started: v.optional(objectOf<StartedRun>({
    pid: count(1, Number.MAX_SAFE_INTEGER),
    run: count(1, Number.MAX_SAFE_INTEGER),
    by: v.picklist(STARTERS),
    logPath: anyText,
    outputPath: anyText,
  })),
  error: v.optional(objectOf<ToldError>({
    kind: v.picklist(KINDS),
    message: anyText,
    where: v.optional(anyText),
    hint: v.optional(anyText),
  })),
});

/**
 * Starts a run that goes on without us.
 *
 * @param target The directory that was built.
 * @param args The command line of the run, for which {@link takeDetachment} is called there.
 * @returns Once its guest runs.
 * @throws {UserError} what the run has failed with before; "launch" where it says nothing;
 * "interrupt", after the run was ended.
 */
export async function startDetached(
  target: string,
  args: readonly string[],
  onWarning: (text: string) => void,
  signal: AbortSignal,
): Promise<StartedRun> {
  const dir = resolve(target);
  // Nothing is made in a directory that is no target.
  readRecord(dir);
  const scratch = writing(tmpdir(), () => makeScratch(join(tmpdir(), PREFIX)));
  try {
    const output = makeOutput(dir);
    const places: Places = { told: join(scratch, "told"), output: output.path };
    try {
      const child = await startApart(args, output.file, { [VARIABLE]: JSON.stringify(places) });
      const { warnings, started, error } = await told(child, places, signal);
      warnings.forEach(onWarning);
      if (started !== undefined) return started;
      const { kind, message, ...detail } = error!;
      throw new UserError(kind, message, {
        ...(detail.where !== undefined && { where: detail.where }),
        ...(detail.hint !== undefined && { hint: detail.hint }),
      });
    } finally {
      closeSync(output.file);
      // Where it has started, that has the name of its run.
      rmSync(output.path, { force: true });
    }
  } finally {
    removeScratch(scratch);
  }
}

/** Waits for the report of the child, or its end. */
async function told(child: ApartProcess, places: Places, signal: AbortSignal): Promise<Told> {
  let code: number | null | undefined;
  void child.ended.then((ended) => code = ended);
  for (;;) {
    const hasEnded = code !== undefined;
    // It has begun, and nobody is to wonder later what runs there.
    if (signal.aborted) child.kill("SIGTERM");
    const found = readTold(places.told);
    if (found !== undefined && !signal.aborted) return found;
    if (hasEnded && signal.aborted) throw signal.reason;
    if (hasEnded) {
      const options = { limitBytes: MAX_TOLD_BYTES, followsLink: false };
      const said = statIfThere(places.output) && readWholeText(places.output, options).trim();
      const why = code === null ? "it was killed" : `it ended with exit code ${code}`;
      throw new UserError(
        "launch",
        `Cannot start the run without a terminal: ${why}${said ? `, and said\n${said}` : ""}`,
      );
    }
    await setTimeout(POLL_MS);
  }
}

function readTold(path: string): Told | undefined {
  if (statIfThere(path) === undefined) return undefined;
  const text = readWholeText(path, { limitBytes: MAX_TOLD_BYTES, followsLink: false });
  const parsed = parseJson(toldSchema, text);
  if (typeof parsed === "string") throw new Error(`what a run tells is another: ${parsed}`);
  return parsed;
}

/** The child of {@link startDetached}, seen from itself. */
export class Detachment {
  readonly #places: Places;
  readonly #warnings: string[] = [];
  #isTold = false;

  constructor(places: Places) {
    this.#places = places;
  }

  /**
   * Runs a guest, and reports when it runs, or that it failed before that.
   *
   * @param run Gets events that also report.
   */
  async telling<T>(events: RunEvents, run: (events: RunEvents) => Promise<T>): Promise<T> {
    let started: StartedRun | undefined;
    try {
      const result = await run({
        ...events,
        onStart: (start) => {
          const { by, logPath, run } = start;
          const outputPath = started?.outputPath ?? nameOutput(this.#places.output, logPath);
          started = { pid: process.pid, run, by, logPath, outputPath };
          events.onStart?.(start);
        },
        onReady: () => {
          if (started !== undefined) this.#tell({ started });
          events.onReady?.();
        },
        onWarning: (text) => {
          if (!this.#isTold) this.#warnings.push(text);
          events.onWarning?.(text);
        },
      });
      // A guest that was gone before QEMU could say that it runs.
      if (started !== undefined) this.#tell({ started });
      return result;
    } catch (error) {
      if (error instanceof UserError) {
        const { kind, message, where, hint } = error;
        this.#tell({ error: { kind, message, where, hint } });
      }
      throw error;
    }
  }

  #tell(what: Omit<Told, "warnings">): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const { told } = this.#places;
    try {
      writeFileSync(`${told}.part`, JSON.stringify({ warnings: this.#warnings, ...what }));
      renameSync(`${told}.part`, told);
    } catch {
      // Nobody waits any more.
    }
  }
}

/** Returns the way to report to a parent; undefined where this process was started by hand. */
export function takeDetachment(): Detachment | undefined {
  const text = process.env[VARIABLE];
  if (text === undefined) return undefined;
  // Not for what is started from here.
  delete process.env[VARIABLE];
  const places = parseJson(placesSchema, text);
  if (typeof places !== "string") return new Detachment(places);
  throw new UserError("usage", `Cannot use the ${VARIABLE} of the environment: ${places}`, {
    hint: "It is for seedstrap itself: unset it",
  });
}
