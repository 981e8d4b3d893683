// SPDX-License-Identifier: MIT
/**
 * The format of steps/manifest: what is built, in order.
 *
 *   line      = directive [ predicate ] [ comment ]
 *   directive = "build:" NAME | "improve:" NAME | "jump:" NAME
 *             | "define:" NAME "=" ( VALUE | predicate )
 *             | "uninstall:" { NAME }
 *
 * Tokens are separated by exactly one space. A second space makes an empty token, which can be a
 * value (`( A ==  )`: A is empty) but not a name; a tab is part of its token. A token has at most
 * 63 bytes. `#` begins a comment anywhere. A space at the end of a line is ignored, and so is
 * anything after a predicate. Empty lines, and lines that begin with `#`, are skipped.
 *
 * Source: live-bootstrap, seed/script-generator.c, which reads it on the booted machine into
 * 64-byte buffers that it does not check.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { Config } from "./config.ts";
import { controlIn, quoted } from "../text.ts";
import { evaluateLogic, type Logic, parsePredicate } from "./predicate.ts";

/** Longest token in bytes. */
export const MAX_TOKEN_BYTES = 63;
/** Most tokens in a line, as predicates are parsed recursively, here and on the booted machine. */
const MAX_TOKENS = 4096;

interface Line {
  /** Line number in the manifest, from 1. */
  readonly line: number;
  /** The whole line, including a comment. */
  readonly text: string;
  /** Condition under which the line is executed. */
  readonly predicate?: Logic;
}

/** `build:`, `improve:`, `jump:` and `uninstall:`. */
export interface ActionLine extends Line {
  readonly kind: "build" | "improve" | "jump" | "uninstall";
  /** The argument; for `uninstall:` all of them, separated by spaces. */
  readonly name: string;
}

/** A directive that is not known here. */
export interface UnknownLine extends Line {
  readonly kind: "unknown";
  /** The directive, such as `fetch:`. */
  readonly name: string;
}

/** `define:`. */
export interface DefineLine extends Line {
  readonly kind: "define";
  readonly name: string;
  readonly value: string | Logic;
}

export type ManifestLine = ActionLine | DefineLine | UnknownLine;

/** A parsed manifest. */
export interface Manifest {
  /** Name of the file for messages. */
  readonly file: string;
  /** The whole text. */
  readonly text: string;
  readonly lines: readonly ManifestLine[];
  /** What is odd but readable, with its place. */
  readonly remarks: readonly string[];
}

/**
 * Parses a manifest.
 *
 * @param name Name of the file for messages.
 * @throws {UserError} "tree" with file and line, for anything that the in-system reader would stop
 * at, crash on, or silently misread, except directives that are not known and inner brackets: the
 * checkout may have a newer reader.
 */
export function parseManifest(text: string, name: string): Manifest {
  const lines: ManifestLine[] = [];
  const remarks: string[] = [];
  text.split("\n").forEach((line, index) => {
    if (line === "" || line.startsWith("#")) return;
    const parsed = parseLine(line, { line: index + 1, text: line });
    if (typeof parsed === "string") {
      throw new UserError("tree", `Cannot read manifest: ${parsed}`, {
        where: `${name}:${index + 1}`,
        hint: "Tokens are separated by exactly one space",
      });
    }
    lines.push(parsed);
    if (parsed.kind === "unknown") {
      remarks.push(
        `${name}:${index + 1}: the directive ${parsed.name} is not known: ` +
          "what it needs is neither counted nor carried",
      );
    } else if (hasInnerBrackets(line)) {
      remarks.push(
        `${name}:${index + 1}: a predicate with inner brackets, ` +
          "at which live-bootstrap's own reader stops",
      );
    }
  });
  return { file: name, text, lines, remarks };
}

function hasInnerBrackets(line: string): boolean {
  let depth = 0;
  return tokenize(line).some((token) => {
    if (token === "(") depth++;
    if (token === ")") depth--;
    return depth > 1;
  });
}

/** Splits a line like the in-system reader. */
function tokenize(line: string): string[] {
  const tokens: string[] = [];
  let at = 0;
  while (at < line.length) {
    let end = at;
    while (end < line.length && line[end] !== " " && line[end] !== "#") end++;
    tokens.push(line.slice(at, end));
    if (line[end] === " ") end++;
    if (line[end] === "#") break;
    at = end;
  }
  return tokens;
}

function parseLine(text: string, place: Line): ManifestLine | string {
  const tokens = tokenize(text);
  if (tokens.length > MAX_TOKENS) {
    return `a line has at most ${MAX_TOKENS} tokens, this one has ${tokens.length}`;
  }
  for (const token of tokens) {
    const bytes = new TextEncoder().encode(token).length;
    if (bytes > MAX_TOKEN_BYTES) {
      return `a token has at most ${MAX_TOKEN_BYTES} bytes, ${quoted(token)} has ${bytes}`;
    }
  }
  const parsed = parseTokens(tokens, place);
  // Most failures come from white space that is not visible in an editor.
  if (typeof parsed === "string") {
    return oddToken(tokens) ?? (tokens.includes("") ? "one space too many" : parsed);
  }
  return parsed;
}

