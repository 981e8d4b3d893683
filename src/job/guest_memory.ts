// SPDX-License-Identifier: MIT
/**
 * Writes memory and devices of a guest to a file, and loads them again.
 *
 * @module
 */

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as v from "valibot";
import { UserError } from "../errors.ts";
import { anyText, openObject } from "../json.ts";
import { shellQuote } from "../launch/process.ts";
import type { Qmp } from "../launch/qmp.ts";
import type { Checkpoint } from "../record/checkpoints.ts";
import { ENOUGH_BYTES, freeBytes, mebibytes } from "./space.ts";

const POLL_MS = 20;
/** So long after the end of it, the file has its name. */
const NAMED_MS = 5000;
/** Without any progress for so long, memory cannot be written. */
const STUCK_MS = 60_000;
/** In bytes a second: QEMU's default slows down what is no network. */
const NO_LIMIT = 2 ** 40;

const statusSchema = openObject({ status: anyText });
const migrationSchema = openObject({
  status: v.optional(anyText),
  "error-desc": v.optional(anyText),
  ram: v.optional(openObject({ transferred: v.number() })),
});
const isStatus = (value: unknown) => v.is(statusSchema, value);
const isMigration = (value: unknown) => v.is(migrationSchema, value);

/** Tells whether a guest runs, or why it stands still. */
export async function guestStatus(qmp: Qmp): Promise<string> {
  return (await qmp.ask(isStatus, "query-status")).status;
}

/** Lets QEMU write memory as fast as it can. */
export async function setLimits(qmp: Qmp): Promise<void> {
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": NO_LIMIT });
}

/**
 * Writes memory and devices of a guest that stands still.
 *
 * @param place Directory of the file, absolute.
 * @throws {UserError} "target" where it cannot be written.
 */
export async function writeMemory(qmp: Qmp, place: string, name: string): Promise<void> {
  const path = join(place, name);
  const part = `${path}.part`;
  // cat reports a full disk only by its exit code, which QEMU may not look at: hence the name.
  const [from, to] = [shellQuote([part]), shellQuote([path])];
  rmSync(part, { force: true });
  await qmp.execute("migrate", {
    uri: `exec:umask 077; cat > ${from} 2>/dev/null && mv ${from} ${to}`,
  });
  let movedAt = performance.now();
  for (let moved = -1;;) {
    const state = await qmp.ask(isMigration, "query-migrate");
    if (state.status === "completed") break;
    if (["failed", "cancelled"].includes(state.status ?? "")) {
      throw await memoryError(place, state["error-desc"] ?? "QEMU does not say why");
    }
    const transferred = state.ram?.transferred ?? 0;
    if (transferred !== moved) [moved, movedAt] = [transferred, performance.now()];
    if (performance.now() - movedAt > STUCK_MS) {
      await qmp.execute("migrate_cancel");
      throw await memoryError(place, "the disk takes no more");
    }
    await delay(POLL_MS);
  }
  for (let waitedMs = 0; !existsSync(path); waitedMs += POLL_MS) {
    if (waitedMs > NAMED_MS || !existsSync(part) && !existsSync(path)) {
      throw await memoryError(place, "it is not complete");
    }
    await delay(POLL_MS);
  }
}

async function memoryError(place: string, why: string): Promise<UserError> {
  const free = await freeBytes(place);
  const isFull = free < ENOUGH_BYTES ? `, ${mebibytes(free)} are free in ${place}` : "";
  return new UserError("target", `its memory could not be written (${why})${isFull}`);
}

/**
 * Loads the memory of a checkpoint into a QEMU that waits for it, and lets the guest go on.
 *
 * @param memory Absolute path.
 * @throws {UserError} "launch" where this QEMU is of another series than the one that has saved it.
 */
export async function loadMemory(qmp: Qmp, from: Checkpoint, memory: string): Promise<void> {
  if (seriesOf(qmp.version) !== seriesOf(from.qemu)) {
    throw new UserError(
      "launch",
      `Cannot go on from checkpoint ${from.number}: QEMU is ${qmp.version}, and it was saved by ` +
        from.qemu,
      { hint: "Use the QEMU that has saved it: name it with --qemu-cmd" },
    );
  }
  await qmp.execute("migrate-incoming", { uri: `exec:cat < ${shellQuote([memory])}` });
  for (;;) {
    const { status } = await qmp.ask(isStatus, "query-status");
    if (status !== "inmigrate") break;
    await delay(POLL_MS);
  }
  await qmp.execute("cont");
}

/** QEMU keeps the form of a saved state within a series, such as 7.2. */
function seriesOf(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}
