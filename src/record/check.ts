// SPDX-License-Identifier: MIT
/**
 * Checks of values that came out of a JSON text, field by field: a small language for saying what
 * a value has to be. Whatever is not named is refused.
 *
 * @module
 */

/** The first thing that is wrong with a value, and where: `.options.cores is no …`. */
export class Fault extends Error {}

/** Throws a {@link Fault} for a value that is not what it should be; `at` is its place. */
export interface Check {
  (value: unknown, at: string): void;
  /** Whether the field may be left out. */
  readonly mayBeAbsent?: boolean;
}

/** An object with exactly these fields; the type sees to it that each of them has its check. */
export function object<T>(fields: Readonly<Record<keyof Required<T>, Check>>): Check {
  const known = new Map<string, Check>(Object.entries(fields));
  return (value, at) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new Fault(`${at} is no object`);
    }
    const present = new Map<string, unknown>(Object.entries(value));
    for (const name of present.keys()) {
      if (!known.has(name)) throw new Fault(`${at}.${name} is not known`);
    }
    for (const [name, check] of known) {
      if (present.has(name)) check(present.get(name), `${at}.${name}`);
      else if (check.mayBeAbsent !== true) throw new Fault(`${at}.${name} is missing`);
    }
  };
}

/** A field that may be left out. */
export function optional(check: Check): Check {
  const copy = (value: unknown, at: string) => check(value, at);
  return Object.assign(copy, { mayBeAbsent: true });
}

export function array(item: Check): Check {
  return (value, at) => {
    if (!Array.isArray(value)) throw new Fault(`${at} is no list`);
    value.forEach((inner, index) => item(inner, `${at}[${index}]`));
  };
}

/** A value that passes a test; `what` says which, as in "no number from 1 to 5". */
export function where(test: (value: unknown) => boolean, what: string): Check {
  return (value, at) => {
    if (!test(value)) throw new Fault(`${at} is ${what}`);
  };
}

/** A value that passes one of two checks. */
export function either(first: Check, second: Check): Check {
  return (value, at) => {
    try {
      first(value, at);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      second(value, at);
    }
  };
}

export function oneOf(choices: readonly unknown[]): Check {
  return where((value) => choices.includes(value), `none of ${choices.join(", ")}`);
}

export function count(least: number, most: number): Check {
  return where(
    (value) => Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most,
    `no whole number from ${least} to ${most}`,
  );
}

/** A text that a pattern matches. */
export function text(pattern: RegExp, what: string): Check {
  return where((value) => typeof value === "string" && pattern.test(value), `no ${what}`);
}

export const anyText: Check = text(/^/, "text");
export const bool: Check = where((value) => typeof value === "boolean", "neither true nor false");
export const size: Check = count(0, Number.MAX_SAFE_INTEGER);
export const amount: Check = where(Number.isFinite, "no number");
export const sha256: Check = text(/^[0-9a-f]{64}$/, "SHA-256 in lower-case hex");
