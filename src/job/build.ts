// SPDX-License-Identifier: MIT
/**
 * The main job: read, plan, check, fetch, write.
 *
 * @module
 */

import { resolve } from "node:path";
import { readArchive } from "../archive/archive.ts";
import { checkAll, UserError } from "../errors.ts";
import type { Mirror } from "../fetch/mirror.ts";
import { holdPorts } from "../fetch/serve.ts";
import type { SizeAnswers } from "../fetch/sizes.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { BMAP_SUFFIX } from "../format/bmap.ts";
import { GIB } from "../format/segment.ts";
import { type AddedPlace, checkAddedHere } from "../plan/added.ts";
import { servedMirrors } from "../plan/config.ts";
import { type Extras, REPLACED } from "../plan/preseed.ts";
import type { Located } from "../plan/images.ts";
import { FILE_STORE_BYTES } from "../plan/limits.ts";
import { type BuildOptions, continuesPass, startOf } from "../plan/options.ts";
import { isDoomed, makePlan, neededDistfiles } from "../plan/plan.ts";
import {
  BOOT_IMAGE,
  CONTAINER_IMAGE,
  DISK_IMAGE,
  EXTERNAL_IMAGE,
  PAYLOAD_IMAGE,
  type Plan,
} from "../plan/types.ts";
import { type Progress, UNWATCHED } from "../progress.ts";
import { walkTree } from "../tree/checkout.ts";
import { readTree, type TreeModel } from "../tree/model.ts";
import { sbomText } from "../record/sbom.ts";
import { SBOM_NAME } from "../record/types.ts";
import { statementText } from "../record/statement.ts";
import { VERSION } from "../version.ts";
import { WORK_DIR } from "../runtime/own.ts";
import { Target } from "../write/target.ts";
import { DigestMismatch } from "../write/writer.ts";
import { findMke2fs } from "../write/disk.ts";
import {
  askMirrors,
  fetchAbsent,
  findOwnDistfiles,
  locateAll,
  locateRight,
  type Places,
  type RightFiles,
} from "./distfiles.ts";
import {
  checkAdded,
  checkBmaps,
  checkDevices,
  checkKernel,
  checkLimits,
  checkMissing,
  checkNotAdded,
  checkOutputs,
  checkRepo,
  checkStore,
  checkTargetDirectory,
  checkUnchanged,
} from "./check.ts";
import { continuePass, type EarlierPass, readPass } from "./pass.ts";
import {
  builderDigest,
  digestGiven,
  gatherMaterials,
  type GivenDigests,
} from "../record/materials.ts";
import { makeRecord } from "../record/read.ts";
import { RECORD_NAME, type TargetRecord } from "../record/types.ts";
import {
  type ImageDevices,
  type ImageOutputs,
  writeBmaps,
  writeImages,
  writeRoot,
} from "./media.ts";

/** The input of a plan. */
export interface PlanRequest {
  /** Directory of the checkout, or a bundle. */
  readonly tree: string;
  readonly options: BuildOptions;
  /** Directory for downloads. */
  readonly store: string;
  /** Directory of prebuilt packages; set if the options say so. */
  readonly repo?: string | undefined;
  /** Directories of the user; set if the options have their paths. */
  readonly added?: readonly AddedPlace[] | undefined;
  /** Archive that replaces stage0-posix; set if the options say so. */
  readonly preseed?: string | undefined;
  /** Mirrors to search for distfiles, if not those of the options. */
  readonly sources?: readonly Mirror[] | undefined;
  /** Whether nothing is downloaded, so that every distfile has to be on this machine. */
  readonly isOffline?: boolean | undefined;
  /** False: the mirror port of the options is only the first to try. */
  readonly isPortChosen?: boolean;
}

/** The input of a build. */
export interface BuildRequest extends PlanRequest {
  readonly target: string;
  /** Whether to continue although the plan breaks a limit, or a guest has changed an image. */
  readonly force: boolean;
  /** Number of simultaneous downloads. */
  readonly jobs: number;
  /** Devices that get the images instead of the target; for bare metal only. */
  readonly devices?: ImageDevices;
  /**
   * New files and streams that get the images instead of the target; for bare metal and containers
   * only. A stream is verified as it goes, and aborted where it cannot be complete.
   */
  readonly outputs?: ImageOutputs;
  /** Whether only the record is wanted, of what would be built; nothing appears in the target. */
  readonly isDry?: boolean;
  /** Whether a bmap is written beside each image in the target. */
  readonly wantsBmaps?: boolean;
}

