// SPDX-License-Identifier: MIT
/**
 * Fetches the distfiles of a checkout, and builds nothing.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import type { Mirror } from "../fetch/mirror.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { type FileSegment, fileSegment } from "../format/segment.ts";
import { digestEach } from "../hash/pool.ts";
import { shellQuote } from "../launch/process.ts";
import type { Located } from "../plan/images.ts";
import { isPreNetwork } from "../plan/split.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { hasTreeFile, openCheckout, readTreeText } from "../tree/checkout.ts";
import { mergeSources, type PlacedSource, readSources } from "../tree/distfiles.ts";
import { readManifests } from "../tree/model.ts";
import { parseSources } from "../tree/sources.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { putAgain } from "../write/again.ts";
import { checkStore } from "./check.ts";
import { fetchAbsent, locateRight } from "./distfiles.ts";
import { writing } from "../refused.ts";
import { mkdirSync } from "node:fs";

/** Which distfiles of a checkout are wanted. */
export type Wish =
  /** All that the manifest needs. */
  | { readonly kind: "all" }
  /** Those that are needed before the machine has a network. */
  | { readonly kind: "pre-network" }
  /** Those of some steps, whether or not the manifest builds them. */
  | { readonly kind: "steps"; readonly steps: readonly string[] };

/** What to fetch, and to where. */
export interface FetchJob {
  /** Directory of the checkout, or a bundle. */
  readonly tree: string;
  readonly wish: Wish;
  /** The step directories beside steps/ whose distfiles are wanted, too. */
  readonly extraBuilds?: readonly string[] | undefined;
  readonly store: string;
  readonly mirrors: readonly Mirror[];
  readonly jobs: number;
  readonly isOffline: boolean;
  /** Most bytes a second of all downloads together; no limit if absent. */
  readonly bytesPerSecond?: number | undefined;
  /** Directory that gets the distfiles by their names; only the store has them if absent. */
  readonly to?: string | undefined;
  /** Whether other bytes under the name of a distfile in `to` are replaced. */
  readonly replaces: boolean;
}

/** Told what happens. */
export interface FetchJobEvents {
  readonly onNotice?: (text: string) => void;
  readonly onFetch?: (event: FetchEvent) => void;
  readonly progress?: Progress;
}

/** A distfile that is there, with the right SHA-256. */
export interface FetchedDistfile {
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Where it is; in a bundle, that of the bundle. */
  readonly path: string;
  readonly from: "checkout" | "store" | "mirror";
}

/** What a fetch has come to. */
export interface FetchResult {
  /** In the order of the manifest. */
  readonly files: readonly FetchedDistfile[];
  /** How many came into `to` now; the others were there. */
  readonly placed: number;
  /** Why others are not there; what could be had is there all the same. */
  readonly failure: UserError | undefined;
}

/**
 * Makes sure that distfiles are on this machine, with the right SHA-256. One that cannot be had stops
 * none of the others.
 *
 * @throws {UserError} "tree" for a checkout that cannot be read; "usage" for a step that is not
 * there; "target" where something cannot be written; "interrupt".
 */
export async function fetchDistfiles(
  job: FetchJob,
  events: FetchJobEvents = {},
  signal?: AbortSignal,
): Promise<FetchResult> {
  const { store, mirrors, jobs, isOffline, to } = job;
  checkStore(store);
  const root = openCheckout(job.tree);
  const wanted = mergeSources(wantedSources(root, job));
  const places = { root, store, mirrors };
  const { located, wrong } = await locateRight(wanted, places, events, signal);
  let here = located;
  let failure: UserError | undefined;
  try {
    const { bytesPerSecond } = job;
    const request = { jobs, isOffline, wrong, bytesPerSecond };
    here = await fetchAbsent(wanted, located, places, request, events, signal);
  } catch (error) {
    if (!(error instanceof UserError) || !["fetch", "verify"].includes(error.kind)) throw error;
    failure = error;
    if (!isOffline) here = (await locateRight(wanted, places, {}, signal)).located;
  }
  const files = wanted.flatMap(({ name, sha256 }) => {
    const file = here.get(name);
    if (file === undefined) return [];
    return [{ name, sha256, sizeBytes: file.sizeBytes, path: file.path, from: file.from }];
  });
  const placed = to === undefined
    ? 0
    : await placeIn(resolve(to), files, here, job.replaces, events, signal);
  return { files, placed, failure };
}

