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
import type { Attempt, Failure, FetchReport, WrongPlace } from "./types.ts";

/** So many files are named, and so many hosts. */
const MOST_NAMED = 20;

/** So many of more files are named with their SHA-256. */
const MOST_DIGESTS = 3;

/**
 * Makes one error of all failures: each file, each URL, and the answer of that URL. Where they are
 * many, an answer that a host gives for several files is named once, with their number.
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
  const areWrong = failures.every(({ attempts, wrong = [] }) =>
    attempts.length + wrong.length > 0 && attempts.every(({ fault }) => fault === "digest")
  );
  const wrong = new Set(failures.flatMap(({ wrong = [] }) => wrong.map(({ path }) => path)));
  const without = directories.filter((path) => !wrong.has(path));
  const message = [
    `Cannot fetch ${failures.length} of ${counted(all, "distfile")}` +
    (areWrong ? ": what every source has is wrong" : ""),
    ...(failures.length > MOST_NAMED ? describeMany(failures) : failures.flatMap(describeFailure)),
    ...(without.length === 0 ? [] : [`  not in ${without.join(", ")} either`]),
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

/**
 * Makes one error of all distfiles that would have to be fetched where nothing may be.
 *
 * @param absent At least one.
 * @param directories Where they were searched.
 * @returns A "fetch" error; a "verify" error where this machine has all of them with other bytes.
 */
export function offlineError(
  absent: readonly Pick<Failure, "name" | "sha256" | "wrong">[],
  directories: readonly string[],
): UserError {
  const isWrong = ({ wrong = [] }: Pick<Failure, "wrong">) => wrong.length > 0;
  const missing = absent.filter((file) => !isWrong(file));
  const others = absent.filter(isWrong);
  const parts = [
    ...(missing.length === 0 ? [] : [
      `${counted(missing.length, "distfile is", "distfiles are")} missing`,
    ]),
    ...(others.length === 0 ? [] : [
      `${counted(others.length, "distfile has", "distfiles have")} a wrong SHA-256`,
    ]),
  ];
  const places = Map.groupBy(
    others.flatMap(({ name, wrong = [] }) =>
      wrong.map((place) => ({ name, text: wrongIn(place) }))
    ),
    ({ text }) => text,
  );
  const isDamage = others.some(({ wrong = [] }) => wrong.some(({ isBundle }) => isBundle));
  const remedy =
    "Make a bundle that has them, put them into the store (--store), or leave out --offline";
  return new UserError(
    missing.length === 0 ? "verify" : "fetch",
    [
      `Cannot continue with --offline: ${parts.join(", ")}`,
      ...named(missing),
      ...(missing.length === 0 ? [] : [`  searched ${directories.join(", ")}`]),
      ...[...places].map(([text, [first, ...more]]) =>
        `  ${text}: ${first!.name}${more.length === 0 ? "" : ` and ${more.length} more`}`
      ),
    ].join("\n"),
    {
      hint: isDamage
        ? `seedstrap bundle verify lists all damage: copy the bundle again. ${remedy}`
        : remedy,
    },
  );
}

function wrongIn({ path, isBundle }: WrongPlace): string {
  return isBundle ? `damaged in ${path}` : `wrong SHA-256 in ${path}`;
}

/** Names missing files; of many, only the first ones with their SHA-256. */
function named(files: readonly Pick<Failure, "name" | "sha256">[]): string[] {
  const digests = files.length > MOST_NAMED ? MOST_DIGESTS : MOST_NAMED;
  return [
    ...files.slice(0, MOST_NAMED).map(({ name, sha256 }, index) =>
      `  ${name}${index < digests ? `, SHA-256 ${sha256}` : ""}`
    ),
    ...more(files.length, "files; seedstrap sources lists all"),
  ];
}

/** Describes more failures than anybody wants to read. */
function describeMany(failures: readonly Failure[]): string[] {
  const counts = new Map<string, number>();
  for (const failure of failures) {
    for (const answer of new Set(answersOf(failure))) {
      counts.set(answer, (counts.get(answer) ?? 0) + 1);
    }
  }
  const dead = new Set(
    failures.flatMap(({ attempts }) => attempts.filter(({ fault }) => fault === "host"))
      .map(answerOfHost),
  );
  const shown = [...counts].filter(([answer, count]) => count > 1 || dead.has(answer))
    .sort(([, a], [, b]) => b - a);
  const common = new Set(shown.map(([answer]) => answer));
  const files = failures.map((failure) => {
    const attempts = failure.attempts.filter((attempt) => !common.has(answerOfHost(attempt)));
    const wrong = (failure.wrong ?? []).filter((place) => !common.has(wrongIn(place)));
    const isNowhere = answersOf(failure).length === 0;
    const hasOwn = isNowhere || attempts.length + wrong.length > 0;
    return { ...failure, attempts, wrong, hasOwn };
  });
  // A file with an answer of its own says more than one whose answers are those of others.
  const first = files.sort((a, b) => Number(b.hasOwn) - Number(a.hasOwn)).slice(0, MOST_NAMED);
  return [
    ...shown.slice(0, MOST_NAMED).map(([answer, count]) =>
      `  ${answer} for ${count} of ${counted(failures.length, "file")}`
    ),
    ...more(shown.length, "hosts or answers"),
    ...first.flatMap(({ hasOwn, ...failure }, index) => {
      const [name, ...answers] = describeFailure(failure);
      return [
        index < MOST_DIGESTS ? name! : `  ${failure.name}`,
        ...(hasOwn ? answers : []),
      ];
    }),
    ...more(failures.length, "files; seedstrap sources has the URLs of all"),
  ];
}

/** Returns what hosts and places of this machine say about a file, as those of others do. */
function answersOf({ attempts, wrong = [] }: Failure): string[] {
  return [...attempts.map(answerOfHost), ...wrong.map(wrongIn)];
}

function answerOfHost({ url, answer, fault }: Attempt): string {
  // The digest is that of one file.
  return `${hostOf(url)}: ${fault === "digest" ? "wrong SHA-256" : answer}`;
}

function more(count: number, what: string): string[] {
  return count > MOST_NAMED ? [`  and ${count - MOST_NAMED} more ${what}`] : [];
}

function describeFailure({ name, sha256, attempts, wrong = [] }: Failure): string[] {
  const isNowhere = attempts.length + wrong.length === 0;
  return [
    `  ${name} (SHA-256 ${sha256})`,
    ...wrong.map((place) => `    ${wrongIn(place)}`),
    ...attempts.map(describeAttempt),
    ...(isNowhere ? ["    it has no URL, and no mirror is a server"] : []),
  ];
}

function describeAttempt({ url, answer, tries }: Attempt): string {
  return `    ${url}: ${answer}${tries > 1 ? ` (tried ${tries} times)` : ""}`;
}
