// SPDX-License-Identifier: MIT
/**
 * What processes have used of this machine so far, from /proc.
 *
 * @module
 */

import { readdirSync, readFileSync } from "node:fs";

/** What a process and those that descend from it have used since they began. */
export interface Usage {
  /** Time on the processors, in milliseconds: of two cores it grows twice as fast as the clock. */
  readonly cpuMs: number;
  /** Bytes read from disks and written to them; undefined where the system does not say it. */
  readonly disk: { readonly readBytes: number; readonly writtenBytes: number } | undefined;
}

/** Length of a tick of /proc/PID/stat: USER_HZ, 100 on all but Alpha and Itanium. */
const TICK_MS = 10;

/** More processes than a bootstrap has; as many are looked at. */
const MOST_PROCESSES = 1000;

/**
 * Returns what a process has used, and its descendants; undefined where it is gone, or there is no
 * such /proc here.
 *
 * A process that has ended is counted by its parent, once that has waited for it.
 */
export function usageOf(pid: number): Usage | undefined {
  const pids = familyOf(pid);
  const ticks = pids.map(ticksOf);
  if (ticks[0] === undefined) return undefined;
  const disks = pids.map(diskOf).filter((disk) => disk !== undefined);
  return {
    cpuMs: TICK_MS * ticks.reduce<number>((sum, some) => sum + (some ?? 0), 0),
    disk: disks.length === 0 ? undefined : {
      readBytes: disks.reduce((sum, { readBytes }) => sum + readBytes, 0),
      writtenBytes: disks.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0),
    },
  };
}

/** Fields 14 to 17 of proc(5)'s /proc/PID/stat: user and system time, also of waited children. */
function ticksOf(pid: number): number | undefined {
  const stat = contentOf(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The name, field 2, may have spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
}

function diskOf(pid: number): Usage["disk"] {
  const io = contentOf(`/proc/${pid}/io`);
  const field = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(io!)?.[1] ?? 0);
  if (io === undefined) return undefined;
  return { readBytes: field("read_bytes"), writtenBytes: field("write_bytes") };
}

/** The process itself, first, and its descendants. */
function familyOf(pid: number): number[] {
  const family = [pid];
  for (let at = 0; at < family.length && family.length < MOST_PROCESSES; at++) {
    for (const thread of threadsOf(family[at]!)) {
      const children = contentOf(`/proc/${family[at]}/task/${thread}/children`);
      family.push(...(children ?? "").split(" ").filter((word) => word !== "").map(Number));
    }
  }
  return family;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Returns undefined for a process that is gone, or that belongs to another user. */
function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