/** Returns a message about a token with control characters, which the in-system reader accepts. */
function oddToken(tokens: readonly string[]): string | undefined {
  for (const token of tokens) {
    const found = controlIn(token);
    if (found === undefined) continue;
    const what = /[\t\r\0]/.test(token) ? "a tab, return or NUL" : `the control character ${found}`;
    return `${what} is part of ${quoted(token)}`;
  }
  return undefined;
}

function parseTokens(tokens: readonly string[], place: Line): ManifestLine | string {
  const [verb = "", name] = tokens;
  switch (verb) {
    case "build:":
    case "improve:":
    case "jump:":
    case "uninstall:": {
      if (!name) return `${verb} needs a name`;
      let at = 2;
      if (verb === "uninstall:") { while (at < tokens.length && tokens[at] !== "(") at++; }
      const kind = verb.slice(0, -1) as ActionLine["kind"];
      return withPredicate(
        { kind, name: tokens.slice(1, at).join(" "), ...place },
        tokens,
        at,
      );
    }
    case "define:":
      return parseDefine(tokens, place);
    default:
      if (verb !== undefined && /^[a-z][\w-]*:$/.test(verb) && !tokens.includes("")) {
        return { kind: "unknown", name: verb, ...place };
      }
      return `expected build:, improve:, jump:, define: or uninstall:, found ${quoted(verb)}`;
  }
}

function parseDefine(tokens: readonly string[], place: Line): ManifestLine | string {
  const [, name, equals, first] = tokens;
  if (!name || equals !== "=" || first === undefined) {
    return "expected define: NAME = VALUE";
  }
  if (first !== "(") {
    return withPredicate({ kind: "define", name, value: first, ...place }, tokens, 4);
  }
  const value = parsePredicate(tokens, 3);
  if (typeof value === "string") return value;
  return withPredicate({ kind: "define", name, value: value.logic, ...place }, tokens, value.next);
}

function withPredicate<T extends ManifestLine>(
  line: T,
  tokens: readonly string[],
  at: number,
): T | string {
  if (at >= tokens.length) return oddToken(tokens) ?? line;
  const parsed = parsePredicate(tokens, at);
  if (typeof parsed === "string") return parsed;
  return oddToken(tokens.slice(0, parsed.next)) ?? { ...line, predicate: parsed.logic };
}

/** A line that is executed under a given configuration. */
export interface ActiveLine {
  readonly line: ActionLine;
  /** Index of the line in `manifest.lines`. */
  readonly index: number;
  /** For `build:`, the number N of the `passN` script that it runs, from 1; otherwise 0. */
  readonly pass: number;
}

/**
 * Evaluates the predicates.
 *
 * @param config The bootstrap.cfg that the booted machine would read.
 * @returns The lines that are executed, without defines, in order.
 */
export function evaluateManifest(manifest: Manifest, config: Config): ActiveLine[] {
  return followManifest(manifest, config).active;
}

/**
 * Evaluates the predicates, and what the defines leave.
 *
 * @returns The lines that are executed, see {@link evaluateManifest}, and the bootstrap.cfg that the
 * in-system reader writes afterwards.
 */
export function followManifest(
  manifest: Manifest,
  config: Config,
): { readonly active: ActiveLine[]; readonly config: Config } {
  // The in-system reader never changes its first variable: a definition of it adds a second one of
  // that name, which no lookup finds. Of several in bootstrap.cfg the first one counts.
  let [first] = config;
  const others = new Map(config.slice(1).toReversed());
  const lookup = (name: string) => (name === first?.[0] ? first[1] : others.get(name)) ?? "";
  const holds = (predicate: Logic | undefined) =>
    predicate === undefined || evaluateLogic(predicate, lookup) === "True";
  const active: ActiveLine[] = [];
  const seen = new Map<string, number>();
  manifest.lines.forEach((line, index) => {
    if (line.kind === "unknown" || !holds(line.predicate)) return;
    if (line.kind === "define") {
      const value = typeof line.value === "string" ? line.value : evaluateLogic(line.value, lookup);
      if (first === undefined) first = [line.name, value];
      else others.set(line.name, value);
      return;
    }
    // Passes are counted by argument only, for all directives.
    const before = seen.get(line.name) ?? 0;
    seen.set(line.name, before + 1);
    active.push({ line, index, pass: line.kind === "build" ? before + 1 : 0 });
  });
  return { active, config: [...first === undefined ? [] : [first], ...others] };
}

/** Whether the checkout imports payloads itself; newer ones do. */
export function importsPayload(manifest: Manifest): boolean {
  return manifest.lines.some((line) => line.kind === "improve" && line.name === "import_payload");
}
