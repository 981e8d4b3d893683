// SPDX-License-Identifier: MIT
/**
 * Checks whether a machine can run a bootstrap: in QEMU, or with an image for a real machine.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { PreflightOrders } from "../format/preflight.ts";
import { type PreflightRun, runPreflight, writePreflight } from "../preflight/run.ts";
import type { PreflightReport } from "../preflight/report.ts";
import { readRecord } from "../record/read.ts";
import { checkOutput } from "../write/output_parts.ts";
import type { WrittenPart } from "../write/parts_sink.ts";
import { writing } from "../refused.ts";
import { makeScratch } from "../runtime/scratch.ts";

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
export type QemuPreflight =
  & PreflightRequest
  & Pick<PreflightRun, "machine" | "ramMib" | "command" | "accel">;

/** Callbacks of a preflight in QEMU. */
export type PreflightEvents = Pick<PreflightRun, "onNotice" | "onSerial">;

/**
 * Boots the preflight program in QEMU.
 *
 * @returns Its report, with a verdict, good or bad.
 * @throws {UserError} "target" if nothing was built; "format"; "launch"; "interrupt".
 */
export async function preflightInQemu(
  request: QemuPreflight,
  events: PreflightEvents,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const { orders, bootImage, payloads } = realRun(request);
  const { machine, ramMib, command, accel } = request;
  const dir = writing(tmpdir(), () => makeScratch(join(tmpdir(), "seedstrap-preflight-")));
  try {
    const image = join(dir, "preflight.img");
    await writePreflight(image, { orders, bootImage }, signal);
    const drives = [image, ...payloads];
    const logPath = join(dir, "serial.log");
    const run = { machine, ramMib, drives, command, accel, logPath, signal, ...events };
    return await runPreflight(run);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
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
): Promise<WrittenPart & { readonly payloadRequired: boolean }> {
  checkOutput(output);
  const { orders, bootImage } = realRun(request);
  const written = await writePreflight(output, { orders, bootImage }, signal);
  return { ...written, payloadRequired: orders.payload };
}

/** The images of the real run, and the orders to the preflight program. */
interface RealRun {
  readonly orders: PreflightOrders;
  readonly bootImage: string | undefined;
  readonly payloads: readonly string[];
}

function realRun(
  { target, payloads: given, readsPayloads, testsMemory }: PreflightRequest,
): RealRun {
  const dir = resolve(target ?? "");
  const images = target === undefined ? [] : readRecord(dir).images;
  const pathsOf = (role: string) =>
    images.filter((image) => image.role === role).map(({ name }) => join(dir, name));
  const payloads = given?.map((path) => resolve(path)) ?? pathsOf("payload");
  const orders = { payload: payloads.length > 0, read: readsPayloads, memory: testsMemory };
  return { orders, bootImage: pathsOf("boot")[0], payloads };
}
