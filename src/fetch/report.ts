// SPDX-License-Identifier: MIT
/**
 * The report of all distfiles that could not be fetched.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { Attempt, Failure, FetchReport } from "./types.ts";

/**
 * Makes one error of all failures: each file, each URL, and the answer of that URL.
 *
 * @param report With at least one failure.
 * @param directories Directories of mirrors that were searched before.
 * @returns A "fetch" error with a message of several lines and a hint.
 */
export function fetchError(
  { store, files, failures }: FetchReport,
  directories: readonly string[] = [],
): UserError {
  const all = files.size + failures.length;
  const message = [
    `Cannot fetch ${failures.length} of ${all} ${all === 1 ? "distfile" : "distfiles"}`,
    ...failures.flatMap(describeFailure),
    ...(directories.length === 0 ? [] : [`  not in ${directories.join(", ")} either`]),
  ].join("\n");
  const place = failures.length === 1 && failures[0] !== undefined
    ? `the file as ${join(store, failures[0].name)}`
    : `the files into ${store}`;
  return new UserError("fetch", message, {
    hint: `Run again to continue, give another mirror (-m), or put ${place}`,
  });
}

function describeFailure({ name, sha256, attempts }: Failure): string[] {
  return [
    `  ${name} (SHA-256 ${sha256})`,
    ...attempts.map(describeAttempt),
    ...(attempts.length === 0 ? ["    it has no URL, and no mirror is a server"] : []),
  ];
}

function describeAttempt({ url, answer, tries }: Attempt): string {
  return `    ${url}: ${answer}${tries > 1 ? ` (tried ${tries} times)` : ""}`;
}
