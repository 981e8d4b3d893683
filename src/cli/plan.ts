// SPDX-License-Identifier: MIT
/** `seedstrap plan`: shows what would be built, before anything is downloaded or written. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { basename } from "node:path";
import process from "node:process";
import { planBuild } from "../job/build.ts";
import { limitError } from "../job/check.ts";
import { shellQuote } from "../launch/process.ts";
import { brokenLimits, neededDistfiles, planCommand } from "../plan/plan.ts";
import type { Limit } from "../plan/limits.ts";
import { MIB } from "../format/segment.ts";
import {
  BOOT_IMAGE,
  PAYLOAD_IMAGE,
  type Place,
  type Plan,
  type PlannedDistfile,
} from "../plan/types.ts";
import { printJson } from "./json.ts";
import { parsePlanRequest, planCommandBase } from "./options.ts";
import {
  columnsOf,
  formatBytes,
  formatCount,
  formatTable,
  type Line,
  paint,
  Painted,
  print,
  warn,
  warningLines,
} from "./output.ts";

export function planSubcommand(): CommandUnknownOpts {
  return planCommandBase("plan")
    .summary("show what would be built, and how near it comes to every limit")
    .description("show what would be built and how near it comes to every limit")
    .option("-t, --target <dir>", "where the media would go", "target")
    .option("--force", "exit with 0 although the plan breaks a limit")
    .option("--all", "list every distfile, every limit, and what the overlay changes")
    .option("--json", "for scripts, with every entry")
    .addHelpText(
      "after",
      `
Example:
  seedstrap plan --qemu --external-sources -m file:///srv/distfiles --tree live-bootstrap`,
    )
    .action(async (raw) => {
      const { plan } = await planBuild(parsePlanRequest(raw));
      const view = { all: raw.all === true, columns: columnsOf(process.stdout) };
      if (raw.json) printJson(planAsJson(plan, raw.target));
      else for (const line of planAsText(plan, raw.target, view)) print(line);
      const broken = brokenLimits(plan);
      if (broken.length === 0) return;
      if (!raw.force) throw limitError(broken);
      warn("--force: going on although the plan breaks a limit");
    });
}

/** Returns a plan as data for scripts. */
function planAsJson(plan: Plan, target: string): Record<string, unknown> {
  return {
    options: plan.options,
    config: plan.config,
    payload: { present: plan.hasPayload, reason: plan.payloadReason, ...plan.restore },
    distfiles: plan.distfiles,
    entries: plan.entries.map(({ path, size, content }) => ({ path, size, origin: content.kind })),
    limits: plan.limits,
    images: plan.images,
    ...(plan.disk && {
      disk: {
        ...plan.disk,
        entries: plan.disk.entries.map(({ path, size }) => ({ path, size })),
      },
    }),
    command: planCommand(plan, target) ?? null,
    overlay: plan.overlay,
    advice: plan.advice,
    warnings: plan.warnings,
  };
}

/** How much of a plan is shown, and where. */
export interface PlanView {
  /** Every distfile, limit and file of the overlay, and not a summary that fits a screen. */
  readonly all: boolean;
  /** Width that tables have to fit; unlimited if absent. */
  readonly columns?: number;
}

/** Returns a plan as lines of text. */
export function planAsText(
  plan: Plan,
  target: string,
  { all, columns = Infinity }: PlanView,
): Line[] {
  // Lines are indented, and again where they go on.
  const inner = columns - 2 * INDENT.length;
  const section = (title: string, lines: readonly (string | Painted)[]): Line[] => [
    paint("bold", title),
    ...lines.flatMap((line): Line[] =>
      line instanceof Painted
        ? [[INDENT, line]]
        : folded(line, inner).map((part) => `${INDENT}${part}`)
    ),
    ...(all ? [""] : []),
  ];
  const gap = all ? [""] : [];
  return [
    ...section("Distfiles", distfileLines(plan, all, inner)),
    ...section(plan.images.length === 0 ? "Target" : "Images", mediaLines(plan, all)),
    ...(plan.limits.length === 0 ? [] : section("Limits", [
      ...(all ? limitTable(plan, inner) : limitSummary(plan, inner)),
      ...unknownLines(plan),
    ])),
    ...section("Overlay", all ? overlayLines(plan) : [overlaySummary(plan)]),
    // A command is one line, to be copied.
    paint("bold", "Start"),
    `${INDENT}${startLine(plan, target)}`,
    ...plan.advice.flatMap((advice) => [...gap, [paint("cyan", "note:"), ` ${advice}`]]),
    ...plan.warnings.flatMap((warning) => [...gap, ...warningLines(warning)]),
    ...(all ? [] : ["--all lists every distfile, every limit, and what the overlay changes"]),
  ];
}

