// SPDX-License-Identifier: MIT
/**
 * `seedstrap mirror --check`: asks every URL and every repository of every step whether it still has
 * what the step wants, and downloads nothing.
 *
 * A server tells that a file is there and how long it is; only a download tells its bytes. A
 * repository tells its branches and tags; whether it has a commit only a clone tells.
 *
 * @module
 */

import { STATUS_CODES } from "node:http";
import { resolve } from "node:path";
import { UserError } from "../errors.ts";
import { HostHealth } from "../fetch/alternatives.ts";
import { hostOf, publicUrl, UrlFailure } from "../fetch/failure.ts";
import { GitFailure, gitFault, listReferences } from "../fetch/git.ts";
import { type HttpAnswer, openUrl } from "../fetch/http.ts";
import { sizeOf } from "../fetch/sizes.ts";
import { UNWATCHED } from "../progress.ts";
import { counted } from "../text.ts";
import { openCheckout } from "../tree/checkout.ts";
import type { MirroredFile, Placed } from "../tree/mirrored.ts";
import { USER_AGENT } from "../version.ts";
import type { DistfileEvents } from "./distfiles.ts";
import { byLine, type MirrorFinding, type MirrorRequest, wantedOf } from "./mirror.ts";
import { type MirrorFile, verifiedIn } from "./mirror_place.ts";
import { severalAtOnce } from "./several.ts";

/** What to check. */
export interface CheckRequest extends Pick<MirrorRequest, "tree"> {
  /** A mirror, whose files are verified; none if absent. */
  readonly dest?: string | undefined;
}

/** What a check has found. */
export interface CheckReport {
  /** The mirror, if there is one. */
  readonly dest: string | undefined;
  /** What the mirror has. */
  readonly files: readonly MirrorFile[];
  /** Names of the files that the mirror lacks, or has with other bytes. */
  readonly missing: readonly string[];
  /** How many URLs and repositories were asked. */
  readonly urls: number;
  readonly repositories: number;
  /** Commits that only a clone can tell of, as `URL~REFERENCE`. */
  readonly untold: readonly string[];
  readonly findings: readonly MirrorFinding[];
}

/** Longest wait for an answer, in milliseconds. */
const STALL_MS = 20_000;

/** Servers that are asked at once, each one question after the other. */
const SERVERS = 16;

/** Answers to HEAD after which GET may have another. */
const ASKED_AGAIN: ReadonlySet<number> = new Set([400, 403, 404, 405, 406, 500, 501, 503]);

/**
 * Asks every URL and repository.
 *
 * @throws {UserError} "tree" for the checkout; "interrupt".
 */
export async function checkMirror(
  { tree, dest }: CheckRequest,
  events: DistfileEvents,
  signal: AbortSignal,
): Promise<CheckReport> {
  const { wanted, unusable } = wantedOf(openCheckout(tree), events);
  const { progress = UNWATCHED } = events;
  const right = dest === undefined ? [] : await verifiedIn(resolve(dest), wanted, progress, signal);
  const present = new Map(right.map((file) => [file.name, file]));
  const found = (file: MirroredFile, where: string, source: string, fault: SourceFault) => ({
    ...fault,
    name: file.name,
    sha256: file.sha256,
    where,
    source,
    isMirrored: present.has(file.name),
  });

  const urls = wanted.flatMap((file) => file.urls.map((placed) => ({ file, ...placed })));
  const git = wanted.flatMap((file) => file.git.map((placed) => ({ file, ...placed })));
  const servers = Map.groupBy(urls, ({ url }) => hostOf(url));
  const repositories = Map.groupBy(git, ({ url }) => url);
  progress.begin(
    `asking for ${counted(urls.length, "file")} and ` +
      counted(repositories.size, "repository", "repositories"),
  );
  const findings: MirrorFinding[] = [];
  const untold: string[] = [];
  const ofServers = [...servers.values()].map((group) => async (signal: AbortSignal) => {
    const server: Server = { health: new HostHealth(), failure: undefined };
    for (const { file, url, where } of group) {
      signal.throwIfAborted();
      const fault = await askUrl(url, present.get(file.name)?.sizeBytes, server, signal);
      if (fault !== undefined) findings.push(found(file, where, publicUrl(url), fault));
    }
  });
  const ofRepositories = [...repositories].map(([url, group]) => async (signal: AbortSignal) => {
    const faults = await askRepository(url, group, signal);
    group.forEach(({ file, where, reference }, index) => {
      const source = `${publicUrl(url)}~${reference}`;
      const fault = faults[index];
      if (fault === "untold") untold.push(source);
      else if (fault !== undefined) findings.push(found(file, where, source, fault));
    });
  });
  await severalAtOnce(SERVERS, [...ofServers, ...ofRepositories], signal);
  return {
    dest: dest === undefined ? undefined : resolve(dest),
    files: right,
    missing: dest === undefined
      ? []
      : wanted.flatMap(({ name }) => present.has(name) ? [] : [name]),
    urls: urls.length,
    repositories: repositories.size,
    untold: untold.sort(),
    findings: [
      ...unusable,
      ...findings.sort(byLine),
    ],
  };
}

