// SPDX-License-Identifier: MIT
/**
 * Predicates of the manifest.
 *
 *   predicate = "(" logic ")"
 *   logic     = term [ ( "&&" | "||" ) logic ]
 *   term      = NAME ( "==" | "!=" ) VALUE | CONSTANT
 *
 * A constant can only be the last term. The in-system reader is right-recursive and has no
 * precedence: `( a && b || c )` means `a && (b || c)`. There are no inner brackets, and anything
 * after the closing bracket is not read.
 *
 * Source: live-bootstrap, seed/script-generator.c.
 *
 * @module
 */

import { quoted } from "../text.ts";

/** A predicate without its brackets, nested in the order of its evaluation. */
export type Logic =
  | { readonly kind: "constant"; readonly value: string }
  | Comparison
  | {
    readonly kind: "and" | "or";
    readonly left: Comparison;
    readonly right: Logic;
  };

/** A variable compared with a value; an unset variable is the empty string. */
export interface Comparison {
  readonly kind: "equal" | "unequal";
  readonly name: string;
  readonly value: string;
}

/** A parsed predicate, and the index of the token after its closing bracket. */
export interface ParsedLogic {
  readonly logic: Logic;
  readonly next: number;
}

/**
 * Parses a predicate.
 *
 * @param tokens Tokens of a manifest line.
 * @param at Index of the opening bracket.
 * @returns The predicate, or a phrase that says what is wrong with it.
 */
export function parsePredicate(tokens: readonly string[], at: number): ParsedLogic | string {
  if (tokens[at] !== "(") {
    return `expected a predicate to begin with "(", found ${quote(tokens[at])}`;
  }
  return parseLogic(tokens, at + 1);
}

function parseLogic(tokens: readonly string[], at: number): ParsedLogic | string {
  const left = tokens[at];
  const operator = tokens[at + 1];
  if (left === undefined || operator === undefined) return 'the predicate has no closing ")"';
  if (operator === ")") return { logic: { kind: "constant", value: left }, next: at + 2 };
  if (operator !== "==" && operator !== "!=") {
    return `expected == or != after ${quote(left)}, found ${quote(operator)}`;
  }
  const value = tokens[at + 2];
  const link = tokens[at + 3];
  if (value === undefined || link === undefined) return 'the predicate has no closing ")"';
  const comparison: Comparison = {
    kind: operator === "==" ? "equal" : "unequal",
    name: left,
    value,
  };
  if (link === ")") return { logic: comparison, next: at + 4 };
  if (link !== "&&" && link !== "||") return `expected && or || or ")", found ${quote(link)}`;
  const right = parseLogic(tokens, at + 4);
  if (typeof right === "string") return right;
  return {
    logic: { kind: link === "&&" ? "and" : "or", left: comparison, right: right.logic },
    next: right.next,
  };
}

/**
 * Evaluates a predicate to the same text as the in-system reader.
 *
 * @param lookup Returns the value of a variable; empty if it is unset.
 * @returns "True", "False", or the constant itself.
 */
export function evaluateLogic(logic: Logic, lookup: (name: string) => string): string {
  switch (logic.kind) {
    case "constant":
      return logic.value;
    case "equal":
      return text(lookup(logic.name) === logic.value);
    case "unequal":
      return text(lookup(logic.name) !== logic.value);
    case "and":
    case "or": {
      const left = evaluateLogic(logic.left, lookup) === "True";
      const right = evaluateLogic(logic.right, lookup) === "True";
      return text(logic.kind === "and" ? left && right : left || right);
    }
  }
}

function text(value: boolean): string {
  return value ? "True" : "False";
}

function quote(token: string | undefined): string {
  return token === undefined ? "the end of the line" : quoted(token);
}
