// SPDX-License-Identifier: MIT
/**
 * The one report of every distfile that could not be had.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { Attempt, Failure, FetchReport } from "./types.ts";

/**
 * Puts all failures of a run into one error: each file, each URL, and what it answered.
 *
 * @param report With at least one failure.
 * @param directories Of mirrors, in which they were looked for before.
 * @returns "fetch", its message of several lines, its hint naming what helps.
 */
export function fetchError(
  { store, files, failures }: FetchReport,
  directories: readonly string[] = [],
): UserError {
  const all = files.size + failures.length;
  const message = [
    `Cannot fetch ${failures.length} of ${all} ${all === 1 ? "distfile" : "distfiles"}`,
    ...failures.flatMap(describeFailure),
    ...(directories.length === 0 ? [] : [`  nor are they in ${directories.join(", ")}`]),
  ].join("\n");
  const place = failures.length === 1 && failures[0] !== undefined
    ? `the file as ${join(store, failures[0].name)}`
    : `the files into ${store}`;
  return new UserError("fetch", message, {
    hint: `Run again to go on, give another mirror (-m), or put ${place}`,
  });
}

function describeFailure({ name, sha256, attempts }: Failure): string[] {
  return [
    `  ${name} (SHA-256 ${sha256})`,
    ...attempts.map(describeAttempt),
    ...(attempts.length === 0 ? ["    no URL and no server to ask"] : []),
  ];
}

function describeAttempt({ url, answer, tries }: Attempt): string {
  return `    ${url}: ${answer}${tries > 1 ? ` (tried ${tries} times)` : ""}`;
}
