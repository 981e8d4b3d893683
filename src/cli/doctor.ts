// SPDX-License-Identifier: MIT
/** `seedstrap doctor`: checks whether this machine has what a bootstrap needs. */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { join } from "node:path";
import process from "node:process";
import type { CheckResult, HostCheck } from "../doctor/check.ts";
import { EXIT } from "../errors.ts";
import { checkReady, type DoctorReport, examineHost } from "../job/doctor.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import type { Mode } from "../plan/options.ts";
import { statIfThere } from "../runtime/stat.ts";
import { GROUPS } from "./help.ts";
import { printJson } from "./json.ts";
import { parsePlanRequest, planCommandBase, type RawOptions } from "./options.ts";
import { counted, formatTable, type Line, paint, print, widthOf } from "./output.ts";
import { withProgress } from "./progress.ts";
import { accelOption } from "./run.ts";

/** The modes, and the option that means each. */
const MODES = [
  ["qemu", "qemu"],
  ["bare-metal", "bareMetal"],
  ["chroot", "chroot"],
  ["bwrap", "bwrap"],
  ["container", "container"],
] as const satisfies readonly (readonly [Mode, keyof RawOptions])[];

export function doctorSubcommand(): CommandUnknownOpts {
  return planCommandBase("doctor")
    .summary("check whether this machine has what a bootstrap needs")
    .description(
      "check whether this machine has what a bootstrap needs, by trying it; with a checkout, also " +
        "what its plan needs. It takes the options of plan and build",
    )
    .optionsGroup(GROUPS.mode)
    .addOption(
      new Option("--mode <name>", "the mode by its name, instead of -q, -b, -c, -bw or --container")
        .choices(MODES.map(([mode]) => mode)),
    )
    .optionsGroup(GROUPS.place)
    .option("-t, --target <dir>", "where the media would go", "target")
    .optionsGroup(GROUPS.machine)
    .addOption(accelOption())
    .optionsGroup("Options:")
    .option("--online", "also ask the mirrors, or the hosts of distfiles, whether they answer")
    .option("--all", "list also what is not needed, and what each check is for")
    .option("--json", "for scripts: every check, with what it needs, what was seen, and the remedy")
    .addHelpText(
      "after",
      `
Without a mode, it looks at what all need but --container.

Examples:
  seedstrap doctor --qemu
  seedstrap doctor --bwrap --external-sources --tree live-bootstrap --target /srv/lb

A small guest of seedstrap's own is booted under KVM and TCG, a small disk is made and read back, a
small program is started by chroot and bwrap. They leave nothing. What a real machine needs that is
to boot the media, seedstrap preflight finds out.

The exit code is 0 where everything that the mode needs is there, with or without warnings, and
${EXIT.launch} where something is missing.`,
    )
    .action(({ mode, target, accel, online, all, json, ...raw }) =>
      withInterrupt(async (signal) => {
        const given = mode === undefined ? raw : { ...raw, ...chosen(mode) };
        const hasMode = MODES.some(([, option]) => given[option] === true);
        const [first, ...others] = hasMode
          ? [given]
          : UNASKED.map((name) => ({ ...given, ...chosen(name) }));
        const plans = [parsePlanRequest(first!), ...others.map(parsePlanRequest)] as const;
        const report = await withProgress((progress) =>
          examineHost(
            { plans, hasTree: hasTree(raw.tree), target, accel, isOnline: online === true },
            { onCheck: (name) => progress.begin(`looking at ${name}`) },
            signal,
          )
        );
        if (json) printJson(report);
        else {for (const line of reportAsText(report, all === true, widthOf(process.stdout))) {
            print(line);
          }}
        checkReady(report);
      })
    );
}

/** The modes that are looked at where none is named: few machines run containers. */
const UNASKED: readonly Mode[] = ["qemu", "bare-metal", "chroot", "bwrap"];

function chosen(mode: Mode): Pick<RawOptions, (typeof MODES)[number][1]> {
  const [, option] = MODES.find(([name]) => name === mode)!;
  return { [option]: true };
}

/** A checkout is planned with where one is named, and where this directory is one. */
function hasTree(tree: string | undefined): boolean {
  return tree !== undefined || statIfThere(join(process.cwd(), "steps/manifest")) !== undefined;
}

const STYLES: Readonly<Record<CheckResult, "green" | "yellow" | "red" | "gray">> = {
  ok: "green",
  warning: "yellow",
  missing: "red",
  "not needed": "gray",
};

/**
 * Returns a report as lines of text: a table, in which a remedy follows what it is for.
 *
 * @param all Whether it has what is not needed too, and what each check is for.
 * @param columns Width that it has to fit.
 */
export function reportAsText(
  { checks, modes }: DoctorReport,
  all: boolean,
  columns: number,
): Line[] {
  const shown = all ? checks : checks.filter(({ result }) => result !== "not needed");
  const rows = shown.flatMap((check) => rowsOf(check, all));
  const lines = formatTable(rows, "lll", columns).map((line): Line => {
    const result = checks.find(({ result }) => line.startsWith(`${result} `))?.result;
    return result === undefined ? line : [paint(STYLES[result], result), line.slice(result.length)];
  });
  const warnings = checks.filter(({ result }) => result === "warning").length;
  return [
    ...lines,
    ...modes.map(({ mode, isReady }): Line =>
      isReady
        ? paint("green", `${mode}: ready`)
        : paint("red", `${mode}: not ready, ${missingFor(checks, mode).join(", ")}`)
    ),
    ...warnings === 0 ? [] : [counted(warnings, "warning")],
    ...shown.length === checks.length
      ? []
      : [`--all lists ${checks.length - shown.length} more, which nothing needs here`],
  ];
}

function missingFor(checks: readonly HostCheck[], mode: Mode): string[] {
  return checks.flatMap(({ name, result, modes }) =>
    result === "missing" && modes.includes(mode) ? [name] : []
  );
}

function rowsOf(
  { result, name, needs, seen, remedy }: HostCheck,
  showsNeeds: boolean,
): string[][] {
  const isWrong = result === "warning" || result === "missing";
  return [
    [result, name, seen],
    ...showsNeeds ? [["", "", `needs: ${needs}`]] : [],
    ...isWrong && remedy !== undefined ? [["", "", `remedy: ${remedy}`]] : [],
  ];
}
