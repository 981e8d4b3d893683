// SPDX-License-Identifier: MIT
/**
 * Predicates of the manifest.
 *
 *   predicate = "(" logic ")"
 *   logic     = term [ ( "&&" | "||" ) logic ]
 *   term      = NAME ( "==" | "!=" ) VALUE | CONSTANT | predicate
 *
 * A constant can only be the last term. The in-system reader is right-recursive and has no
 * precedence: `( a && b || c )` means `a && (b || c)`. Anything after the closing bracket is not
 * read. The in-system reader of live-bootstrap stops at inner brackets; here they mean what they
 * mean everywhere, as a checkout may have another reader.
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
    readonly left: Logic;
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
  const left = parseTerm(tokens, at);
  if (typeof left === "string" || left.logic.kind === "constant") return left;
  const link = tokens[left.next];
  if (link === undefined) return UNCLOSED;
  if (link === ")") return { ...left, next: left.next + 1 };
  if (link !== "&&" && link !== "||") return `expected && or || or ")", found ${quote(link)}`;
  const right = parseLogic(tokens, left.next + 1);
  if (typeof right === "string") return right;
  return {
    logic: { kind: link === "&&" ? "and" : "or", left: left.logic, right: right.logic },
    next: right.next,
  };
}

const UNCLOSED = 'the predicate has no closing ")"';

/** Parses a term; a constant with the closing bracket after it. */
function parseTerm(tokens: readonly string[], at: number): ParsedLogic | string {
  const name = tokens[at];
  if (name === "(") {
    const inner = parseLogic(tokens, at + 1);
    if (typeof inner === "string") return inner;
    const { logic } = inner;
    // A constant in brackets of its own may have more terms after it.
    const term: Logic = logic.kind === "constant"
      ? { kind: "or", left: logic, right: logic }
      : logic;
    return { logic: term, next: inner.next };
  }
  const operator = tokens[at + 1];
  if (name === undefined || operator === undefined) return UNCLOSED;
  if (operator === ")") {
    return { logic: { kind: "constant", value: name }, next: at + 2 };
  }
  if (operator !== "==" && operator !== "!=") {
    return `expected == or != after ${quote(name)}, found ${quote(operator)}`;
  }
  const value = tokens[at + 2];
  if (value === undefined || tokens[at + 3] === undefined) return UNCLOSED;
  const kind = operator === "==" ? "equal" : "unequal";
  return { logic: { kind, name, value }, next: at + 3 };
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
