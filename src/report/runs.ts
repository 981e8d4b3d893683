// SPDX-License-Identifier: MIT
/**
 * The runs of a target: how each ended and why, and what it did when.
 *
 * @module
 */

import { MIB } from "../format/segment.ts";
import type { RecordedEvents, Starter } from "../record/events.ts";
import type { RecordedRun } from "../record/run.ts";
import { counted, formatBytes } from "../text.ts";
import { type Html, markup } from "./html.ts";
import type { Placement } from "./places.ts";
import { kernelTimes, type Span, type Timeline, timelineOf } from "./timeline.ts";
import { badge, facts, folded, formatMs, formatTime, type Tone } from "./words.ts";

/** A run of the target. */
export interface ReportedRun {
  /** Its number; its files begin with it. */
  readonly number: number;
  readonly run: RecordedRun;
  /** Its events, where they were recorded. */
  readonly history: RecordedEvents | undefined;
}

type Verdict = RecordedRun["verdict"];

const TONES: Readonly<Record<Verdict, Tone>> = {
  done: "good",
  failed: "bad",
  interrupted: "warn",
  paused: "warn",
  unknown: "warn",
  running: "plain",
};

const BY: Readonly<Record<Starter, string>> = {
  kvm: "QEMU with KVM",
  hvf: "QEMU with HVF",
  tcg: "QEMU under TCG",
  chroot: "chroot",
  bwrap: "bwrap",
  podman: "podman",
  docker: "docker",
};

/** The verdict on a run as a word in a colour. */
export function verdictBadge({ verdict }: Pick<RecordedRun, "verdict">): Html {
  return badge(TONES[verdict], verdict === "running" ? "not over" : verdict);
}

/** The time from the beginning of a run to its end; undefined where no end is known. */
export function durationMs(
  { began, ended }: Pick<RecordedRun, "began" | "ended">,
): number | undefined {
  if (ended === undefined) return undefined;
  return Math.max(0, Date.parse(ended) - Date.parse(began));
}

/** All runs, the newest first; only that one is open. */
export function runStories(runs: readonly ReportedRun[], places: Placement): Html {
  const [last, ...earlier] = runs.toSorted((a, b) => b.number - a.number);
  if (last === undefined) {
    return markup`<p class="empty">It was never run, or no run of it is recorded here.</p>`;
  }
  return markup`<article class="run"><h3>Run ${last.number} ${verdictBadge(last.run)}</h3>${
    story(last, places)
  }</article>${
    earlier.map((run) =>
      folded(
        markup`<strong>Run ${run.number}</strong> ${verdictBadge(run.run)} <span class="note">${
          formatTime(run.run.began)
        }</span>`,
        story(run, places),
      )
    )
  }`;
}

function story({ number, run, history }: ReportedRun, places: Placement): Html {
  const { began, ended, lastStep, lines, cause } = run;
  const tookMs = durationMs(run);
  const timeline = history === undefined ? undefined : timelineOf(history.events);
  const { by, machine, steps } = history?.header ?? {};
  const again = timeline?.restart;
  return markup`${explanation(run)}${cause !== undefined && causeText(cause)}${
    facts([
      ["began", formatTime(began)],
      ["ended", ended === undefined ? undefined : formatTime(ended)],
      ["took", tookMs === undefined ? undefined : formatMs(tookMs)],
      ["last step", lastStep],
      ["started by", by && BY[by]],
      ["again from its start", again && `${BY[again.by]}, at ${formatMs(again.ms)}`],
      ["processor", machine?.cpu],
      [
        "guest",
        machine && `${counted(machine.cores, "core")}, ${formatBytes(machine.memoryMib * MIB)}`,
      ],
      ["log", markup`<code>.seedstrap/runs/<wbr>${number}.log</code>`],
    ])
  }${
    lines.length > 0 &&
    markup`<h4 id="lines-${number}">The lines that matter</h4><pre class="console" tabindex="0" role="region" aria-labelledby="lines-${number}">${
      lines.map((line) => markup`${line}\n`)
    }</pre>`
  }${
    timeline === undefined
      ? markup`<p class="note">When its steps began is not recorded.</p>`
      : drawn(timeline, run, [number, steps], places)
  }`;
}