const INDENT = "  ";

/** Cuts a line between words where it is too wide; what follows is indented. */
function folded(line: string, columns: number): string[] {
  return formatTable([[line]], "l", columns)
    .map((part, index) => index === 0 ? part : `${INDENT}${part}`);
}

function startLine(plan: Plan, target: string): string {
  const command = planCommand(plan, target);
  if (command !== undefined) return shellQuote(command);
  const drives = plan.images.join(" and ");
  return plan.start === "disk"
    ? `write ${drives} to a drive, and boot ${plan.options.kernel} with it`
    : `write ${drives} to a drive each, and boot from the first`;
}

const PLACES: readonly (readonly [Place, string])[] = [
  ["boot", "in the boot image"],
  ["payload", "in the payload image"],
  ["external", "on the second disk only"],
  ["network", "from the network, by the booted machine"],
];

function distfileLines(plan: Plan, all: boolean, columns: number): string[] {
  return PLACES.flatMap(([place, where]) => {
    const files = plan.distfiles.filter((distfile) => distfile.place === place);
    if (files.length === 0) return [];
    const here = place !== "boot" || plan.start === "builder-hex0"
      ? where
      : plan.start === "disk"
      ? "on the disk"
      : "in the directory";
    const sum = `${files.length} ${here}, ${amount(files)}`;
    return all ? [sum, ...distfileTable(files, columns)] : [sum];
  });
}

function distfileTable(files: readonly PlannedDistfile[], columns: number): string[] {
  const rows = files.map(({ name, size, why, restored }) => [
    name,
    size === null ? "?" : formatBytes(size),
    restored === "disk" ? `${why}; restored after jump: move_disk` : why,
  ]);
  const inner = columns - INDENT.length;
  return fits(rows, "lrl", inner, ([name, size, why]) => [size!, `${name}: ${why}`], "rl")
    .map((line) => `${INDENT}${line}`);
}

/** Formats rows as a table, and on a narrow terminal other ones, with fewer columns. */
function fits(
  rows: readonly string[][],
  align: string,
  columns: number,
  narrow: (row: string[]) => string[],
  narrowAlign: string,
): string[] {
  const lines = formatTable(rows, align);
  return lines.every(({ length }) => length <= columns)
    ? lines
    : formatTable(rows.map(narrow), narrowAlign, columns);
}

/** Formats the total size of some files, and says how many sizes are unknown. */
function amount(files: readonly PlannedDistfile[]): string {
  const unknown = files.filter(({ size }) => size === null).length;
  const known = formatBytes(files.reduce((sum, { size }) => sum + (size ?? 0), 0));
  return unknown === 0 ? known : `${known} and ${unknown} of unknown size until they are fetched`;
}

function mediaLines(plan: Plan, all: boolean): string[] {
  const size = plan.options.targetSizeMib;
  if (plan.start === "directory") return [`a directory: ${contentOf(plan.entries)}`];
  const disk = plan.disk === undefined ? [] : [
    `${plan.disk.name}: ${contentOf(plan.disk.entries)}, ext3 from ` +
    `${formatBytes(plan.disk.partitionMib * MIB)} on, on a disk of ` +
    formatBytes(plan.disk.sizeMib * MIB),
  ];
  if (plan.start === "disk") return disk;
  const payload = plan.distfiles.filter(({ place }) => place === "payload");
  return [
    `${BOOT_IMAGE}: ${contentOf(plan.entries)}` +
    (size > 0 ? `, on a disk of ${formatBytes(size * MIB)}` : ""),
    ...disk,
    plan.hasPayload
      ? `${PAYLOAD_IMAGE}: ${payload.length} files, ${amount(payload)}, layout ` +
        `${plan.restore?.layout} (${plan.payloadReason})`
      : `no payload image: ${plan.payloadReason}`,
    ...restoreLines(plan).slice(0, all ? undefined : 1),
  ];
}

function contentOf(entries: Plan["entries"]): string {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  return `${formatCount(entries.length)} entries, ${formatBytes(bytes)}`;
}

