// SPDX-License-Identifier: MIT
/** Durations on the command line: 90s, 30m, 2h. */

import { UserError } from "../errors.ts";

/** The longest one: what a timer takes, and far more than any step needs. */
const MAX_S = 500 * 3600;

/**
 * Parses a duration, to milliseconds.
 *
 * @param option What it is the value of.
 * @throws {UserError} "usage"
 */
export function parseDuration(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit] = /^(\d{1,7})([smh])$/.exec(text) ?? [];
  const seconds = Number(number) * { s: 1, m: 60, h: 3600 }[unit as "s" | "m" | "h"];
  if (seconds >= 1 && seconds <= MAX_S) return seconds * 1000;
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for ${option}`, {
    hint: "It takes a whole number and its unit, up to 500h: 90s, 30m, 2h",
  });
}