/** Callbacks of a build. */
export interface BuildEvents {
  readonly onNotice?: (text: string) => void;
  readonly onPlan?: (plan: Plan) => void;
  readonly onFetch?: (event: FetchEvent) => void;
  readonly progress?: Progress;
}

/** A plan and its inputs. */
export interface PlannedBuild extends Inputs {
  readonly plan: Plan;
  /** The distfiles on this machine. */
  readonly located: Located;
  /** What mirrors have told about others, if it is in the plan. */
  readonly told?: SizeAnswers;
  /** What of this machine was found to be wrong. */
  readonly wrong?: RightFiles["wrong"];
}

/** The inputs of a plan except the distfiles on this machine. */
interface Inputs {
  readonly tree: TreeModel;
  readonly extras: Extras;
}

/**
 * Plans without downloading or writing anything. Files on this machine are only located, not
 * verified; the sizes of others are asked of the mirrors, if they are servers.
 */
export async function planBuild(
  request: PlanRequest,
  signal?: AbortSignal,
): Promise<PlannedBuild> {
  const inputs = await readInputs(request, signal);
  const located = await locateAll(inputs.tree.distfiles, placesOf(inputs, request));
  const job = planWith(inputs, request, located);
  const needed = new Set(neededDistfiles(job.plan).map(({ name }) => name));
  const absent = job.plan.distfiles.filter(({ name, size, urls }) =>
    // What the machine downloads itself has no other place to come from either.
    size === null && (needed.has(name) || urls.length === 0)
  );
  if (request.isOffline === true || absent.length === 0) return job;
  const { mirrors } = placesOf(inputs, request);
  const told = await askMirrors(absent, mirrors, signal);
  return planWith(inputs, request, located, told);
}

/** Returns a warning for each mirror that has nothing of what a plan asks for. */
export function mirrorWarnings({ told }: Pick<PlannedBuild, "told">): string[] {
  return told?.useless.map(({ url, why }) => `mirror ${url}: ${why}`) ?? [];
}

function planWith(
  { tree, extras }: Inputs,
  { options }: PlanRequest,
  located: Located,
  told?: SizeAnswers,
): PlannedBuild {
  const here = [...located].map(([name, { sizeBytes }]) => [name, sizeBytes] as const);
  const asTold = told === undefined ? tree : {
    ...tree,
    distfiles: tree.distfiles.map((distfile) =>
      told.nowhere.has(distfile.name) ? { ...distfile, isInNoMirror: true as const } : distfile
    ),
  };
  const plan = makePlan(asTold, options, new Map([...told?.sizes ?? [], ...here]), extras);
  return { tree, extras, located, ...(told && { told }), plan };
}

function placesOf({ tree }: Inputs, { store, sources, options }: PlanRequest): Places {
  return { root: tree.root, store, mirrors: sources ?? options.mirrors };
}

async function readInputs(
  { tree, store, repo, added = [], preseed, options }: PlanRequest,
  signal: AbortSignal | undefined,
): Promise<Inputs> {
  if (options.kernel !== undefined) checkKernel(options.kernel, options.arch);
  checkStore(store);
  if (repo !== undefined) checkRepo(resolve(repo));
  checkAddedHere(options);
  for (const { dir } of added) checkAdded(dir);
  const model = await withOwnDistfiles(
    readTree(tree, options.extraBuilds),
    options,
    signal,
  );
  const extras = {
    repo: repo === undefined ? [] : walkTree(resolve(repo), "", "the packages of --repo"),
    added: added.map((place) => ({
      ...place,
      entries: walkTree(place.dir, "", "the directory of --add"),
    })),
    ...(preseed !== undefined && {
      preseed: await readArchive(resolve(preseed), {
        drop: [...REPLACED, ...model.extraBuilds.map(({ dir }) => dir)],
        maxBytes: startOf(options) === "builder-hex0" ? FILE_STORE_BYTES : MOST_PRESEED_BYTES,
        ...(signal && { signal }),
      }),
    }),
  };
  return { tree: model, extras };
}

