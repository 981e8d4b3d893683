// SPDX-License-Identifier: MIT
/**
 * The view of a run on a terminal: the console of the guest scrolls by, the last rows say where it
 * is, and keys change what is shown.
 *
 * The area is drawn again with each frame, and no scroll region is set: a terminal is left as it was
 * even where we are killed. Everything goes to standard error, so that it stays in order.
 *
 * @module
 */

import { fstatSync } from "node:fs";
import process from "node:process";
import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConsoleEvent } from "../../console/events.ts";
import { NO_PLAN, type RunState, startOfRun } from "../../console/position.ts";
import type { AttachEvents } from "../../job/attach.ts";
import type { RunEvents, RunStart } from "../../job/run_request.ts";
import type { WatchEvents } from "../../job/watch.ts";
import { type Usage, usageOf } from "../../launch/activity.ts";
import type { RunningChild } from "../../launch/process.ts";
import { guardingTerminal, isForeground } from "../../launch/terminal.ts";
import { counted, onOneLine, printable } from "../../text.ts";
import { savedLine } from "../checkpoint.ts";
import { EventLines, timeNow } from "../run_events.ts";
import { type Line, note, plainLine, warningLines } from "../output.ts";
import {
  canRedraw,
  columnsOf,
  drawStatus,
  eraseStatus,
  redrawScreen,
  type StyledLine,
  terminalColumns,
} from "../status.ts";
import { type Activity, hasRoom, statusRows, type TerminalSize, type ViewState } from "./layout.ts";
import { type ShownRun, STARTED } from "./shown.ts";
import { ConsoleText } from "./text.ts";

/** Time from one frame to the next, where much is printed. */
const FRAME_MS = 100;
/** Time between two frames where nothing is printed: times go on. */
const TICK_MS = 1000;
/** A terminal whose size is being changed is left alone for so long. */
const SETTLE_MS = 100;
/** So much waits at most: while the view is paused, or the terminal is slow. */
const MOST_WAITING_CHARS = 1024 * 1024;
/** So many lines are kept to draw the screen anew: no screen has more rows. */
const MOST_SHOWN = 500;

const STYLES = { rule: "dim", text: "bold", keys: "dim" } as const;

/** Reports whether there is a terminal for the view: one, not two, on which lines are drawn again. */
function canView(): boolean {
  if (!process.stdout.isTTY || !canRedraw()) return false;
  return fstatSync(1).rdev === fstatSync(2).rdev;
}

/**
 * Runs something that starts a guest, with a view of it where there is a terminal for one.
 *
 * @param shown With `quiet`, the view begins without the console.
 * @param events What is told without a view; with one, what the view does not show.
 */
export async function withRunView<T>(
  { json, quiet }: ShownRun,
  events: RunEvents,
  run: (events: RunEvents) => Promise<T>,
): Promise<T> {
  if (json || !canView()) return await run(events);
  let start: RunStart | undefined;
  let view: RunView | undefined;
  try {
    return await run({
      ...events,
      onStart: (told) => {
        start = told;
        events.onStart?.(told);
      },
      onProcess: (guest) => {
        // Not before: sudo may have asked for a password. A guest that has the terminal for itself
        // draws on it.
        if (start?.isInteractive === false) {
          view ??= new RunView(STARTED[start.by], quiet ? "steps" : "console");
        }
        view?.guest(guest);
      },
      ...followed(() => view, events),
      onKeys: (keys) => view?.press(keys),
      onCheckpoint: (saved) =>
        view === undefined ? events.onCheckpoint?.(saved) : view.note(savedLine(saved)),
      onWarning: (text) => view === undefined ? events.onWarning?.(text) : view.warn(text),
      onOutcome: (...outcome) => {
        view?.end();
        events.onOutcome?.(...outcome);
      },
    });
  } finally {
    view?.end();
  }
}

/**
 * Follows a machine that is not started here, with a view of it where there is a terminal for one.
 *
 * @param shown As with {@link withRunView}.
 * @param name The source, for people.
 */
export async function withWatchView(
  shown: ShownRun,
  name: string,
  events: WatchEvents,
  watch: (events: WatchEvents) => Promise<void>,
): Promise<void> {
  await withFollowView(shown, `watching ${name}`, events, watch);
}

/** Shows a run that another process has started, likewise. */
export async function withAttachView(
  shown: ShownRun,
  target: string,
  events: AttachEvents,
  attach: (events: AttachEvents) => Promise<void>,
): Promise<void> {
  await withFollowView(shown, `attached to ${target}`, events, attach);
}

