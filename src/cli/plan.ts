// SPDX-License-Identifier: MIT
/** `seedstrap plan`: shows what would be built, before anything is downloaded or written. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { basename } from "node:path";
import process from "node:process";
import { mirrorWarnings, planBuild } from "../job/build.ts";
import { checkLimits, checkMissing, checkTargetDirectory } from "../job/check.ts";
import { shellQuote } from "../launch/process.ts";
import { ROOT_PLACES } from "../plan/directory.ts";
import { continuesPass } from "../plan/options.ts";
import { neededDistfiles, planCommand } from "../plan/plan.ts";
import { countUnknown, formatAmount, isFloor, type Limit, limitState } from "../plan/limits.ts";
import { isReachable } from "../plan/reach.ts";
import { payloadFiles } from "../plan/restore.ts";
import { MIB } from "../format/segment.ts";
import {
  BOOT_IMAGE,
  CONTAINER_IMAGE,
  type DiskPart,
  PAYLOAD_IMAGE,
  type Place,
  type Plan,
  type PlannedDistfile,
} from "../plan/types.ts";
import { printJson } from "./json.ts";
import { parsePlanRequest, planCommandBase } from "./options.ts";
import {
  adviceLine,
  counted,
  formatBytes,
  formatTable,
  type Line,
  paint,
  Painted,
  print,
  warn,
  warningLines,
  widthOf,
} from "./output.ts";

export function planSubcommand(): CommandUnknownOpts {
  return planCommandBase("plan")
    .summary("show what would be built, and how near it comes to every limit")
    .description("show what would be built and how near it comes to every limit")
    .option("-t, --target <dir>", "where the media would go", "target")
    .option("--force", "exit with 0 although the plan breaks a limit or files are missing")
    .option("--all", "list every distfile, every limit, and what the overlay changes")
    .option("--json", "for scripts, with every entry")
    .addHelpText(
      "after",
      `
Example:
  seedstrap plan --qemu --external-sources -m file:///srv/distfiles --tree live-bootstrap`,
    )
    .action(async (raw) => {
      const job = await planBuild(parsePlanRequest(raw));
      const { tree } = job;
      const plan = { ...job.plan, warnings: [...mirrorWarnings(job), ...job.plan.warnings] };
      checkTargetDirectory(raw.target, tree);
      const view = { all: raw.all === true, columns: widthOf(process.stdout) };
      if (raw.json) printJson(planAsJson(plan, raw.target));
      else for (const line of planAsText(plan, raw.target, view)) print(line);
      checkMissing(plan, raw.force === true, { onNotice: warn });
      checkLimits(plan, raw.force === true, { onNotice: warn });
    });
}

/** Returns a plan as data for scripts. */
function planAsJson(plan: Plan, target: string): Record<string, unknown> {
  return {
    options: plan.options,
    config: plan.config,
    payload: {
      present: plan.hasPayload,
      reason: plan.payloadReason,
      ...plan.restore,
      ...(plan.extras && {
        extras: plan.extras.map(({ name, origin, size, to }) => ({ name, origin, size, to })),
      }),
    },
    distfiles: plan.distfiles,
    tls: plan.tls ?? null,
    downloads: plan.downloads,
    entries: plan.entries.map(({ path, size, content }) => ({ path, size, origin: content.kind })),
    limits: plan.limits,
    images: plan.images,
    ...(plan.oneDisk && { oneDisk: plan.oneDisk }),
    ...(plan.disk && {
      disk: {
        ...plan.disk,
        entries: plan.disk.entries.map(({ path, size }) => ({ path, size })),
      },
    }),
    command: planCommand(plan, target) ?? null,
    overlay: plan.overlay,
    missing: plan.missing,
    untracked: plan.untracked,
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
    ...section("Distfiles", [
      ...distfileLines(plan, all, inner),
      ...(all ? downloadLines(plan) : []),
    ]),
    ...section(plan.images.length === 0 ? "Target" : "Images", mediaLines(plan, all, inner)),
    ...(plan.limits.length === 0 ? [] : section(
      "Limits",
      all ? [...limitTable(plan, inner), ...unknownLines(plan)] : limitSummary(plan, inner),
    )),
    ...section("Overlay", all ? overlayLines(plan) : [overlaySummary(plan)]),
    // A command is one line, to be copied.
    paint("bold", "Start"),
    `${INDENT}${startLine(plan, target)}`,
    ...plan.advice.flatMap((advice) => [...gap, adviceLine(advice)]),
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
    : plan.images.length === 1
    ? `write ${drives} to a drive, and boot from it`
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
    const here = place === "payload" && plan.oneDisk !== undefined
      ? "in the payload on the boot disk"
      : place === "boot"
      ? ROOT_PLACES[plan.start]
      : where;
    const sum = `${files.length} ${here}, ${amount(files)}`;
    return all ? [sum, ...distfileTable(files, columns)] : [sum];
  });
}