/** Adds the files that `--external-sources` carries although no sources file names them. */
async function withOwnDistfiles(
  tree: TreeModel,
  { externalSources }: BuildOptions,
  signal: AbortSignal | undefined,
): Promise<TreeModel> {
  if (!externalSources) return tree;
  const named = new Set(tree.distfiles.map(({ name }) => name));
  const own = await findOwnDistfiles(tree.root, named, signal);
  return {
    ...tree,
    distfiles: [...tree.distfiles, ...own.distfiles],
    remarks: [...tree.remarks, ...own.remarks],
  };
}

/** Limit for an expanded archive if builder-hex0 sets none: far larger than any root. */
const MOST_PRESEED_BYTES = 256 * GIB;

/**
 * Builds the media of a bootstrap in a target directory.
 *
 * @throws {UserError} of every kind; the target is then unchanged.
 */
export async function buildMedia(
  request: BuildRequest,
  events: BuildEvents = {},
  signal?: AbortSignal,
): Promise<TargetRecord> {
  const { options, isPortChosen = true } = request;
  const withPort = (mirrorPort: number, told = events) =>
    planAndWrite({ ...request, options: { ...options, mirrorPort } }, told, signal);
  const count = servedMirrors(options).length;
  if (isPortChosen || count === 0) return await planAndWrite(request, events, signal);
  // A later pass goes on with the bootstrap.cfg of the first.
  if (continuesPass(options)) {
    const { record } = await readPass(options, request.target, signal);
    return await withPort(record.options.mirrorPort);
  }
  const held = await holdPorts(options.mirrorPort, count);
  try {
    if (held.first === options.mirrorPort) return await withPort(held.first);
    // Of an image that is made, and not before a plan that is refused.
    const onPlan = (plan: Plan) => {
      events.onNotice?.(
        `port ${options.mirrorPort} is in use on this machine: the image has ${held.first} for ` +
          "its mirror, see --mirror-port",
      );
      events.onPlan?.(plan);
    };
    return await withPort(held.first, { ...events, onPlan });
  } finally {
    await held.release();
  }
}