/** The sources of a wish, in the order of the manifest. */
function wantedSources(
  root: string,
  { wish, extraBuilds }: Pick<FetchJob, "wish" | "extraBuilds">,
): PlacedSource[] {
  const manifests = readManifests(root, extraBuilds);
  if (wish.kind === "steps") {
    return wish.steps.flatMap((step, index) => {
      const dirs = ["steps", ...manifests.extraBuilds.map(({ dir }) => dir)];
      const [first, ...others] = dirs.map((dir) => `${dir}/${step}/sources`);
      const path = others.findLast((other) => hasTreeFile(root, other)) ?? first!;
      if (!/^[\w.+-]+$/.test(step) || /^\.\.?$/.test(step) || !hasTreeFile(root, path)) {
        throw new UserError("usage", `Cannot find step ${JSON.stringify(step)} in ${root}`, {
          where: join(root, "steps"),
          hint: `It has no ${path}: seedstrap sources --json names the steps that have sources`,
        });
      }
      return parseSources(readTreeText(root, path), path)
        .map((source) => ({ step, index, file: path, source }));
    });
  }
  return readSources(root, manifests).filter(({ index }) =>
    wish.kind === "all" || isPreNetwork(index, manifests)
  );
}

/** Puts files into a directory by their names, each verified, and atomically. */
async function placeIn(
  dir: string,
  files: readonly FetchedDistfile[],
  located: Located,
  replaces: boolean,
  { onNotice, progress = UNWATCHED }: FetchJobEvents,
  signal: AbortSignal | undefined,
): Promise<number> {
  writing(dir, () => mkdirSync(dir, { recursive: true }), "--to");
  progress.begin(`comparing ${dir}`);
  const missing: { readonly name: string; readonly body: FileSegment }[] = [];
  const others: string[] = [];
  const there = files.map(({ name, sizeBytes }) => {
    const path = join(dir, name);
    const stat = writing(path, () => lstatIfThere(path));
    if (stat === undefined || !stat.isFile()) return { stat, task: undefined };
    const isSize = stat.size === sizeBytes;
    const segment = fileSegment({ path, sizeBytes });
    return { stat, task: isSize ? { segment, kind: "target" } as const : undefined };
  });
  let at = 0;
  for await (const got of digestEach(there.map(({ task }) => task), { signal })) {
    const { name, sha256 } = files[at]!;
    const { stat } = there[at++]!;
    if (got === sha256) continue;
    const isOther = stat !== undefined;
    if (isOther) others.push(name);
    if (!isOther || replaces) {
      missing.push({ name, body: fileSegment(located.get(name)!, sha256) });
    }
  }
  if (missing.length > 0) {
    const bytes = missing.reduce((sum, { body }) => sum + body.sizeBytes, 0);
    progress.begin(`writing ${dir}`, bytes);
    await putAgain(dir, [], missing, signal);
  }
  if (others.length === 0) return missing.length;
  const [first, ...more] = others;
  const one = more.length === 0;
  const what = one
    ? `${join(dir, first!)} is not the distfile`
    : `${others.length} names in ${dir} are not of the distfiles`;
  if (replaces) {
    onNotice?.(`${what}, and ${one ? "was" : "were"} replaced`);
    return missing.length;
  }
  throw new UserError("target", `Cannot put distfiles into ${dir}: ${what}`, {
    where: join(dir, first!),
    hint: `Look at ${shellQuote(others.slice(0, 3))}; --force replaces them`,
  });
}