/** Counts what the machine would download, by when it can and from where. */
function downloadLines({ distfiles, downloads, tls }: Plan): string[] {
  if (downloads.length === 0) return [];
  const left = new Set(
    distfiles.filter(({ place }) => place === "network").map(({ name }) => name),
  );
  const rows = (["before TLS", "after TLS"] as const).flatMap((when) =>
    (["http", "https", "nowhere"] as const).flatMap((by) => {
      const files = downloads.filter((download) => download.when === when && download.by === by);
      if (files.length === 0) return [];
      const carried = files.filter(({ name }) => !left.has(name)).length;
      const fate = isReachable({ when, by })
        ? ""
        : carried === files.length
        ? "carried"
        : `${files.length - carried} out of reach`;
      return [[when, by === "https" ? "https only" : by, String(files.length), fate]];
    })
  );
  return [
    `${downloads.length} are first needed after the network is up; ` +
    (tls === undefined ? "no script gives the machine TLS" : `https works after ${tls}`),
    ...formatTable(rows, "llrl").map((line) => `${INDENT}${line}`),
  ];
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
function amount(files: readonly { readonly size: number | null }[]): string {
  const unknown = files.filter(({ size }) => size === null).length;
  if (unknown === files.length && unknown > 0) return "sizes unknown";
  return sizeText(files.reduce((sum, { size }) => sum + (size ?? 0), 0), unknown);
}

/** Formats a total, which is a lower bound if some sizes are unknown. */
function sizeText(bytes: number, unknown: number): string {
  const known = formatBytes(bytes);
  return unknown === 0 ? known : `at least ${known} (${unknownText(unknown)})`;
}

function mediaLines(plan: Plan, all: boolean, columns: number): string[] {
  const size = plan.options.targetSizeMib;
  const sizes = new Map(plan.distfiles.map((distfile) => [distfile.name, distfile.size]));
  const contentOf = (entries: Plan["entries"]) => contentText(entries, sizes);
  if (continuesPass(plan.options)) {
    const carried = plan.distfiles.filter(({ place }) => place === "boot");
    const what = `${counted(carried.length, "distfile")}, ${amount(carried)}`;
    return [`${what}, put again into what the pass before has left`];
  }
  if (plan.start === "directory") return [`a directory: ${contentOf(plan.entries)}`];
  if (plan.start === "container") return [`${CONTAINER_IMAGE}: ${contentOf(plan.entries)}`];
  const disk = plan.disk === undefined ? [] : [
    `${plan.disk.name}: ${contentOf(plan.disk.entries)}, ext3 from ` +
    `${formatBytes(plan.disk.partitionMib * MIB)} on, on a disk of ` +
    formatBytes(plan.disk.sizeMib * MIB),
  ];
  if (plan.start === "disk") return disk;
  const payload = [
    ...plan.distfiles.filter(({ place }) => place === "payload"),
    ...plan.extras ?? [],
  ];
  const { oneDisk } = plan;
  return [
    `${BOOT_IMAGE}: ${contentOf(plan.entries)}` +
    (size > 0 ? `, on a disk of ${formatBytes(size * MIB)}` : ""),
    ...disk,
    plan.hasPayload
      ? `${oneDisk === undefined ? PAYLOAD_IMAGE : "payload on it"}: ${
        counted(payloadFiles(plan).length, "file")
      }, ${amount(payload)}, layout ` +
        `${plan.restore?.layout} (${plan.payloadReason})`
      : `no payload image: ${plan.payloadReason}`,
    ...extraLines(plan),
    ...(all ? restoreLines(plan) : []),
    ...(oneDisk === undefined ? [] : partLines(oneDisk.parts, plan.distfiles, columns)),
  ];
}

/** Draws a disk: a line for each part, and who uses it. */
function partLines(
  parts: readonly DiskPart[],
  distfiles: Plan["distfiles"],
  columns: number,
): string[] {
  const isEstimate = countUnknown(distfiles, ({ place }) => place !== "network") > 0;
  const rows = parts.map(({ what, startBytes, endBytes, readBy, writtenBy }) => [
    formatBytes(startBytes),
    what,
    endBytes === undefined ? "to the end" : formatBytes(endBytes - startBytes),
    `read by ${readBy}`,
    `written by ${writtenBy}`,
  ]);
  const title = isEstimate ? "the disk, with what is known of its sizes:" : "the disk:";
  const narrow = ([start, what, size, ...uses]: string[]) => [
    start!,
    `${what}, ${size}: ${uses.join("; ")}`,
  ];
  const lines = fits(rows, "rlrll", columns - INDENT.length, narrow, "rl");
  return [title, ...lines.map((line) => `${INDENT}${line}`)];
}

/** Says what is in the payload besides distfiles, and where it comes to. */
function extraLines({ extras = [] }: Plan): string[] {
  const packages = extras.filter(({ origin }) => origin === "repo");
  const [first] = packages;
  return [
    ...(first === undefined ? [] : [
      `  with ${counted(packages.length, "prebuilt package")}, ${amount(packages)}, that come to ` +
      `${first.to} after jump: move_disk`,
    ]),
    ...extras.filter(({ origin }) => origin === "added").map(({ name, size, to }) =>
      `  with ${name}, ${formatBytes(size)}, unpacked in ${to} after jump: move_disk`
    ),
  ];
}

function contentText(
  entries: Plan["entries"],
  sizes: ReadonlyMap<string, number | null>,
): string {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  const files = entries.filter(({ content }) => content.kind !== "directory").length;
  const directories = counted(entries.length - files, "directory", "directories");
  const unknown =
    entries.filter(({ content }) => content.kind === "distfile" && sizes.get(content.name) === null)
      .length;
  return `${counted(files, "file")} in ${directories}, ${sizeText(bytes, unknown)}`;
}

/** Says where the payload is restored, with the arithmetic that decides it. */
function restoreLines({ restore, distfiles }: Plan): string[] {
  if (restore === undefined) return [];
  const part = (where: "fiwix" | "disk") => {
    const files = distfiles.filter(({ restored }) => restored === where);
    return `${counted(files.length, "file")}, ${amount(files)}`;
  };
  const lines = [
    distfiles.every(({ restored }) => restored !== "fiwix")
      ? `restored at once after jump: move_disk: ${part("disk")}`
      : restore.phases === 1
      ? `restored at once after jump: fiwix: ${part("fiwix")}`
      : `restored after jump: fiwix: ${part("fiwix")}; after jump: move_disk: ${part("disk")}`,
  ];
  for (const [name, title] of [["ramdisk", "Fiwix"], ["kexec", "kexec"]] as const) {
    const sum = restore.inOneGo?.[name];
    if (sum === undefined) continue;
    const verdict = sum.limit === null
      ? "not known whether it fits"
      : sum.used + sum.expected > sum.limit
      ? "does not fit"
      : sum.unknownSizes === undefined
      ? "fits"
      : "unknown";
    lines.push(
      `  at once: ${atLeast(sum)}${formatBytes(sum.used)} + ~${formatBytes(sum.expected)} of ` +
        `${formatAmount(sum.limit, "bytes")} on the ${title} ramdisk: ${verdict}`,
    );
  }
  if (restore.obstacle !== undefined) lines.push(`  not in two phases: ${restore.obstacle}`);
  return lines;
}

/** Names the limits that are broken or near, and the nearest where all hold. */
function limitSummary(plan: Plan, columns: number): (string | Painted)[] {
  const { limits } = plan;
  const notable = limits.filter(({ broken, near }) => broken || near);
  const unknown = limits.filter((limit) => limitState(limit) === "unknown").length;
  const others = limits.filter((limit) => limitState(limit) === "ok");
  if (others.length < limits.length) {
    const sizes = unknownCount(plan);
    return [
      ...limitRows(notable, columns, false),
      ...(unknown === 0 ? [] : [paint(
        "yellow",
        sizes === 0
          ? `unknown  ${unknown} of them, see the warnings`
          : `unknown  ${unknown} of them, until ${
            counted(sizes, "size is", "sizes are")
          } known: a build checks again`,
      )]),
      others.length === 1 ? "ok       the other" : `ok       the ${others.length} others`,
    ];
  }
  const share = ({ used, expected, limit }: Limit) => (used + expected) / (limit ?? Infinity);
  const [nearest] = others.filter((limit) => !isFloor(limit)).sort((a, b) => share(b) - share(a));
  const count = `all ${others.length} hold`;
  return [nearest === undefined ? count : `${count}; the nearest is ${limitText(nearest)}`];
}

function limitWord(limit: Limit): string {
  const state = limitState(limit);
  return state === "broken" ? "BROKEN" : state;
}

function limitText(limit: Limit): string {
  const { title, used, expected, unit } = limit;
  return `${title}: ${isFloor(limit) ? "" : atLeast(limit)}${formatAmount(used, unit)}` +
    (expected > 0 ? ` + ~${formatAmount(expected, unit)}` : "") +
    `${isFloor(limit) ? ", at least" : " of"} ${formatAmount(limit.limit, unit)}`;
}

function limitPaint(line: string, limit: Limit): string | Painted {
  const state = limitState(limit);
  return state === "ok" ? line : paint(state === "broken" ? "red" : "yellow", line);
}

function limitTable({ limits }: Plan, columns: number): (string | Painted)[] {
  const rows = limits.map((limit) => [
    limitWord(limit),
    limit.title,
    (isFloor(limit) ? "" : atLeast(limit)) + formatAmount(limit.used, limit.unit),
    limit.expected > 0 ? `+ ~${formatAmount(limit.expected, limit.unit)}` : "",
    isFloor(limit) ? "at least" : "of",
    formatAmount(limit.limit, limit.unit),
    notes(limit),
  ]);
  const lines = formatTable(rows, "llrrlrl");
  if (lines.every(({ length }) => length <= columns)) {
    return lines.map((line, index) => limitPaint(line, limits[index]!));
  }
  return limitRows(limits, columns, true);
}

/** Returns limits as lines of text, with their state before them. */
function limitRows(
  limits: readonly Limit[],
  columns: number,
  hasNotes: boolean,
): (string | Painted)[] {
  const text = (limit: Limit) =>
    hasNotes && notes(limit) !== "" ? `${limitText(limit)} ${notes(limit)}` : limitText(limit);
  return limits.flatMap((limit) =>
    formatTable([[limitWord(limit), text(limit)]], "ll", columns)
      .map((line) => limitPaint(line, limit))
  );
}

function unknownCount(plan: Plan): number {
  return neededDistfiles(plan).filter(({ size }) => size === null).length;
}

/** Says how many sizes are unknown, in which case the figures are lower bounds. */
function unknownLines(plan: Plan): string[] {
  const count = unknownCount(plan);
  if (count === 0) return [];
  return [
    `${
      counted(count, "size is", "sizes are")
    } not known yet; a build checks again when it has the files`,
  ];
}

function notes({ note, unknownSizes }: Limit): string {
  const unknown = unknownSizes === undefined ? [] : [unknownText(unknownSizes)];
  const all = [...unknown, ...(note === undefined ? [] : [note])];
  return all.length === 0 ? "" : `(${all.join("; ")})`;
}

function unknownText(count: number): string {
  return counted(count, "size unknown", "sizes unknown");
}

function atLeast({ unknownSizes }: Pick<Limit, "unknownSizes">): string {
  return unknownSizes === undefined ? "" : "at least ";
}

function overlaySummary({ overlay }: Plan): string {
  return `${counted(overlay.files.length, "file")} only in the image, ` +
    `${counted(overlay.manifestLines.length, "line")} added to the manifest`;
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