/** @param by What the view says of where it is from. */
async function withFollowView<Start extends unknown[], End extends unknown[]>(
  { json, quiet }: ShownRun,
  by: string,
  events: FollowedEvents<Start, End>,
  follow: (events: FollowedEvents<Start, End>) => Promise<void>,
): Promise<void> {
  if (json || !canView()) return await follow(events);
  let view: RunView | undefined;
  const viewed = (takeKeys: () => void): FollowedEvents<Start, End> => ({
    ...events,
    ...followed(() => view, events),
    drained: async () => {
      if (view?.isBehind === true) await sleep(FRAME_MS);
    },
    onStart: (...start) => {
      events.onStart?.(...start);
      takeKeys();
      view = new RunView(by, quiet ? "steps" : "console");
    },
    onOutcome: (...end) => {
      view?.end();
      events.onOutcome?.(...end);
    },
  });
  try {
    await guardingTerminal(
      false,
      (takeKeys) => follow(viewed(takeKeys)),
      (keys) => view?.press(keys),
    );
  } finally {
    view?.end();
  }
}

/** What {@link WatchEvents} and {@link AttachEvents} have in common. */
type FollowedEvents<Start extends unknown[], End extends unknown[]> =
  & Omit<WatchEvents, "onStart" | "onOutcome">
  & {
    readonly onStart?: (...start: Start) => void;
    readonly onOutcome?: (...end: End) => void;
  };

/** What is followed goes to the view, once there is one. */
function followed(
  view: () => RunView | undefined,
  { onSerial }: Pick<WatchEvents, "onSerial">,
): Required<Pick<RunEvents, "onSerial" | "onState" | "onEvent">> {
  return {
    onSerial: (chunk) => {
      const shown = view();
      if (shown === undefined) onSerial?.(chunk);
      else shown.console(chunk);
    },
    onState: (state) => view()?.state(state),
    onEvent: (event, state) => view()?.event(event, state),
  };
}

/** What the keys do, for those who ask. */
const HELP = [
  "keys  p or space  stop scrolling, and go on; the guest does not stop",
  "      l           the whole console, or a line for each step",
  "      i           type into the guest, where QEMU runs it; Ctrl-] ends that",
  "      q           quit, as Ctrl-C does: an old run asks first",
];

/** Ctrl-]: keys are for seedstrap again, as in telnet. */
const LEAVE = 0x1d;
const ESCAPE = 0x1b;
const QUIT = 0x71;

/** Shows one run, from when its guest starts. Standard output and error are a terminal. */
export class RunView {
  readonly #by: string;
  readonly #text = new ConsoleText();
  /** The last lines that were printed or wait, for a screen that is drawn anew. */
  #shown: string[] = [];
  /** Lines that wait to be printed, and how many more there were. */
  #waiting: string[] = [];
  #waitingChars = 0;
  #lost = 0;
  /** The last lines of the console, while only steps are shown. */
  #unseen: string[] = [];
  #shows: ViewState["shows"];
  readonly #events = new EventLines();
  #isPaused = false;
  #keys: ViewState["keys"] = process.stdin.isTTY ? "view" : "none";
  #run: RunState;
  #guest: RunningChild | undefined;
  #usage: { readonly atMs: number; readonly usage: Usage } | undefined;
  #activity: Activity | undefined;
  #frame: ReturnType<typeof setTimeout> | undefined;
  #drawnMs = -Infinity;
  #settling: ReturnType<typeof setTimeout> | undefined;
  readonly #tick: ReturnType<typeof setInterval>;
  /** Whether the terminal still has to take what it was given. */
  #isFull = false;
  #isOver = false;