type SourceFault = Pick<MirrorFinding, "kind" | "answer">;

/** What is known of a server. */
interface Server {
  readonly health: HostHealth;
  /** Why it could not be reached, the last time. */
  failure: string | undefined;
}

/** @param sizeBytes Size of the right file, if it is known. */
async function askUrl(
  url: string,
  sizeBytes: number | undefined,
  server: Server,
  signal: AbortSignal,
): Promise<SourceFault | undefined> {
  const { health, failure } = server;
  if (failure !== undefined && health.seemsDead(url)) return { kind: "dead", answer: failure };
  for (let isLast = false;; isLast = true) {
    try {
      let answer = await ask(url, "HEAD", signal);
      if (ASKED_AGAIN.has(answer.status)) answer = await ask(url, "GET", signal);
      health.answered(url);
      return faultOf(answer, url, sizeBytes);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof UrlFailure)) throw error;
      if (error.hostDown) {
        health.down(url);
        server.failure = error.message;
      }
      if (!error.transient || isLast) return { kind: "dead", answer: error.message };
    }
  }
}

async function ask(url: string, method: "HEAD" | "GET", signal: AbortSignal): Promise<HttpAnswer> {
  const options = { method, userAgent: USER_AGENT, stallMs: STALL_MS, signal };
  const answer = await openUrl(url, 0, options);
  // The body is not read.
  answer.close();
  return answer;
}

function faultOf(
  answer: HttpAnswer,
  url: string,
  sizeBytes: number | undefined,
): SourceFault | undefined {
  const { status, headers } = answer;
  if (status !== 200) {
    return { kind: "dead", answer: `HTTP ${status} ${STATUS_CODES[status] ?? ""}`.trimEnd() };
  }
  const type = headers["content-type"] ?? "";
  if (/^text\/html\b/i.test(type) && !/\.html?$/i.test(url)) {
    return { kind: "changed", answer: "a page of HTML in place of the file" };
  }
  const announced = sizeOf(answer);
  return announced === undefined || sizeBytes === undefined || announced === sizeBytes
    ? undefined
    : { kind: "changed", answer: `${announced} bytes, the file has ${sizeBytes}` };
}

/** @returns What is wrong with each reference, in order. */
async function askRepository(
  url: string,
  wanted: readonly Placed<{ readonly reference: string }>[],
  signal: AbortSignal,
): Promise<(SourceFault | "untold" | undefined)[]> {
  let known: Map<string, string> | GitFailure;
  try {
    const fault = gitFault({ url, reference: "main" });
    if (fault !== undefined) throw new GitFailure("dead", fault);
    known = await listReferences(url, signal);
  } catch (error) {
    if (!(error instanceof GitFailure)) throw error;
    known = error;
  }
  return wanted.map(({ reference }) => {
    if (known instanceof GitFailure) return { kind: known.kind, answer: known.message };
    const fault = gitFault({ url, reference });
    if (fault !== undefined) return { kind: "lost", answer: fault };
    const names = [`refs/tags/${reference}`, `refs/heads/${reference}`, reference];
    if (names.some((name) => known.has(name))) return undefined;
    if (!/^[0-9a-f]{4,64}$/.test(reference)) {
      return { kind: "lost", answer: "the repository has no such reference" };
    }
    return [...known.values()].some((object) => object.startsWith(reference))
      ? undefined
      : "untold";
  });
}

/** Returns the error for a check that has found something. */
export function checkError({ dest, findings, missing }: CheckReport): UserError {
  const parts = [
    ...(findings.length === 0 ? [] : [`${counted(findings.length, "line")} of steps to mend`]),
    ...(missing.length === 0 ? [] : [`${counted(missing.length, "file")} of the mirror to get`]),
  ];
  return new UserError("fetch", `Not everything is as the steps say: ${parts.join(", ")}`, {
    ...(dest !== undefined && { where: dest }),
    hint: missing.length === 0
      ? "Tell upstream, with the lines above"
      : "Run it without --check to get what can be had",
  });
}
