// SPDX-License-Identifier: MIT
/** `seedstrap plan`: shows what would be built, before anything is downloaded or written. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { basename } from "node:path";
import { planBuild } from "../job/build.ts";
import { checkLimits, checkMissing, checkTargetDirectory } from "../job/check.ts";
import { shellQuote } from "../launch/process.ts";
import { neededDistfiles, planCommand } from "../plan/plan.ts";
import { formatAmount, type Limit, limitState } from "../plan/limits.ts";
import { isReachable } from "../plan/reach.ts";
import { payloadFiles } from "../plan/restore.ts";
import { MIB } from "../format/segment.ts";
import {
  BOOT_IMAGE,
  PAYLOAD_IMAGE,
  type Place,
  type Plan,
  type PlannedDistfile,
} from "../plan/types.ts";
import { parsePlanRequest, planCommandBase } from "./options.ts";
import {
  adviceLine,
  formatBytes,
  formatCount,
  formatTable,
  type Line,
  note,
  paint,
  type Painted,
  print,
  printJson,
} from "./output.ts";

export function planSubcommand(): CommandUnknownOpts {
  return planCommandBase("plan")
    .description("show what would be built and how near it comes to every limit")
    .option("-t, --target <dir>", "where the media would go", "target")
    .option("--force", "exit with 0 although the plan breaks a limit or files are missing")
    .option("--json", "for scripts, with every entry")
    .addHelpText(
      "after",
      `
Example:
  seedstrap plan --qemu --external-sources -m file:///srv/distfiles --tree live-bootstrap`,
    )
    .action(async (raw) => {
      const { plan, tree } = await planBuild(parsePlanRequest(raw));
      checkTargetDirectory(raw.target, tree);
      if (raw.json) printJson(planAsJson(plan, raw.target));
      else for (const line of planAsText(plan, raw.target)) print(line);
      checkMissing(plan, raw.force === true, { onNotice: note });
      checkLimits(plan, raw.force === true, { onNotice: note });
    });
}

/** Returns a plan as data for scripts. */
function planAsJson(plan: Plan, target: string): Record<string, unknown> {
  return {
    options: plan.options,
    config: plan.config,
    payload: { present: plan.hasPayload, reason: plan.payloadReason, ...plan.restore },
    distfiles: plan.distfiles,
    tls: plan.tls ?? null,
    downloads: plan.downloads,
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
    missing: plan.missing,
    untracked: plan.untracked,
    advice: plan.advice,
    warnings: plan.warnings,
  };
}

