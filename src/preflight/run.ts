// SPDX-License-Identifier: MIT
/**
 * Preflight: boots our own program where a bootstrap would boot, to examine the machine.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { readWholeText } from "../read.ts";
import type { PreflightOrders } from "../format/preflight.ts";
import { openImage } from "../source/file.ts";
import { type QemuOptions, runQemu } from "../launch/qemu.ts";
import { Dots } from "./dots.ts";
import { preflightImage } from "./image.ts";
import { preflightArgs, type PreflightMachine, VERDICT_CODES } from "./qemu.ts";
import { explainReason, MAX_LOG_BYTES, parseReport, type PreflightReport } from "./report.ts";
import { writeOutputParts, type WrittenPart } from "../write/output_parts.ts";

/** What to write to a preflight image. */
export interface PreflightContent {
  readonly orders: PreflightOrders;
  /** Boot image of the real run, whose srcfs is copied into the preflight image. */
  readonly bootImage?: string | undefined;
  /** As in OutputOptions. */
  readonly option?: string;
}

/**
 * Writes a preflight image to a new file, which appears once it is complete.
 *
 * @throws {UserError} "format" if `bootImage` is not a boot image; "target"; "interrupt".
 */
export async function writePreflight(
  path: string,
  { orders, bootImage, option }: PreflightContent,
  signal?: AbortSignal,
): Promise<WrittenPart> {
  const boot = bootImage === undefined ? undefined : openImage(bootImage);
  try {
    const segments = preflightImage(orders, boot);
    const [image] = await writeOutputParts(path, segments, undefined, {
      wantsSha256: true,
      ...(signal && { signal }),
      ...(option !== undefined && { option }),
    });
    return image!;
  } finally {
    boot?.close();
  }
}

/** How to run it in QEMU. */
export interface PreflightRun extends PreflightMachine {
  readonly command: string;
  readonly accel: QemuOptions["accel"];
  /** How many bytes of the drives the program will read, as far as that is known. */
  readonly readsBytes?: number | undefined;
  /** File for the output of the program. */
  readonly logPath: string;
  readonly signal: AbortSignal;
  readonly onSerial?: (chunk: Uint8Array) => void;
  readonly onNotice?: (text: string) => void;
  /** Told how much of the disks was read, which `onSerial` is not. */
  readonly progress?: Progress;
}

/**
 * Runs a preflight image in QEMU.
 *
 * @returns Its report, which has a verdict.
 * @throws {UserError} "launch" if QEMU fails or the program ends without a verdict.
 */
export async function runPreflight(run: PreflightRun): Promise<PreflightReport> {
  const { progress = UNWATCHED } = run;
  let dots = new Dots();
  const begin = () => progress.begin("checking the machine", run.readsBytes);
  begin();
  await runQemu({
    command: run.command,
    args: preflightArgs(run),
    accel: run.accel,
    interactive: false,
    logPath: run.logPath,
    signal: run.signal,
    onSerial: (chunk) => {
      const { text, readBytes } = dots.push(chunk);
      if (text.length > 0) run.onSerial?.(text);
      if (readBytes > 0) progress.add(readBytes);
    },
    onRestart: () => {
      dots = new Dots();
      begin();
    },
    onNotice: (text) => run.onNotice?.(text),
    goodCodes: [0, VERDICT_CODES.ok, VERDICT_CODES.failed],
  });
  const report = parseReport(readWholeText(run.logPath, { limitBytes: MAX_LOG_BYTES }));
  if (report.verdict !== undefined) return report;
  throw new UserError("launch", "The preflight program ended without a verdict", {
    where: run.logPath,
    hint: "Look at its output; with KVM, try --accel tcg",
  });
}

/**
 * Turns a bad verdict into an error.
 *
 * @throws {UserError} "preflight"
 */
export function checkVerdict({ verdict }: PreflightReport, where: string): void {
  if (verdict === undefined || verdict.ok) return;
  const reasons = verdict.reasons.map((reason) => `\n  ${reason}: ${explainReason(reason)}`);
  throw new UserError("preflight", `This machine cannot run a bootstrap${reasons.join("")}`, {
    where,
  });
}
