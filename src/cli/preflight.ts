// SPDX-License-Identifier: MIT
/** `seedstrap preflight`: checks whether a machine could carry a bootstrap. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { basename, resolve } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { preflightForStick, preflightInQemu, type PreflightRequest } from "../job/preflight.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseSizeMib } from "../plan/options.ts";
import {
  isNumber,
  MAX_LOG_BYTES,
  parseReport,
  type PreflightReport,
  type ReportLine,
} from "../preflight/report.ts";
import { checkVerdict } from "../preflight/run.ts";
import { readWholeText } from "../read.ts";
import { printJson } from "./json.ts";
import {
  counted,
  formatBytes,
  formatCount,
  formatTable,
  guestWriter,
  paint,
  print,
  warn,
  widthOf,
} from "./output.ts";
import { withProgress } from "./progress.ts";
import { accelOption } from "./run.ts";

/** Where the image for a stick goes by default. */
const OUTPUT = "preflight.img";

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
function declaration() {
  return new Command("preflight")
    .summary("check whether a machine could carry a bootstrap")
    .description("boot a small program that checks whether the machine could carry a bootstrap")
    .argument("[target]", "a built target: its boot image is read, its payload attached")
    .allowExcessArguments(false)
    .option("-q, --qemu", "boot it in QEMU")
    .option("-b, --bare-metal", "write an image for a stick")
    .option("--log <file>", "explain what the program printed on a serial line")
    .option("-o, --output <file>", "where the image for --bare-metal goes", OUTPUT)
    .option("--payload <image...>", "payload images: attached in QEMU, expected on bare metal")
    .option("--no-read", "do not read payloads whole, which takes minutes")
    .option("--no-memory-test", "do not test the memory")
    .option("--machine <type>", "QEMU's machine", "pc")
    .option("--qemu-cmd <program>", "QEMU to run (-qc); the target's own has to be named")
    .option("--qemu-ram <size>", "memory in MiB, or 4G (-qr); default: that of the target, or 4096")
    .addOption(accelOption())
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap preflight --qemu target               check a built target in QEMU
  seedstrap preflight --bare-metal target         write an image that reads the same sectors
  seedstrap preflight --log serial.txt            explain what a real machine printed

The exit code is 0 for a good verdict and 10 for a bad one.`,
    );
}

type Raw = ReturnType<ReturnType<typeof declaration>["opts"]>;

export function preflightSubcommand(): CommandUnknownOpts {
  return declaration().action((target, raw) =>
    withInterrupt(async (signal) => {
      const modes = [raw.qemu, raw.bareMetal, raw.log].filter((mode) => mode !== undefined);
      if (modes.length !== 1) {
        throw new UserError(
          "usage",
          "Cannot go on without exactly one of --qemu, --bare-metal and --log",
          {
            hint: "Choose one; seedstrap preflight --help explains them",
          },
        );
      }
      if (raw.log !== undefined) explainLog(raw.log, raw.json === true);
      else if (raw.bareMetal) await writeStick(target, raw, signal);
      else await lookInQemu(target, raw, signal);
    })
  );
}

function preflightRequest(target: string | undefined, raw: Raw): PreflightRequest {
  const { payload, read, memoryTest } = raw;
  return { target, payloads: payload, readsPayloads: read, testsMemory: memoryTest };
}

async function lookInQemu(
  target: string | undefined,
  raw: Raw,
  signal: AbortSignal,
): Promise<void> {
  const report = await withProgress((progress) =>
    preflightInQemu(
      {
        ...preflightRequest(target, raw),
        machine: raw.machine,
        ramMib: raw.qemuRam === undefined ? undefined : parseSizeMib(raw.qemuRam, "--qemu-ram", 1),
        qemuCommand: raw.qemuCmd,
        accel: raw.accel,
      },
      {
        onNotice: warn,
        ...(!raw.json && { onSerial: guestWriter(process.stderr) }),
        progress,
      },
      signal,
    )
  );
  printReport(report, raw.json === true);
  checkVerdict(report, target ?? "QEMU");
}

async function writeStick(
  target: string | undefined,
  raw: Raw,
  signal: AbortSignal,
): Promise<void> {
  const output = resolve(raw.output);
  const request = preflightRequest(target, raw);
  const { sha256, sizeBytes, payloadRequired, isOneDisk } = await withProgress((progress) => {
    progress.begin("writing");
    return preflightForStick(output, request, signal);
  });
  if (raw.json) {
    printJson({ path: output, sizeBytes, sha256, payloadRequired });
    return;
  }
  print(output);
  print(`  ${formatBytes(sizeBytes)}, SHA-256 ${sha256}`);
  if (raw.output === OUTPUT) print("  in the current directory; -o names another place");
  print("Please:");
  const what = `Write ${basename(output)} (${sizeBytes} bytes)`;
  const steps = isOneDisk
    ? [
      "Write init.img of the target to the drive of the machine: it has the payload.",
      `${what} to another drive, such as a USB stick: it would overwrite the first.`,
      "Boot the machine from that drive and read the last line.",
    ]
    : [
      `${what} to the drive that will boot.`,
      ...payloadRequired ? ["Attach the payload drive as it will be."] : [],
      "Boot the machine and read the last line.",
      "Write the boot image (init.img) to the drive again: it was overwritten.",
    ];
  steps.forEach((step, index) => print(`  ${index + 1}. ${step}`));
}

function explainLog(path: string, asJson: boolean): void {
  const report = parseReport(readWholeText(path, { limitBytes: MAX_LOG_BYTES }));
  if (report.verdict === undefined) {
    throw new UserError("format", "Cannot find a verdict of the preflight program", {
      where: path,
      hint: "Record the serial line from power-on to the last line",
    });
  }
  printReport(report, asJson);
  checkVerdict(report, path);
}

/** Prints a report as a table, or as JSON. */
export function printReport(report: PreflightReport, asJson: boolean): void {
  if (asJson) {
    printJson(report);
    return;
  }
  const rows = report.lines.flatMap((line) => {
    const row = describe(line);
    return row === undefined ? [] : [[row[0], stateOf(line), row[1]]];
  });
  for (const line of formatTable(rows, "lll", widthOf(process.stdout))) print(line);
  if (report.damagedLines > 0) {
    const lines = counted(report.damagedLines, "line is", "lines are");
    warn(`${lines} damaged: what is shown of the log may be wrong, record it again`);
  }
  const { ok = false, reasons = [] } = report.verdict ?? {};
  print(
    ok
      ? paint("green", "verdict: ok, this machine could carry a bootstrap")
      : paint("red", `verdict: failed: ${reasons.join(", ")}`),
  );
}

/** Returns the state of a line. RAM that is short of its range only is as much as is needed. */
function stateOf({ topic, values: { state = "" } }: ReportLine): string {
  return topic === "ram" && state === "short" ? "enough" : state;
}

/** Returns subject and facts of a line for the table, or undefined for one that is left out. */
function describe({ topic, values: v }: ReportLine): [string, string] | undefined {
  switch (topic) {
    case "boot":
      return [
        `boot disk ${shown(v["drive"])}`,
        `${count(v["entries"])} entries, ${bytes(v["bytes"])}, checksum ${shown(v["crc"])}`,
      ];
    case "ram":
      return [
        `RAM for ${shown(v["use"])}`,
        `${shown(v["base"])} to ${shown(v["end"])}, ${bytes(v["free"])} free`,
      ];
    case "memory":
      return [
        "memory test",
        v["places"] === undefined
          ? ""
          : `${count(v["places"])} places, ${count(v["passes"])} passes, ${
            count(v["faults"])
          } faults`,
      ];
    case "payload":
      return [
        `payload on disk ${shown(v["drive"])}`,
        `layout ${shown(v["layout"])}, ${count(v["files"])} of ${count(v["of"])} files, ${
          bytes(v["bytes"])
        }`,
      ];
    default:
      return undefined;
  }
}

/** Returns a value of a line, or a question mark where it is lost. */
function shown(value: string | undefined): string {
  return value ?? "?";
}

function count(digits: string | undefined): string {
  return digits !== undefined && isNumber(digits) ? formatCount(Number(digits)) : "?";
}

function bytes(digits: string | undefined): string {
  return digits !== undefined && isNumber(digits) ? formatBytes(Number(digits)) : "?";
}
