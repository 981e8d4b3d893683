// SPDX-License-Identifier: MIT
/**
 * What the status area of a run shows, for a terminal of a size: text and nothing else.
 *
 * @module
 */

import type { Amount, RunState } from "../../console/position.ts";
import { counted, formatBytes, formatCount, printable } from "../../text.ts";
import { fitting, formatSeconds, type Part } from "../progress.ts";
import { columnsOf, cutTo } from "../status.ts";

/** A terminal with less has no status area. */
export const LEAST_SIZE = { columns: 40, rows: 8 } as const;

/** From so many rows on there is room for the rule, and for the keys. */
const RULE_ROWS = 12;
const KEYS_ROWS = 16;

/** Output that stops for so long is worth a word. */
const SILENT_MS = 60_000;

/** The size of a terminal. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Reports whether there is room for a status area. */
export function hasRoom({ columns, rows }: TerminalSize): boolean {
  return columns >= LEAST_SIZE.columns && rows >= LEAST_SIZE.rows;
}

/** What a guest uses of this machine at the moment. */
export interface Activity {
  /** Of one processor: two that are busy are 200. */
  readonly cpuPercent: number;
  /** Bytes in a second; undefined where the system does not say it. */
  readonly disk: { readonly readBytes: number; readonly writtenBytes: number } | undefined;
}

/** All that the status area shows. */
export interface ViewState {
  /** How the guest was started: "in QEMU with KVM". */
  readonly by: string;
  readonly run: RunState;
  /** On the clock of `run`. */
  readonly nowMs: number;
  readonly activity: Activity | undefined;
  /** Whether the whole console scrolls by, or a line for each step. */
  readonly shows: "console" | "steps";
  /** How many lines wait while the view is paused; undefined where it is not. */
  readonly waitingLines: number | undefined;
  /** Where typed keys go; `none` where there is no terminal to type at. */
  readonly keys: "view" | "guest" | "none";
  /** Whether the guest takes keys. */
  readonly canType: boolean;
}

/** A row of the status area. */
export interface StatusRow {
  readonly kind: "rule" | "text" | "keys";
  /** Printable, and no wider than the terminal less a column. */
  readonly text: string;
}

/**
 * Returns the status area: two to four rows by the height of the terminal; none where it is smaller
 * than {@link LEAST_SIZE}. How many they are depends on the size alone.
 */
export function statusRows(view: ViewState, size: TerminalSize): StatusRow[] {
  if (!hasRoom(size)) return [];
  const { columns, rows } = size;
  const hasRule = rows >= RULE_ROWS;
  // The last column is left free: some terminals go to the next line after it, some do not.
  const width = columns - 1;
  const line = (parts: readonly Part[]): StatusRow => {
    const shown = parts.map((part) => ({ ...part, text: printable(part.text) }));
    return { kind: "text", text: cutTo(fitting(shown, width, "  "), width) };
  };
  const details = [...hasRule ? [] : modeParts(view), ...detailParts(view)];
  return [
    ...hasRule ? [{ kind: "rule" as const, text: rule(view, width) }] : [],
    line(placeParts(view)),
    line(details),
    ...rows >= KEYS_ROWS ? [{ ...line(keyParts(view)), kind: "keys" as const }] : [],
  ];
}

/** A line that parts the area from the console, and says what is unusual. */
function rule(view: ViewState, width: number): string {
  const said = [...modeParts(view), { text: view.by, rank: 1 }];
  const title = fitting(said.map((part) => ({ ...part, text: printable(part.text) })), width, ", ");
  const begin = cutTo(`-- ${title} `, width);
  return begin + "-".repeat(Math.max(0, width - columnsOf(begin)));
}

function modeParts({ waitingLines, keys, shows }: ViewState): Part[] {
  return [
    ...keys === "guest" ? [{ text: "KEYS GO TO THE GUEST", rank: 0 }] : [],
    ...waitingLines === undefined
      ? []
      : [{ text: `PAUSED, ${counted(waitingLines, "line waits", "lines wait")}`, rank: 0 }],
    ...shows === "steps" ? [{ text: "only steps are shown", rank: 2 }] : [],
  ];
}

const KERNELS = { "builder-hex0": "builder-hex0", fiwix: "Fiwix", linux: "Linux" } as const;

function placeParts({ run, nowMs }: ViewState): Part[] {
  const { kernel, remaining } = run;
  const age = formatMs(nowMs - run.beganMs);
  return [
    ...whereParts(run),
    ...kernel === undefined ? [] : [{ text: `on ${KERNELS[kernel]}`, rank: 5 }],
    { text: `${age} since the start`, rank: 6, short: age },
    ...remaining === undefined ? [] : [{ text: timeLeft(remaining), rank: 2 }],
  ];
}