/** Why a run ended, as a sentence, and what may follow that. */
export function explanation({ verdict, why, lastStep }: RecordedRun, more?: Html): Html {
  const at = lastStep === undefined ? "" : ` in ${lastStep}`;
  const said: Readonly<Record<Verdict, Html>> = {
    done: markup`It came to its end: ${why}.`,
    failed: markup`It failed${at}: <strong>${why}</strong>.`,
    interrupted: markup`It was ended from outside${at}: ${why}.`,
    paused: markup`It was saved${at}, to go on later: ${why}.`,
    unknown: markup`Nobody can tell how it ended: ${why}.`,
    running: markup`It is not over, or seedstrap was killed.`,
  };
  return markup`<p class="why ${TONES[verdict]}">${said[verdict]}${more}</p>`;
}

function causeText({ text, tries }: NonNullable<RecordedRun["cause"]>): Html {
  return markup`<h4>The likely cause</h4><p>${text}</p>${
    tries.length > 0 &&
    markup`<p>What to try:</p><ul>${tries.map((what) => markup`<li>${what}</li>`)}</ul>`
  }`;
}

/** The parts and steps of a run, each with a bar on the time of the whole run. */
function drawn(
  timeline: Timeline,
  run: RecordedRun,
  [number, stepCount]: readonly [number, number | undefined],
  places: Placement,
): Html {
  const { spans, wholeMs, leftOut } = timeline;
  if (spans.length === 0) return markup`<p class="note">None of its steps was seen.</p>`;
  const steps = spans.filter(({ pass }) => pass !== undefined);
  const of = stepCount === undefined ? "" : ` of ${stepCount}`;
  const longest = longestOf(steps);
  const kernels = kernelTimes(timeline).map(({ name, ms }) => `${name} ran ${formatMs(ms)}`);
  return markup`<h4>Step by step</h4><p class="note">${counted(steps.length, "step")}${of} in ${
    formatMs(wholeMs)
  }${
    longest !== undefined &&
    `; the longest is ${titleOf(longest)} with ${formatMs(tookMs(longest))}`
  }.${
    kernels.length > 0 && ` ${kernels.join(", ")}.`
  }</p><table class="timeline" id="timeline-${number}"><caption class="unseen">Steps of run ${number} with their times</caption><thead><tr><th scope="col">Step</th><th scope="col" class="bar-head">From the beginning to ${
    formatMs(wholeMs)
  }</th><th scope="col" class="number">At</th><th scope="col" class="number">Took</th></tr></thead><tbody>${
    spans.map((span, index) =>
      row(span, {
        wholeMs,
        places,
        hasFailed: run.verdict === "failed" && index === spans.length - 1,
      })
    )
  }</tbody></table>${
    leftOut > 0 && markup`<p class="note">${counted(leftOut, "more")} are left out.</p>`
  }`;
}

function tookMs({ beganMs, endedMs }: Span): number {
  return endedMs - beganMs;
}

/** The step that took longest, where there are several. */
function longestOf(steps: readonly Span[]): Span | undefined {
  if (steps.length < 2) return undefined;
  return steps.reduce((a, b) => tookMs(b) > tookMs(a) ? b : a);
}

function titleOf({ name, pass }: Span): string {
  return `${name} pass ${pass}`;
}

function row(
  span: Span,
  { wholeMs, places, hasFailed }: {
    readonly wholeMs: number;
    readonly places: Placement;
    readonly hasFailed: boolean;
  },
): Html {
  const { name, pass, beganMs, state, notes, faults, marks } = span;
  const isBad = hasFailed || faults.length > 0;
  const whole = wholeMs || 1;
  const bar = places.put({ x: beganMs / whole, y: 0, width: tookMs(span) / whole, height: 1 });
  const kind = isBad ? "bad" : pass === undefined ? "part" : state;
  return markup`<tr class="${kind}"><th scope="row">${name}${
    pass !== undefined && markup` <small>pass ${pass}</small>`
  }${isBad && markup` ${badge("bad", "failed")}`}${
    !isBad && state === "open" && markup` <small>last seen</small>`
  }${notes.length > 0 && markup` <small>${pass !== undefined && "· "}${notes.join(", ")}</small>`}${
    faults.map((
      fault,
    ) => markup`<small class="more fault">${fault}</small>`)
  }${
    marks.map(({ ms, kind, name }) =>
      markup`<small class="more mark">${kind === "jump" ? `jump: ${name}` : `${name} runs`} <span>${
        formatMs(ms)
      }</span></small>`
    )
  }</th><td class="bar" aria-hidden="true"><div><i id="${bar}"></i>${
    marks.map(({ ms }) =>
      markup`<b id="${places.put({ x: ms / whole, y: 0, width: 0, height: 1 })}"></b>`
    )
  }</div></td><td class="number">${formatMs(beganMs)}</td><td class="number">${
    formatMs(tookMs(span))
  }</td></tr>`;
}
