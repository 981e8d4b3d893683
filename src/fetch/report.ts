// SPDX-License-Identifier: MIT
/**
 * The report of all distfiles that could not be fetched.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { counted } from "../text.ts";
import { hostOf } from "./failure.ts";
import type { Attempt, Failure, FetchReport } from "./types.ts";

/** So many files are named with the answer of every URL, and so many hosts. */
const MOST_NAMED = 20;

/**
 * Makes one error of all failures: each file, each URL, and the answer of that URL. Where they are
 * many, hosts that cannot be reached are named once, with the number of their files.
 *
 * @param report With at least one failure.
 * @param directories Directories of mirrors that were searched before.
 * @returns A "fetch" error with a message of several lines and a hint; a "verify" error where every
 * source of every file had other bytes.
 */
export function fetchError(
  { store, files, failures }: FetchReport,
  directories: readonly string[] = [],
): UserError {
  const all = files.size + failures.length;
  const areWrong = failures.every(({ attempts }) =>
    attempts.length > 0 && attempts.every(({ fault }) => fault === "digest")
  );
  const message = [
    `Cannot fetch ${failures.length} of ${counted(all, "distfile")}` +
    (areWrong ? ": what every source has is wrong" : ""),
    ...(failures.length > MOST_NAMED ? describeMany(failures) : failures.flatMap(describeFailure)),
    ...(directories.length === 0 ? [] : [`  not in ${directories.join(", ")} either`]),
  ].join("\n");
  const place = failures.length === 1 && failures[0] !== undefined
    ? `the file as ${join(store, failures[0].name)}`
    : `the files into ${store}`;
  return new UserError(areWrong ? "verify" : "fetch", message, {
    hint: areWrong
      ? `It was changed where it comes from: give another mirror (-m), or put ${place}`
      : `Run again to continue, give another mirror (-m), or put ${place}`,
  });
}

/** Describes more failures than anybody wants to read. */
function describeMany(failures: readonly Failure[]): string[] {
  const hosts = new Map<string, number>();
  for (const { attempts } of failures) {
    const dead = attempts.filter(({ fault }) => fault === "host");
    for (const host of new Set(dead.map(({ url, answer }) => `${hostOf(url)}: ${answer}`))) {
      hosts.set(host, (hosts.get(host) ?? 0) + 1);
    }
  }
  const shown = [...hosts].sort(([, a], [, b]) => b - a);
  // A file with an answer of its own says more than one whose hosts are all dead.
  const rank = ({ attempts }: Failure) => attempts.some(({ fault }) => fault !== "host") ? 0 : 1;
  const answered = [...failures].sort((a, b) => rank(a) - rank(b)).slice(0, MOST_NAMED);
  return [
    ...shown.slice(0, MOST_NAMED).map(([host, count]) =>
      `  ${host}, for ${count} ${count === 1 ? "file" : "files"}`
    ),
    ...more(shown.length, "hosts"),
    ...answered.flatMap((failure) =>
      rank(failure) === 1 ? [`  ${failure.name} (SHA-256 ${failure.sha256})`] : describeFailure({
        ...failure,
        attempts: failure.attempts.filter(({ fault }) => fault !== "host"),
      })
    ),
    ...more(failures.length, "files; seedstrap sources has the URLs of all"),
  ];
}

function more(count: number, what: string): string[] {
  return count > MOST_NAMED ? [`  and ${count - MOST_NAMED} more ${what}`] : [];
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
