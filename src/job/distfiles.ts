// SPDX-License-Identifier: MIT
/**
 * The distfiles of a job: where they are on this machine, and what of them is downloaded.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { httpMirrors, type Mirror, mirrorDirectories } from "../fetch/mirror.ts";
import { fetchError } from "../fetch/report.ts";
import { locate } from "../fetch/store.ts";
import type { Failure, FetchEvent } from "../fetch/types.ts";
import { fileSegment } from "../format/segment.ts";
import type { Located, LocatedFile } from "../plan/images.ts";
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

/** The same, and the checkout: all places where a distfile may lie already. */
export interface Places extends Pick<DistfileRequest, "store" | "mirrors"> {
  /** Directory of the checkout, or a bundle. */
  readonly root: string;
}

/** Told what happens to distfiles. */
export interface DistfileEvents {
  readonly onNotice?: (text: string) => void;
  readonly onFetch?: (event: FetchEvent) => void;
}

type Wanted = Pick<Distfile, "name" | "sha256">;

/** The directories of the places, in the order in which they are looked through. */
function directoriesOf({ root, store, mirrors }: Places): Pick<LocatedFile, "path" | "from">[] {
  return [
    { path: join(root, "distfiles"), from: "checkout" },
    { path: store, from: "store" },
    ...mirrorDirectories(mirrors).map((path) => ({ path, from: "mirror" } as const)),
  ];
}

/** The files that lie under the name of a distfile, in order; their content is not looked at. */
async function candidatesOf({ name, sha256 }: Wanted, places: Places): Promise<LocatedFile[]> {
  const bundle = bundleAt(places.root);
  const bundled = bundle && findBundledDistfile(bundle, name, sha256);
  const found = await Promise.all(
    directoriesOf(places).map(async ({ path: dir, from }) =>
      (await locate(name, [dir])).map(({ path, sizeBytes }) => ({ path, size: sizeBytes, from }))
    ),
  );
  return [
    ...bundled === undefined ? [] : [{ ...bundled, from: "checkout" } as const],
    ...found.flat(),
  ];
}

/** The file to use of each distfile that is here; it is verified when it is written. */
export async function locateAll(wanted: readonly Wanted[], places: Places): Promise<Located> {
  const found = await Promise.all(
    wanted.map(async (distfile) => ({ distfile, files: await candidatesOf(distfile, places) })),
  );
  return new Map(
    found.flatMap(({ distfile: { name }, files: [first] }) => first ? [[name, first]] : []),
  );
}

/**
 * The file to use of each distfile, every one verified. A wrong one is told and not used; in the
 * store, which is seedstrap's own, it is removed.
 */
export async function locateRight(
  wanted: readonly Wanted[],
  places: Places,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<Located> {
  const right = new Map<string, LocatedFile>();
  for (const distfile of wanted) {
    const { name, sha256 } = distfile;
    for (const file of await candidatesOf(distfile, places)) {
      const segment = fileSegment(file, sha256);
      const got = await digestSegment(segment, signal);
      if (got === sha256) {
        right.set(name, file);
        break;
      }
      const shown = fileName(segment);
      events.onNotice?.(`${shown} is not used: its SHA-256 is ${got}, expected ${sha256}`);
      if (file.path === join(places.store, name)) rmSync(file.path);
    }
  }
  return right;
}

/**
 * Downloads what is not located.
 *
 * @returns What was located, and what came.
 * @throws {UserError} "fetch", with everything that could not be had
 */
export async function fetchAbsent(
  wanted: readonly Pick<Distfile, "name" | "sha256" | "urls">[],
  located: Located,
  places: Places,
  { jobs, isOffline }: Pick<DistfileRequest, "jobs" | "isOffline">,
  events: DistfileEvents,
  signal: AbortSignal | undefined,
): Promise<Located> {
  const absent = wanted.filter(({ name }) => !located.has(name));
  if (absent.length === 0) return located;
  const directories = directoriesOf(places);
  if (isOffline) throw offlineError(absent, directories.map(({ path }) => path));
  const { store, mirrors } = places;
  const report = await fetchAll(absent, {
    store,
    mirrors: httpMirrors(mirrors),
    jobs,
    userAgent: USER_AGENT,
    signal,
    onProgress: events.onFetch,
  });
  if (report.failures.length > 0) throw fetchError(report, mirrorDirectories(mirrors));
  // The store may be a directory that is looked through under another name before.
  const { from } = directories.find(({ path }) => resolve(path) === resolve(store))!;
  const fetched = [...report.files].map(([name, { path, sizeBytes }]) =>
    [name, { path, size: sizeBytes, from }] as const
  );
  return new Map([...located, ...fetched]);
}

function offlineError(
  absent: readonly Pick<Failure, "name" | "sha256">[],
  directories: readonly string[],
): UserError {
  const lines = absent.map(({ name, sha256 }) => `\n  ${name}, SHA-256 ${sha256}`);
  return new UserError(
    "fetch",
    `Cannot go on with --offline: ${absent.length} distfiles are not here${lines.join("")}\n  ` +
      `looked for in ${directories.join(", ")}`,
    { hint: "Make a bundle that has them, put them into --distfiles, or leave --offline out" },
  );
}