/** Says where the payload is restored, with the arithmetic that decides it. */
function restoreLines({ restore, distfiles }: Plan): string[] {
  if (restore === undefined) return [];
  const part = (where: "fiwix" | "disk") => {
    const files = distfiles.filter(({ restored }) => restored === where);
    return `${files.length} files, ${amount(files)}`;
  };
  const lines = [
    restore.phases === 1
      ? `restored at once after jump: fiwix: ${part("fiwix")}`
      : `restored after jump: fiwix: ${part("fiwix")}; after jump: move_disk: ${part("disk")}`,
  ];
  for (const [name, title] of [["ramdisk", "Fiwix"], ["kexec", "kexec"]] as const) {
    const sum = restore.inOneGo?.[name];
    if (sum === undefined) continue;
    const verdict = sum.used + sum.expected <= sum.limit ? "fits" : "does not fit";
    lines.push(
      `  at once: ${formatBytes(sum.used)} + ~${formatBytes(sum.expected)} of ` +
        `${formatBytes(sum.limit)} on the ${title} ramdisk: ${verdict}`,
    );
  }
  if (restore.obstacle !== undefined) lines.push(`  not in two phases: ${restore.obstacle}`);
  return lines;
}

/** Names the limits that are broken or near, and the nearest of the others. */
function limitSummary({ limits }: Plan, columns: number): (string | Painted)[] {
  const notable = limits.filter(({ broken, near }) => broken || near);
  const others = limits.filter((limit) => !notable.includes(limit));
  const share = ({ used, expected, limit }: Limit) => (used + expected) / limit;
  const [nearest] = others.filter((limit) => !isFloor(limit)).sort((a, b) => share(b) - share(a));
  const count = notable.length > 0
    ? `the ${others.length} others hold`
    : `all ${others.length} hold`;
  return [
    ...limitRows(notable, columns),
    nearest === undefined ? count : `${count}; the nearest is ${limitFigures(nearest)}`,
  ];
}

function limitState({ broken, near }: Limit): string {
  return broken ? "BROKEN" : near ? "near" : "ok";
}

function limitText(limit: Limit): string {
  return limitFigures(limit) + (limit.note === undefined ? "" : ` (${limit.note})`);
}

function limitFigures(limit: Limit): string {
  const { title, used, expected, unit } = limit;
  return `${title}: ${figure(used, unit)}` +
    (expected > 0 ? ` + ~${figure(expected, unit)}` : "") +
    `${isFloor(limit) ? ", at least" : " of"} ${figure(limit.limit, unit)}`;
}

function limitPaint(line: string, { broken, near }: Limit): string | Painted {
  return broken ? paint("red", line) : near ? paint("yellow", line) : line;
}

function limitTable({ limits }: Plan, columns: number): (string | Painted)[] {
  const rows = limits.map((limit) => [
    limitState(limit),
    limit.title,
    figure(limit.used, limit.unit),
    limit.expected > 0 ? `+ ~${figure(limit.expected, limit.unit)}` : "",
    isFloor(limit) ? "at least" : "of",
    figure(limit.limit, limit.unit),
    limit.note === undefined ? "" : `(${limit.note})`,
  ]);
  const lines = formatTable(rows, "llrrlrl");
  if (lines.every(({ length }) => length <= columns)) {
    return lines.map((line, index) => limitPaint(line, limits[index]!));
  }
  return limitRows(limits, columns);
}

/** Returns limits as lines of text, with their state before them. */
function limitRows(limits: readonly Limit[], columns: number): (string | Painted)[] {
  return limits.flatMap((limit) =>
    formatTable([[limitState(limit), limitText(limit)]], "ll", columns)
      .map((line) => limitPaint(line, limit))
  );
}

/** Says how many sizes are unknown, in which case the figures are lower bounds. */
function unknownLines(plan: Plan): string[] {
  const count = neededDistfiles(plan).filter(({ size }) => size === null).length;
  if (count === 0) return [];
  return [`sizes that are not known yet: ${count}; a build checks again when it has the files`];
}

function isFloor({ id }: Limit): boolean {
  return id === "memory" || id === "disk";
}

function figure(value: number, unit: Limit["unit"]): string {
  return unit === "bytes"
    ? formatBytes(value)
    : formatCount(value) + (unit === "MiB" ? " MiB" : "");
}

function overlaySummary({ overlay, tree }: Plan): string {
  const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;
  return `${count(overlay.files.length, "file")} only in the image, ` +
    `${count(overlay.manifestLines.length, "line")} added to the manifest; ` +
    `${basename(tree)} is not modified`;
}

function overlayLines(plan: Plan): string[] {
  const { files, manifestLines, madeAgain } = plan.overlay;
  return [
    `files that exist only in the image: ${files.join(", ")}`,
    ...(manifestLines.length === 0 ? ["the manifest is that of the checkout"] : []),
    ...manifestLines.map(({ text, place }) => `manifest, ${place}: ${text}`),
    ...(madeAgain.length === 0
      ? []
      : [`empty, and made again after jump: fiwix: ${madeAgain.join(", ")}`]),
    `tree: ${basename(plan.tree)}, not modified`,
  ];
}
