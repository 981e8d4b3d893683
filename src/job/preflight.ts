// SPDX-License-Identifier: MIT
/**
 * Checks whether a machine can run a bootstrap: in QEMU, or with an image for a real machine.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import type { PreflightOrders } from "../format/preflight.ts";
import { shellQuote } from "../launch/process.ts";
import { type PreflightRun, runPreflight, writePreflight } from "../preflight/run.ts";
import type { PreflightReport } from "../preflight/report.ts";
import { type BuildOptions, defaultOptions } from "../plan/options.ts";
import { readRecord } from "../record/read.ts";
import { checkOutput } from "../write/output_parts.ts";
import type { WrittenPart } from "../write/output_parts.ts";
import { writing } from "../refused.ts";
import { openImage } from "../source/file.ts";
import { statIfThere } from "../runtime/stat.ts";
import { makeScratch } from "../runtime/scratch.ts";
import { checkImages } from "./check.ts";
import { confirmedQemu } from "./named.ts";

/** What to check. */
export interface PreflightRequest {
  /** A built target, whose boot image is read and whose payload is attached. */
  readonly target: string | undefined;
  /** Payload images to use instead of that of the target. */
  readonly payloads: readonly string[] | undefined;
  /** Whether payloads are read to their end. */
  readonly readsPayloads: boolean;
  readonly testsMemory: boolean;
}

/** What to check in QEMU, and the machine. */
export interface QemuPreflight extends PreflightRequest, Pick<PreflightRun, "machine" | "accel"> {
  /** Memory in MiB; that of the target, or the default, if absent. */
  readonly ramMib: number | undefined;
  /** Program to run as QEMU; that of the target if absent, which then has to be the default. */
  readonly qemuCommand: string | undefined;
}

/** Callbacks of a preflight in QEMU. */
export type PreflightEvents = Pick<PreflightRun, "onNotice" | "onSerial" | "progress">;

/**
 * Boots the preflight program in QEMU.
 *
 * @returns Its report, with a verdict, good or bad.
 * @throws {UserError} "target" if nothing was built; "usage" where the target has a QEMU that is
 * not named; "format"; "launch"; "interrupt".
 */
export async function preflightInQemu(
  request: QemuPreflight,
  events: PreflightEvents,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const { orders, bootImage, payloads, options } = realRun(request, { isInQemu: true });
  const { machine, accel } = request;
  const dir = resolve(request.target ?? "");
  const again = ["seedstrap", "preflight", "--qemu", dir, "--qemu-cmd", options.qemuCommand];
  const command = confirmedQemu(options, request.qemuCommand, dir, shellQuote(again));
  const ramMib = request.ramMib ?? options.qemuRamMib;
  const option = "TMPDIR";
  const scratch = writing(
    tmpdir(),
    () => makeScratch(join(tmpdir(), "seedstrap-preflight-")),
    option,
  );
  try {
    const image = join(scratch, "preflight.img");
    events.progress?.begin("writing the preflight image");
    await writePreflight(image, { orders, bootImage, option }, signal);
    const drives = [image, ...payloads];
    const logPath = join(scratch, "serial.log");
    const readsBytes = bytesOf(orders.read ? drives : [image]);
    const run = { machine, ramMib, drives, command, accel, readsBytes, logPath, signal };
    return await runPreflight({ ...run, ...events });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Size of the files together; of a device none is known, nor of what is not there. */
function bytesOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + (statIfThere(path)?.size ?? 0), 0);
}

/**
 * Writes the preflight image for a real machine, with the srcfs of the boot image of the real run.
 *
 * @param output Absolute path of a file, which must not exist.
 * @throws {UserError} "target", "format", "interrupt".
 */
export async function preflightForStick(
  output: string,
  request: PreflightRequest,
  signal: AbortSignal,
): Promise<WrittenPart & { readonly payloadRequired: boolean; readonly isOneDisk: boolean }> {
  checkOutput(output);
  const { orders, bootImage, isOneDisk } = realRun(request, { isInQemu: false });
  const written = await writePreflight(output, { orders, bootImage }, signal);
  return { ...written, payloadRequired: orders.payload, isOneDisk };
}

/** The images of the real run, and the orders to the preflight program. */
interface RealRun {
  readonly orders: PreflightOrders;
  readonly bootImage: string | undefined;
  readonly payloads: readonly string[];
  /** Whether the payload is on the boot disk, which the preflight image must not overwrite. */
  readonly isOneDisk: boolean;
  /** Those of the target, else the defaults. */
  readonly options: BuildOptions;
}

function realRun(
  { target, payloads: given, readsPayloads, testsMemory }: PreflightRequest,
  { isInQemu }: { readonly isInQemu: boolean },
): RealRun {
  const dir = resolve(target ?? "");
  const record = target === undefined ? undefined : readRecord(dir);
  if (record?.options.bootProgram === "preflight") {
    throw new UserError("usage", `Cannot check ${dir}: its boot image is a preflight program`, {
      where: dir,
      hint: `It is checked as it runs: ${shellQuote(["seedstrap", "run", dir])}`,
    });
  }
  const { images, options } = record ?? { images: [], options: defaultOptions("qemu") };
  const imagesOf = (role: string) => images.filter((image) => image.role === role);
  const pathsOf = (role: string) => imagesOf(role).map(({ name }) => join(dir, name));
  // On a real machine the payload of a target may be on a device, and nowhere else.
  const isAttached = isInQemu && given === undefined;
  checkImages(dir, [...imagesOf("boot"), ...(isAttached ? imagesOf("payload") : [])]);
  const isOneDisk = given === undefined && record?.options.oneDisk === true &&
    record.payload.present;
  // The boot disk of the target is beside that of the preflight program, and has the payload.
  const payloads = given?.map((path) => resolve(path)) ?? pathsOf(isOneDisk ? "boot" : "payload");
  // QEMU would wait for a fifo.
  for (const path of given ?? []) openImage(path).close();
  const orders = { payload: payloads.length > 0, read: readsPayloads, memory: testsMemory };
  return { orders, bootImage: pathsOf("boot")[0], payloads, isOneDisk, options };
}