/** Where the run is, in the words that a line can do without last of all. */
function whereParts(run: RunState): Part[] {
  const { imported } = run;
  if (imported !== undefined && !imported.isDone) {
    return [{ text: "payload import", rank: 0 }, ...amountParts(imported)];
  }
  const { step } = run;
  if (step !== undefined) {
    return [
      ...numberParts(run),
      { text: `${step.name} pass ${step.pass}`, rank: 0 },
      ...phasePart(step.phase),
    ];
  }
  switch (run.phase) {
    case "load":
      return [{ text: "loading files", rank: 0 }, ...amountParts(run.load, run.loadWhole)];
    case "stage0":
      return [{ text: "stage0-posix", rank: 0 }];
    case "steps":
      return [{ text: "before the first step", rank: 0 }];
    case "boot":
      return [{ text: "booting", rank: 0 }];
    default:
      return [{ text: "running", rank: 0 }];
  }
}

function numberParts({ step, stepCount }: RunState): Part[] {
  if (step?.number === undefined) return [];
  const of = stepCount === undefined ? "" : ` of ${stepCount}`;
  return [{ text: `step ${step.number}${of}`, rank: 1 }];
}

function phasePart(phase: string | undefined): Part[] {
  return phase === undefined ? [] : [{ text: phase, rank: 4 }];
}

/** How much is done. Where nobody knows the sizes, bytes are 0. */
function amountParts(amount: Amount | undefined, whole?: Amount): Part[] {
  if (amount === undefined) return [];
  const of = whole === undefined ? "" : ` of ${formatCount(whole.files)}`;
  const files = of === "" ? counted(amount.files, "file") : `${formatCount(amount.files)}${of}`;
  return [
    { text: files, rank: 1 },
    ...amount.bytes === 0 ? [] : [{ text: formatBytes(amount.bytes), rank: 4 }],
  ];
}

/** The range in the words of one time where both ends are the same. */
function timeLeft({ fromMs, toMs }: NonNullable<RunState["remaining"]>): string {
  const [from, to] = [formatMs(fromMs), formatMs(toMs)];
  return from === to ? `about ${to} left` : `${from} to ${to} left`;
}

function detailParts({ run, nowMs, activity }: ViewState): Part[] {
  const { right, wrong } = run.checksums;
  const silentMs = nowMs - run.lastOutputMs;
  return [
    ...run.stepBeganMs === undefined
      ? []
      : [{ text: `${formatMs(nowMs - run.stepBeganMs)} in this step`, rank: 1 }],
    ...wrong === 0 ? [] : [{ text: `${counted(wrong, "checksum")} WRONG`, rank: 0 }],
    ...silentMs < SILENT_MS ? [] : [{ text: `silent for ${formatMs(silentMs)}`, rank: 1 }],
    ...activity === undefined
      ? []
      : [{ text: `CPU ${Math.round(activity.cpuPercent)} %`, rank: 2 }, ...diskParts(activity)],
    ...right === 0 ? [] : [{
      text: `${counted(right, "checksum")} right`,
      rank: 3,
      short: `${formatCount(right)} right`,
    }],
  ];
}

function diskParts({ disk }: Activity): Part[] {
  if (disk === undefined) return [];
  const rate = (bytes: number) => `${formatBytes(Math.round(bytes))}/s`;
  return [
    { text: `writes ${rate(disk.writtenBytes)}`, rank: 4 },
    { text: `reads ${rate(disk.readBytes)}`, rank: 5 },
  ];
}

function keyParts({ keys, canType, shows, waitingLines }: ViewState): Part[] {
  switch (keys) {
    case "none":
      return [{ text: "Ctrl-C quits", rank: 0 }];
    case "guest":
      return [{ text: "Ctrl-] keys go to seedstrap again", rank: 0 }];
    case "view":
      return [
        { text: waitingLines === undefined ? "p pause" : "p go on", rank: 1 },
        { text: shows === "console" ? "l only steps" : "l whole console", rank: 2 },
        ...canType ? [{ text: "i type into the guest", rank: 4, short: "i type" }] : [],
        { text: "q quit", rank: 1 },
        { text: "? help", rank: 0 },
      ];
  }
}

function formatMs(ms: number): string {
  return formatSeconds(Math.max(0, ms) / 1000);
}
