// SPDX-License-Identifier: MIT
/**
 * The distfiles of a job: where they are on this machine, and what of them is downloaded.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { UserError } from "../errors.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { fetchError } from "../fetch/report.ts";
import { locate } from "../fetch/store.ts";
import type { FetchEvent, FetchReport } from "../fetch/types.ts";
import { fileSegment } from "../format/segment.ts";
import type { LocatedFile } from "../plan/images.ts";
import type { Mirror } from "../plan/options.ts";
import { bundleAt, findBundledDistfile } from "../tree/bundled.ts";
import type { Distfile } from "../tree/distfiles.ts";
import { USER_AGENT } from "../version.ts";
import { digestSegment } from "../write/copy.ts";
import { fileName } from "../write/writer.ts";

/** Where distfiles come from. */
export interface DistfileRequest {
  /** Directory that downloads are kept in. */
  readonly store: string;
  /** Where they are looked for first. */
  readonly mirrors: readonly Mirror[];
  /** Nothing is downloaded: every distfile has to be on this machine. */
  readonly isOffline: boolean;
  /** Downloads at once. */
  readonly jobs: number;
}

/** Told what happens to distfiles. */
export interface DistfileEvents {
  readonly onNotice?: (text: string) => void;
  readonly onFetch?: (event: FetchEvent) => void;
}

/** Where the distfiles of a checkout are on this machine. */
export type Located = Map<string, LocatedFile>;

/** Where distfiles may lie already: in the checkout, the store, and mirrors that are directories. */
export async function locateAll(
  distfiles: readonly Pick<Distfile, "name" | "sha256">[],
  { store, mirrors }: Pick<DistfileRequest, "store" | "mirrors">,
  root: string,
): Promise<Located> {
  const bundle = bundleAt(root);
  const dirs = [
    join(root, "distfiles"),
    store,
    ...mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []),
  ];
  const found = await Promise.all(distfiles.map(async ({ name, sha256 }) => {
    const bundled = bundle && findBundledDistfile(bundle, name, sha256);
    const [first] = bundled === undefined ? await locate(name, dirs) : [];
    return { name, file: bundled ?? (first && { path: first.path, size: first.sizeBytes }) };
  }));
  return new Map(found.flatMap(({ name, file }) => file === undefined ? [] : [[name, file]]));
}

/**
 * Gets distfiles that are not located.
 *
 * @throws {UserError} "fetch", with everything that could not be had
 */
export async function fetchInto(
  located: Located,
  missing: readonly Pick<Distfile, "name" | "sha256" | "urls">[],
  { store, mirrors, jobs, isOffline }: DistfileRequest,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<void> {
  const asked = mirrors.filter(({ kind }) => !isOffline || kind === "directory");
  const report = await fetchAll(
    isOffline ? missing.map(({ name, sha256 }) => ({ name, sha256, urls: [] })) : missing,
    {
      store,
      mirrors: asked.map(mirrorUrl),
      jobs,
      userAgent: USER_AGENT,
      signal,
      onProgress: events.onFetch,
    },
  );
  if (report.failures.length > 0) throw isOffline ? offlineError(report) : fetchError(report);
  for (const [name, { path, sizeBytes }] of report.files) {
    located.set(name, { path, size: sizeBytes });
  }
}

function offlineError({ failures }: FetchReport): UserError {
  const lines = failures.map(({ name, sha256, attempts }) => {
    const answers = attempts.map(({ url, answer }) => `; ${url}: ${answer}`).join("");
    return `\n  ${name}, SHA-256 ${sha256}${answers}`;
  });
  return new UserError(
    "fetch",
    `Cannot go on with --offline: ${failures.length} distfiles are not here${lines.join("")}`,
    { hint: "Make a bundle that has them, put them into --distfiles, or leave --offline out" },
  );
}

function mirrorUrl(mirror: Mirror): string {
  return mirror.kind === "http" ? mirror.url : pathToFileURL(mirror.path).href;
}

/**
 * Verifies every located file and forgets those that are wrong, so that they are fetched. In the
 * store, which is seedstrap's own, a wrong file is removed; elsewhere it is left alone.
 */
export async function dropWrong(
  distfiles: readonly Pick<Distfile, "name" | "sha256">[],
  located: Located,
  store: string,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const { name, sha256 } of distfiles) {
    const file = located.get(name);
    if (file === undefined) continue;
    const segment = fileSegment(file, sha256);
    const got = await digestSegment(segment, signal);
    if (got === sha256) continue;
    const place = fileName(segment);
    events.onNotice?.(`${place} is not used: its SHA-256 is ${got}, expected ${sha256}`);
    located.delete(name);
    if (file.path === join(store, name)) rmSync(file.path);
  }
}