async function planAndWrite(
  request: BuildRequest,
  events: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<TargetRecord> {
  const { progress = UNWATCHED } = events;
  progress.begin("planning");
  // In another thread meanwhile.
  const builder = builderDigest();
  const job = await planBuild(request, signal);
  if (isDoomed(job.plan)) { for (const text of mirrorWarnings(job)) events.onNotice?.(text); }
  checkAll([
    () => checkMissing(job.plan, request.force, events),
    () => checkLimits(job.plan, request.force, events),
    () => checkDevices(job.plan, request.devices),
    () => checkOutputs(job.plan, request),
    () => checkBmaps(job.plan, request),
    () => checkTargetDirectory(request.target, job.tree),
    () => checkNotAdded(request.target, request.added ?? []),
  ]);
  if (job.plan.disk !== undefined) await findMke2fs();
  const given = await digestGiven(request.options.kernel, request.preseed, signal);
  const earlier = continuesPass(request.options)
    ? await readPass(request.options, request.target, signal)
    : undefined;
  const target = openTarget(request, job.plan, earlier);
  try {
    await checkUnchanged(target.dir, request.force, events);
    const build = { request, target, earlier, given, builder, events, signal };
    const ready = await fetchFor(job, build);
    events.onPlan?.(ready.plan);
    try {
      return await write(ready, build);
    } catch (error) {
      // Files that were already here are verified only now, while they are written. If one is
      // wrong, find all wrong ones, fetch them, and start again.
      if (!(error instanceof DigestMismatch)) throw error;
      return await write(await fetchFor(await withoutWrong(ready, build), build), build);
    }
  } finally {
    target.close();
  }
}

/** The state of a build that stays the same from the fetch to the record. */
interface Build {
  readonly request: BuildRequest;
  readonly target: Target;
  /** The pass that has prepared the target; undefined for a new target. */
  readonly earlier: EarlierPass | undefined;
  readonly given: GivenDigests;
  /** SHA-256 of our binary; undefined if we run from source. */
  readonly builder: Promise<string | undefined>;
  readonly events: BuildEvents;
  readonly signal: AbortSignal | undefined;
}

/**
 * Downloads the distfiles that a plan needs and that are not located. Their sizes may change the
 * plan so that it needs more, so this repeats until nothing is missing.
 *
 * @throws {UserError} "fetch"; "limit" if the final plan breaks one.
 */
async function fetchFor(planned: PlannedBuild, build: Build): Promise<PlannedBuild> {
  const { request, events, signal } = build;
  const { isOffline = false, jobs } = request;
  // What a mirror tells decides nothing that is written.
  let job = planned.told === undefined ? planned : planWith(planned, request, planned.located);
  for (;;) {
    const { plan, located } = job;
    const here = await fetchAbsent(
      neededDistfiles(plan),
      located,
      placesOf(job, request),
      { jobs, isOffline, wrong: planned.wrong },
      events,
      signal,
    );
    if (here === located) break;
    job = planWith(job, request, here);
  }
  if (job !== planned) checkLimits(job.plan, request.force, events);
  return job;
}

/** Plans again without located files whose SHA-256 is wrong; others of that name may be right. */
async function withoutWrong(job: PlannedBuild, build: Build): Promise<PlannedBuild> {
  const { request, events, signal } = build;
  const needed = neededDistfiles(job.plan);
  const right = await locateRight(needed, placesOf(job, request), events, signal);
  const names = new Set(needed.map(({ name }) => name));
  const others = [...job.located].filter(([name]) => !names.has(name));
  const located = new Map([...others, ...right.located]);
  return { ...planWith(job, request, located), wrong: right.wrong };
}

/** Writes the media of a plan, and commits them with their record. */
async function write({ plan, located, tree }: PlannedBuild, build: Build): Promise<TargetRecord> {
  const { request, target, earlier, given, builder, events, signal } = build;
  const { store, devices, outputs, isDry = false } = request;
  const { onNotice, progress = UNWATCHED } = events;
  if (earlier !== undefined) {
    progress.begin("writing");
    return await continuePass(plan, located, target, earlier, store, signal);
  }
  const writeMedia = plan.start === "directory" ? writeRoot : writeImages;
  const written = await writeMedia(
    { plan, located, target, devices, outputs, isDry, onNotice, progress, signal },
  );
  const made = { tree, store, plan, located, written, given, builder };
  const record = makeRecord(VERSION, plan, written, await gatherMaterials(made));
  if (isDry) return record;
  // No part of the record: the images that it pins have one map each.
  const bmaps = request.wantsBmaps ? await writeBmaps(written, target, progress, signal) : [];
  target.writePart(SBOM_NAME, sbomText(record));
  target.writePart(RECORD_NAME, statementText(record));
  for (const left of target.commit([...written.names, ...bmaps, SBOM_NAME, RECORD_NAME])) {
    onNotice?.(`left ${left}`);
  }
  return record;
}

/** Opens a target: a new one, or that of an earlier pass to continue in. */
function openTarget(
  { target: dir, wantsBmaps }: BuildRequest,
  plan: Plan,
  earlier: EarlierPass | undefined,
): Target {
  return earlier === undefined
    ? Target.open(dir, outputNames(plan, wantsBmaps), plan.start === "directory")
    : Target.open(dir, [SBOM_NAME, RECORD_NAME]);
}

/**
 * Returns the names that a build may write to its target.
 *
 * @throws {UserError} "target" where the root of a bootstrap has one of our own in it.
 */
function outputNames(plan: Plan, wantsBmaps = false): string[] {
  const own = [SBOM_NAME, RECORD_NAME];
  if (plan.start !== "directory") {
    const images = [BOOT_IMAGE, PAYLOAD_IMAGE, EXTERNAL_IMAGE, DISK_IMAGE, CONTAINER_IMAGE];
    const bmaps = wantsBmaps ? images.map((name) => `${name}${BMAP_SUFFIX}`) : [];
    return [...images, ...bmaps, ...own];
  }
  const names = new Set(plan.entries.map(({ path }) => path.split("/")[1]!).filter((name) => name));
  const taken = [WORK_DIR, ...own].find((name) => names.has(name));
  if (taken === undefined) return [...names, ...own];
  throw new UserError("target", `Cannot put ${taken} into the target: seedstrap has that name`, {
    where: taken,
    hint: "Leave it out of the archive or of the checkout",
  });
}
