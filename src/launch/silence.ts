// SPDX-License-Identifier: MIT
/**
 * Notices that a guest has been silent for too long.
 *
 * Only the console counts. What a guest does besides cannot be told from a stall: one that hangs in
 * a loop uses the whole CPU, like one that compiles, and one that waits for a disk uses none. What
 * QEMU has used of the CPU is told, so that a reader can judge.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { UserError } from "../errors.ts";

/** Watches for silence; {@link stop} it. */
export interface Silence {
  /** Aborted after the silence, with {@link error} as its reason. */
  readonly signal: AbortSignal;
  /** The error, once it has been silent for so long. */
  readonly error: UserError | undefined;
  /** The console has printed something. */
  heard(): void;
  /** The process that runs the guest is this one. */
  follow(pid: number): void;
  stop(): void;
}

/** The unit of the times in /proc, which is 1/100 s on every Linux that there is. */
const TICK_MS = 10;
/** How often it looks, in milliseconds, at most and at least. */
const MAX_LOOK_MS = 30_000;
const MIN_LOOK_MS = 100;
/** Who looks so much later than that was itself stopped, or this host was asleep. */
const STOPPED_MS = 5000;

/**
 * Begins to watch.
 *
 * @param limitMs The silence that is too long, in milliseconds; undefined for none.
 */
export function watchSilence(limitMs: number | undefined): Silence {
  const everyMs = Math.min(Math.max((limitMs ?? 0) / 20, MIN_LOOK_MS), MAX_LOOK_MS);
  const controller = new AbortController();
  let error: UserError | undefined;
  let pid: number | undefined;
  let isNew = true;
  let heardMs = performance.now();
  let usedMs: number | undefined;
  let lookedMs = heardMs;
  const look = () => {
    const now = performance.now();
    if (now - lookedMs > everyMs + STOPPED_MS) heardMs = now;
    lookedMs = now;
    if (isNew) {
      usedMs = pid === undefined ? undefined : cpuMsOf(pid);
      isNew = false;
    }
    if (error !== undefined || now - heardMs < limitMs!) return;
    const used = pid === undefined || usedMs === undefined ? undefined : cpuMsOf(pid);
    const cpu = used === undefined ? undefined : used - usedMs!;
    error = new UserError("stall", stallText(limitMs!, cpu));
    controller.abort(error);
  };
  const timer = limitMs === undefined ? undefined : setInterval(look, everyMs);
  return {
    signal: controller.signal,
    get error() {
      return error;
    },
    heard: () => {
      heardMs = performance.now();
      isNew = true;
    },
    follow: (process) => pid = process,
    stop: () => clearInterval(timer),
  };
}

/** A guest that uses less of a CPU than this waits for something. */
const IDLE_SHARE = 0.02;

function stallText(limitMs: number, cpuMs: number | undefined): string {
  const seconds = (ms: number) => `${Number((ms / 1000).toPrecision(3))} s`;
  const silent = `the console has been silent for ${seconds(limitMs)} (--stall)`;
  if (cpuMs === undefined) return silent;
  const did = cpuMs < limitMs * IDLE_SHARE
    ? "the guest waited, and did not compute"
    : "the guest computed, or went round in a loop";
  return `${silent}; QEMU used ${seconds(cpuMs)} of the CPU in that time: ${did}`;
}

/** CPU time that a process has used, in milliseconds; undefined where the system does not tell. */
function cpuMsOf(pid: number): number | undefined {
  try {
    // Its name, in brackets, may have anything in it.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return undefined;
  }
}
