// SPDX-License-Identifier: MIT
/**
 * What a check of this machine has found.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { Mode } from "../plan/options.ts";
import { onOneLine } from "../text.ts";

/**
 * `ok`: it is there. `warning`: a bootstrap goes on without it, but worse. `missing`: it cannot go
 * on. `not needed`: no mode that was asked for needs it, with these options.
 */
export type CheckResult = "ok" | "warning" | "missing" | "not needed";

/** How a check ended. */
export interface Finding {
  readonly result: CheckResult;
  /** What was seen, as a phrase. */
  readonly seen: string;
  /** What to do about it, as a sentence or a command; only where something is wrong. */
  readonly remedy?: string;
}

/** A check of this machine. */
export interface HostCheck extends Finding {
  readonly name: string;
  /** The modes that need it. */
  readonly modes: readonly Mode[];
  /** What is needed, and what for, as a phrase. */
  readonly needs: string;
}

/** What is looked for. */
export interface Subject {
  readonly name: string;
  readonly modes: readonly Mode[];
  readonly needs: string;
  /** The reason why no mode needs it, as a phrase; undefined where one does. */
  readonly unneeded?: string | undefined;
}

export function good(seen: string): Finding {
  return { result: "ok", seen };
}

export function doubtful(seen: string, remedy: string): Finding {
  return { result: "warning", seen, remedy };
}

export function absent(seen: string, remedy: string): Finding {
  return { result: "missing", seen, remedy };
}

/**
 * Runs a check. A {@link UserError} means that what it needs is missing; its hint is the remedy.
 * What is missing although nothing needs it is `not needed`.
 *
 * @param run Absent for what cannot be tried, as nothing needs it.
 * @throws {UserError} "interrupt"
 */
export async function look(
  { unneeded, ...subject }: Subject,
  run?: () => Finding | Promise<Finding>,
): Promise<HostCheck> {
  if (run === undefined) return { ...subject, result: "not needed", seen: unneeded ?? "" };
  const found = await foundBy(run);
  if (unneeded === undefined || found.result === "ok") return { ...subject, ...found };
  return { ...subject, result: "not needed", seen: `${unneeded} (${found.seen})` };
}

async function foundBy(run: () => Finding | Promise<Finding>): Promise<Finding> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof UserError) || error.kind === "interrupt") throw error;
    const lines = error.message.split(/\s*\n\s*/);
    return absent(onOneLine(lines.join("; ")), error.hint ?? "See the message");
  }
}