  /**
   * @param by How the guest is started: "in QEMU with KVM".
   * @param shows What it shows at first.
   */
  constructor(by: string, shows: ViewState["shows"]) {
    this.#by = by;
    this.#shows = shows;
    this.#run = startOfRun(NO_PLAN, performance.now());
    this.#tick = setInterval(this.#onTick, TICK_MS).unref();
    process.on("SIGWINCH", this.#onResize);
    process.on("SIGTSTP", this.#onStop);
    process.on("SIGCONT", this.#onContinue);
    process.on("exit", eraseStatus);
    this.#plan();
  }

  /** Takes what the guest prints. */
  console(chunk: Uint8Array): void {
    const lines = this.#text.push(chunk);
    if (this.#shows === "steps") this.#unseen = lastOf([...this.#unseen, ...lines]);
    else this.#queue(lines);
    this.#plan();
  }

  /** Whether lines come faster than they are shown, as those of a log that is read. */
  get isBehind(): boolean {
    return !this.#isPaused && this.#waitingChars > MOST_WAITING_CHARS / 4;
  }

  /** Takes where the run is. */
  state(run: RunState): void {
    this.#run = run;
    this.#plan();
  }

  /** Takes an event; without an area, its line is all that says where the run is. */
  event(event: ConsoleEvent, run: RunState): void {
    this.#run = run;
    if (this.#shows === "console" && this.#hasArea()) return;
    if (!isOfSteps(event)) return;
    const lines = this.#events.of(event, run, performance.now());
    this.#queue(lines.map((line) => printable(`${timeNow()} ${line}`)));
    this.#plan();
  }

  /** Takes the process of a guest that has started. */
  guest(guest: RunningChild): void {
    this.#guest = guest;
    this.#usage = undefined;
    this.#sample();
  }

  /** Prints a line of ours at once, also where the view is paused. */
  note(line: Line): void {
    this.#draw();
    note(line);
    this.#shown = lastOf([...this.#shown, printable(plainLine(line))]);
    this.#draw();
  }

  /** Prints a warning at once. */
  warn(text: string): void {
    for (const line of warningLines(text)) this.note(line);
  }

  /** Takes keys. */
  press(keys: Uint8Array): void {
    if (this.#keys !== "guest") {
      // An arrow key and its like are more than one byte; a q among others was pasted, as a rule.
      for (const key of keys[0] === ESCAPE ? [] : keys) {
        if (key !== QUIT || keys.length === 1) this.#obey(String.fromCharCode(key));
      }
    } else {
      const end = keys.indexOf(LEAVE);
      // A terminal has turned CR into LF, and a serial console waits for CR.
      const typed = (end < 0 ? keys : keys.subarray(0, end)).map((key) =>
        key === 0x0a ? 0x0d : key
      );
      if (typed.length > 0) this.#guest?.write?.(typed);
      if (end >= 0) {
        this.#keys = "view";
        this.press(keys.subarray(end + 1));
      }
    }
    this.#plan();
  }

  /** Prints what is left, and gives the terminal back. May be called twice. */
  end(): void {
    if (this.#isOver) return;
    this.#isPaused = false;
    if (this.#text.current !== "" && this.#shows === "console") this.#queue([this.#text.current]);
    this.#isOver = true;
    this.#print();
    clearInterval(this.#tick);
    clearTimeout(this.#frame);
    clearTimeout(this.#settling);
    process.off("SIGWINCH", this.#onResize);
    process.off("SIGTSTP", this.#onStop);
    process.off("SIGCONT", this.#onContinue);
    process.off("exit", eraseStatus);
    eraseStatus();
  }

  #obey(key: string): void {
    switch (key) {
      case "p":
      case " ":
        this.#isPaused = !this.#isPaused;
        break;
      case "l":
        this.#shows = this.#shows === "console" ? "steps" : "console";
        this.#queue(this.#unseen.slice(-(process.stderr.rows || 0)));
        this.#unseen = [];
        break;
      case "i":
        if (this.#guest?.write === undefined) {
          this.note("this guest has no console that takes keys");
        } else {
          this.#keys = "guest";
          this.#isPaused = false;
        }
        break;
      case "q":
        process.kill(process.pid, "SIGINT");
        break;
      case "?":
      case "h":
        for (const line of HELP) this.note(line);
        break;
    }
  }

  #queue(lines: readonly string[]): void {
    for (const line of lines) {
      this.#waiting.push(line);
      this.#waitingChars += line.length + 1;
    }
    let lost = 0;
    while (this.#waitingChars > MOST_WAITING_CHARS) {
      this.#waitingChars -= this.#waiting[lost++]!.length + 1;
    }
    if (lost > 0) this.#waiting.splice(0, lost);
    this.#lost += lost;
  }

  /** Draws soon, unless that is planned. */
  #plan(): void {
    if (this.#isOver || this.#frame !== undefined || this.#settling !== undefined) return;
    const waitMs = Math.max(0, this.#drawnMs + FRAME_MS - performance.now());
    this.#frame = setTimeout(this.#draw, waitMs).unref();
  }

  readonly #draw = (): void => {
    clearTimeout(this.#frame);
    this.#frame = undefined;
    if (!this.#isOver && !this.#isFull && this.#settling === undefined) this.#print();
  };

  /** Prints the lines that wait, and the area after them. */
  #print(): void {
    this.#drawnMs = performance.now();
    // In the background the terminal is another's: it may even stop us for what we print.
    if (!isForeground() && !this.#isOver) return;
    const isHeld = this.#isPaused && this.#hasArea();
    const text = isHeld ? "" : this.#taken().map((line) => `${line}\n`).join("");
    if (drawStatus(this.#area(), text, this.#hasArea())) return;
    this.#isFull = true;
    process.stderr.once("drain", () => {
      this.#isFull = false;
      this.#draw();
    });
  }

  /** Takes the lines that wait; those that came before them are told by their number. */
  #taken(): string[] {
    const lost = this.#lost === 0 ? [] : [`(${counted(this.#lost, "line")} more, not shown)`];
    const lines = [...lost, ...this.#waiting];
    this.#waiting = [];
    this.#waitingChars = this.#lost = 0;
    this.#shown = lastOf([...this.#shown, ...lines]);
    return lines;
  }

  /** The line that has not ended, and the area after it where there is room. */
  #area(): (string | StyledLine)[] {
    if (this.#isOver) return [];
    if (!this.#hasArea()) return [this.#currentLine()];
    const view = {
      by: this.#by,
      run: this.#run,
      nowMs: performance.now(),
      activity: this.#activity,
      shows: this.#shows,
      waitingLines: this.#isPaused ? this.#waiting.length + this.#lost : undefined,
      keys: this.#keys,
      canType: this.#guest?.write !== undefined,
    };
    const rows = statusRows(view, sizeNow());
    return [this.#currentLine(), ...rows.map(({ kind, text }) => ({ text, style: STYLES[kind] }))];
  }

  #hasArea(): boolean {
    return hasRoom(sizeNow());
  }

  /** The line that has not ended: its end, as that is where something happens. */
  #currentLine(): string {
    if (this.#shows === "steps" || this.#isPaused) return "";
    return endOf(onOneLine(this.#text.current), terminalColumns() - 1);
  }

  readonly #onTick = (): void => {
    this.#sample();
    this.#plan();
  };

  /** Looks at what the guest uses, and compares it with the last time. */
  #sample(): void {
    const usage = this.#guest && usageOf(this.#guest.pid);
    const atMs = performance.now();
    const last = this.#usage;
    this.#usage = usage && { atMs, usage };
    if (usage === undefined || last === undefined) this.#activity = undefined;
    else this.#activity = activityOf(last.usage, usage, atMs - last.atMs);
  }

  readonly #onResize = (): void => {
    clearTimeout(this.#frame);
    clearTimeout(this.#settling);
    this.#frame = undefined;
    this.#settling = setTimeout(() => {
      this.#settling = undefined;
      if (!isForeground()) return;
      redrawScreen(this.#shown, this.#area());
      this.#plan();
    }, SETTLE_MS).unref();
  };

  /** Ctrl-Z: the shell prints its prompt where the area is. */
  readonly #onStop = (): void => eraseStatus();

  readonly #onContinue = (): void => {
    eraseStatus();
    this.#plan();
  };
}

/** Cuts a line to its last columns, with an ellipsis where something is missing. */
function endOf(line: string, columns: number): string {
  if (columnsOf(line) <= columns) return line;
  const chars = [...line];
  let left = columns - columnsOf("…");
  while (left >= columnsOf(chars.at(-1)!)) left -= columnsOf(chars.pop()!);
  return `…${line.slice(chars.join("").length)}`;
}

function sizeNow(): TerminalSize {
  return { columns: terminalColumns(), rows: process.stderr.rows || 0 };
}

/** Reports whether it is shown where only steps are: of each there is a line or two. */
function isOfSteps(event: ConsoleEvent): boolean {
  switch (event.kind) {
    case "step-phase":
    case "step-done":
      return false;
    case "checksum":
      return !event.isRight;
    default:
      return true;
  }
}

/** What was used between two times; a process that has ended in between is no less than nothing. */
function activityOf(before: Usage, after: Usage, ms: number): Activity {
  const rate = (from: number, to: number) => Math.max(0, to - from) * 1000 / ms;
  const disk = before.disk && after.disk && {
    readBytes: rate(before.disk.readBytes, after.disk.readBytes),
    writtenBytes: rate(before.disk.writtenBytes, after.disk.writtenBytes),
  };
  return { cpuPercent: rate(before.cpuMs, after.cpuMs) / 10, disk };
}

function lastOf(lines: readonly string[]): string[] {
  return lines.slice(-MOST_SHOWN);
}