/** Returns a plan as lines of text. */
export function planAsText(plan: Plan, target: string): Line[] {
  const title = (text: string) => paint("bold", text);
  return [
    title("Distfiles"),
    ...indent([...distfileLines(plan), ...downloadLines(plan)]),
    "",
    title(plan.images.length === 0 ? "Target" : "Images"),
    ...indent(mediaLines(plan)),
    "",
    ...(plan.limits.length === 0
      ? []
      : [title("Limits"), ...indent([...limitLines(plan), ...unknownLines(plan)]), ""]),
    title("Overlay"),
    ...indent(overlayLines(plan)),
    "",
    title("Start"),
    ...indent([startLine(plan, target)]),
    ...plan.advice.flatMap((advice) => ["", adviceLine(advice)]),
    ...plan.warnings.flatMap((warning) => ["", [paint("yellow", "Warning:"), ` ${warning}`]]),
  ];
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

function distfileLines(plan: Plan): string[] {
  return PLACES.flatMap(([place, where]) => {
    const files = plan.distfiles.filter((distfile) => distfile.place === place);
    if (files.length === 0) return [];
    const here = place !== "boot" || plan.start === "builder-hex0"
      ? where
      : plan.start === "disk"
      ? "on the disk"
      : "in the directory";
    return [`${files.length} ${here}, ${amount(files)}`, ...distfileTable(files)];
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
    ...formatTable(rows, "llrl").map((line) => `  ${line}`),
  ];
}

function distfileTable(files: readonly PlannedDistfile[]): string[] {
  return formatTable(
    files.map(({ name, size, why, restored }) => [
      name,
      size === null ? "?" : formatBytes(size),
      restored === "disk" ? `${why}; restored after jump: move_disk` : why,
    ]),
    "lrl",
  ).map((line) => `  ${line}`);
}

/** Formats the total size of some files, and says how many sizes are unknown. */
function amount(files: readonly PlannedDistfile[]): string {
  const unknown = files.filter(({ size }) => size === null).length;
  if (unknown === files.length && unknown > 0) return "sizes unknown";
  return sizeText(files.reduce((sum, { size }) => sum + (size ?? 0), 0), unknown);
}

/** Formats a total, which is a lower bound if some sizes are unknown. */
function sizeText(bytes: number, unknown: number): string {
  const known = formatBytes(bytes);
  return unknown === 0 ? known : `at least ${known} (${unknownText(unknown)})`;
}

function mediaLines(plan: Plan): string[] {
  const size = plan.options.targetSizeMib;
  const sizes = new Map(plan.distfiles.map((distfile) => [distfile.name, distfile.size]));
  const contentOf = (entries: Plan["entries"]) => contentText(entries, sizes);
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
      ? `${PAYLOAD_IMAGE}: ${payloadFiles(plan).length} files, ${amount(payload)}, layout ` +
        `${plan.restore?.layout} (${plan.payloadReason})`
      : `no payload image: ${plan.payloadReason}`,
    ...restoreLines(plan),
  ];
}

function contentText(
  entries: Plan["entries"],
  sizes: ReadonlyMap<string, number | null>,
): string {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  const files = entries.filter(({ content }) => content.kind !== "directory").length;
  const directories = formatCount(entries.length - files);
  const unknown =
    entries.filter(({ content }) => content.kind === "distfile" && sizes.get(content.name) === null)
      .length;
  return `${formatCount(files)} files in ${directories} directories, ${sizeText(bytes, unknown)}`;
}

/** Says where the payload is restored, with the arithmetic that decides it. */
function restoreLines({ restore, distfiles }: Plan): string[] {
  if (restore === undefined) return [];
  const part = (where: "fiwix" | "disk") => {
    const files = distfiles.filter(({ restored }) => restored === where);
    return `${files.length} files, ${amount(files)}`;
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

function limitLines(plan: Plan): (string | Painted)[] {
  const rows = plan.limits.map((limit) => [
    limit.broken ? "BROKEN" : limitState(limit),
    limit.title,
    (isFloor(limit) ? "" : atLeast(limit)) + formatAmount(limit.used, limit.unit),
    limit.expected > 0 ? `+ ~${formatAmount(limit.expected, limit.unit)}` : "",
    isFloor(limit) ? "at least" : "of",
    formatAmount(limit.limit, limit.unit),
    notes(limit),
  ]);
  return formatTable(rows, "llrrlrl").map((line) =>
    line.startsWith("BROKEN")
      ? paint("red", line)
      : line.startsWith("near") || line.startsWith("unknown")
      ? paint("yellow", line)
      : line
  );
}

/** Says how many sizes are unknown, in which case the figures are lower bounds. */
function unknownLines(plan: Plan): string[] {
  const count = neededDistfiles(plan).filter(({ size }) => size === null).length;
  if (count === 0) return [];
  return [`sizes that are not known yet: ${count}; a build checks again when it has the files`];
}

function notes({ note, unknownSizes }: Limit): string {
  const unknown = unknownSizes === undefined ? [] : [unknownText(unknownSizes)];
  const all = [...unknown, ...(note === undefined ? [] : [note])];
  return all.length === 0 ? "" : `(${all.join("; ")})`;
}

function unknownText(count: number): string {
  return count === 1 ? "1 size unknown" : `${count} sizes unknown`;
}

function atLeast({ unknownSizes }: Pick<Limit, "unknownSizes">): string {
  return unknownSizes === undefined ? "" : "at least ";
}

function isFloor({ id }: Limit): boolean {
  return id === "memory" || id === "disk";
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

function indent<T extends string | Painted>(lines: readonly T[]): Line[] {
  return lines.map((line) => ["  ", line]);
}
