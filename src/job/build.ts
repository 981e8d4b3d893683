// SPDX-License-Identifier: MIT
/**
 * The main job: read, plan, check, fetch, write.
 *
 * @module
 */

import { relative, resolve, sep } from "node:path";
import { readArchive } from "../archive/archive.ts";
import { checkAll, UserError } from "../errors.ts";
import type { Mirror } from "../fetch/mirror.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { GIB } from "../format/segment.ts";
import { type Extras, REPLACED } from "../plan/preseed.ts";
import type { Located } from "../plan/images.ts";
import { FILE_STORE_BYTES } from "../plan/limits.ts";
import { type BuildOptions, continuesPass, startOf } from "../plan/options.ts";
import { brokenLimits, makePlan, neededDistfiles } from "../plan/plan.ts";
import { BOOT_IMAGE, DISK_IMAGE, EXTERNAL_IMAGE, PAYLOAD_IMAGE, type Plan } from "../plan/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import { walkTree } from "../tree/checkout.ts";
import { readTree, type TreeModel } from "../tree/model.ts";
import { sbomText } from "../record/sbom.ts";
import { SBOM_NAME } from "../record/types.ts";
import { statementText } from "../record/statement.ts";
import { VERSION } from "../version.ts";
import { Target } from "../write/target.ts";
import { DigestMismatch } from "../write/writer.ts";
import type { DeviceEvents } from "../device/write.ts";
import { findMke2fs } from "../write/disk.ts";
import { fetchAbsent, locateAll, locateRight, type Places } from "./distfiles.ts";
import { continuePass, readPass } from "./pass.ts";
import {
  builderDigest,
  digestGiven,
  gatherMaterials,
  type GivenDigests,
} from "../record/materials.ts";
import { makeRecord } from "../record/read.ts";
import { RECORD_NAME, type TargetRecord } from "../record/types.ts";
import { type ImageDevices, writeImages, writeRoot } from "./media.ts";

/** What a job is about. */
export interface PlanRequest {
  /** Directory of the checkout, or a bundle. */
  readonly tree: string;
  readonly options: BuildOptions;
  /** Directory that downloads are kept in. */
  readonly store: string;
  /** Directory of prebuilt packages; set where the options say so. */
  readonly repo?: string | undefined;
  /** Archive that replaces stage0-posix; set where the options say so. */
  readonly preseed?: string | undefined;
  /** Where distfiles are looked for, if not at the mirrors of the options. */
  readonly sources?: readonly Mirror[] | undefined;
  /** Nothing is downloaded: every distfile has to be on this machine. */
  readonly isOffline?: boolean | undefined;
}

/** What a build needs besides. */
export interface BuildRequest extends PlanRequest {
  readonly target: string;
  /** Goes on although the plan breaks a limit. */
  readonly force: boolean;
  /** Downloads at once. */
  readonly jobs: number;
  /** For bare metal: where images go instead of the target. */
  readonly devices?: ImageDevices;
}

/** Told what happens. */
export interface BuildEvents {
  readonly onNotice?: (text: string) => void;
  readonly onPlan?: (plan: Plan) => void;
  readonly onFetch?: (event: FetchEvent) => void;
  /** Bytes read so far of all that the images hold. */
  readonly onWrite?: (done: number, total: number) => void;
  readonly onDevice?: DeviceEvents["onProgress"];
}

/** A plan, and what it was made from. */
export interface PlannedBuild extends Inputs {
  readonly plan: Plan;
  /** The distfiles that are here; the sizes of others are unknown to the plan. */
  readonly located: Located;
}

/** What a plan is made from, beside the distfiles that are here. */
interface Inputs {
  readonly tree: TreeModel;
  readonly extras: Extras;
}

/**
 * Plans without downloading or writing anything. Files that are on this machine are only looked
 * at, not verified.
 */
export async function planBuild(
  request: PlanRequest,
  signal?: AbortSignal,
): Promise<PlannedBuild> {
  const inputs = await readInputs(request, signal);
  const located = await locateAll(inputs.tree.distfiles, placesOf(inputs, request));
  return planWith(inputs, request, located);
}

function planWith(
  { tree, extras }: Inputs,
  { options }: PlanRequest,
  located: Located,
): PlannedBuild {
  const sizes = new Map([...located].map(([name, { size }]) => [name, size]));
  return { tree, extras, located, plan: makePlan(tree, options, sizes, extras) };
}

function placesOf({ tree }: Inputs, { store, sources, options }: PlanRequest): Places {
  return { root: tree.root, store, mirrors: sources ?? options.mirrors };
}

async function readInputs(
  { tree, repo, preseed, options }: PlanRequest,
  signal: AbortSignal | undefined,
): Promise<Inputs> {
  if (options.kernel !== undefined) checkKernel(options.kernel);
  const model = readTree(tree);
  const extras = {
    repo: repo === undefined ? [] : walkTree(resolve(repo), "", "the packages of --repo"),
    ...(preseed !== undefined && {
      preseed: await readArchive(resolve(preseed), {
        drop: REPLACED,
        maxBytes: startOf(options) === "builder-hex0" ? FILE_STORE_BYTES : MOST_PRESEED_BYTES,
        ...(signal && { signal }),
      }),
    }),
  };
  return { tree: model, extras };
}

/** Most that an archive may expand to where builder-hex0 sets no limit: far beyond any root. */
const MOST_PRESEED_BYTES = 256 * GIB;

/**
 * Checks that the kernel of the user's is there.
 *
 * @throws {UserError} "usage"
 */
export function checkKernel(path: string): void {
  if (statIfThere(path)?.isFile() === true) return;
  throw new UserError("usage", `Cannot use ${path} for --kernel: it is no file`, {
    where: path,
    hint: "It takes a Linux kernel, such as a bzImage",
  });
}

/**
 * Builds the media of a bootstrap in a target directory.
 *
 * @throws {UserError} of every kind; the target then holds what it held before.
 */
export async function buildMedia(
  request: BuildRequest,
  events: BuildEvents = {},
  signal?: AbortSignal,
): Promise<TargetRecord> {
  const job = await planBuild(request, signal);
  checkAll([
    () => checkLimits(job.plan, request.force, events),
    () => checkDevices(job.plan, request.devices),
    () => checkTarget(request.target, job.tree),
  ]);
  if (job.plan.disk !== undefined) await findMke2fs();
  const given = await digestGiven(request.options.kernel, request.preseed, signal);
  const earlier = continuesPass(request.options) ? readPass(request.target) : undefined;
  const target = openTarget(request.target, job.plan, earlier);
  try {
    const build = { request, target, earlier, given, builder: builderDigest(), events, signal };
    const ready = await fetchFor(job, build);
    events.onPlan?.(ready.plan);
    try {
      return await write(ready, build);
    } catch (error) {
      // Files that were already here are verified only now, while they are written. Where one is
      // wrong, find all that are, fetch these, and begin again.
      if (!(error instanceof DigestMismatch)) throw error;
      return await write(await fetchFor(await withoutWrong(ready, build), build), build);
    }
  } finally {
    target.close();
  }
}

/** A build on its way: what stays the same from fetching to the record. */
interface Build {
  readonly request: BuildRequest;
  readonly target: Target;
  /** Record of the pass that has worked in the target; absent where the build begins anew. */
  readonly earlier: TargetRecord | undefined;
  readonly given: GivenDigests;
  /** SHA-256 of the binary that builds. */
  readonly builder: Promise<string | undefined>;
  readonly events: BuildEvents;
  readonly signal: AbortSignal | undefined;
}

/**
 * Downloads what a plan needs and is not located. Sizes become known by that, and may change the
 * plan, so that it needs more: until nothing is missing.
 *
 * @throws {UserError} "fetch"; "limit" where the plan that came of it breaks one.
 */
async function fetchFor(planned: PlannedBuild, build: Build): Promise<PlannedBuild> {
  const { request, events, signal } = build;
  const { isOffline = false, jobs } = request;
  let job = planned;
  for (;;) {
    const { plan, located } = job;
    const here = await fetchAbsent(
      neededDistfiles(plan),
      located,
      placesOf(job, request),
      { jobs, isOffline },
      events,
      signal,
    );
    if (here === located) break;
    job = planWith(job, request, here);
  }
  if (job !== planned) checkLimits(job.plan, request.force, events);
  return job;
}

/** The job without located files whose SHA-256 is wrong; others of their name may stand in. */
async function withoutWrong(job: PlannedBuild, build: Build): Promise<PlannedBuild> {
  const { request, events, signal } = build;
  const needed = neededDistfiles(job.plan);
  const right = await locateRight(needed, placesOf(job, request), events, signal);
  const names = new Set(needed.map(({ name }) => name));
  const others = [...job.located].filter(([name]) => !names.has(name));
  return planWith(job, request, new Map([...others, ...right]));
}

/** Writes what is planned, and commits it with its record. */
async function write({ plan, located, tree }: PlannedBuild, build: Build): Promise<TargetRecord> {
  const { request, target, earlier, given, builder, events, signal } = build;
  const { store, devices } = request;
  if (earlier !== undefined) {
    return await continuePass(plan, located, target, earlier, store, signal);
  }
  const { onWrite, onNotice, onDevice } = events;
  const writeMedia = plan.start === "directory" ? writeRoot : writeImages;
  const written = await writeMedia(
    { plan, located, target, devices, onWrite, onNotice, onDevice, signal },
  );
  const made = { tree, store, plan, located, written, given, builder };
  const record = makeRecord(VERSION, plan, written, await gatherMaterials(made));
  target.writePart(SBOM_NAME, sbomText(record));
  target.writePart(RECORD_NAME, statementText(record));
  target.commit([...written.names, SBOM_NAME, RECORD_NAME]);
  return record;
}

/** Takes a target: as a new one, or to go on in it after an earlier pass. */
function openTarget(dir: string, plan: Plan, earlier: TargetRecord | undefined): Target {
  return earlier === undefined
    ? Target.open(dir, outputNames(plan), plan.start === "directory")
    : Target.open(dir, [SBOM_NAME, RECORD_NAME]);
}

/**
 * The checkout is only read, and what is built in what is read would be part of the next build.
 *
 * @throws {UserError} "usage"
 */
function checkTarget(target: string, { root }: TreeModel): void {
  const [top] = relative(root, resolve(target)).split(sep);
  if (!["builder-hex0", "seed", "steps"].includes(top!)) return;
  throw new UserError("usage", `Cannot use ${resolve(target)} as target: ${top}/ is built from`, {
    where: resolve(target),
    hint: "Name another --target",
  });
}

/** @throws {UserError} "usage" for devices that the plan has nothing for. */
function checkDevices(
  { options, start, hasPayload }: Plan,
  devices: ImageDevices | undefined,
): void {
  if (devices === undefined) return;
  if (start === "disk") {
    throw new UserError("usage", "Cannot use a device with --kernel: a disk is not streamed", {
      hint: "Build, and write disk.img with seedstrap write",
    });
  }
  if (options.mode !== "bare-metal") {
    throw new UserError("usage", "Cannot use a device for the images: only --bare-metal does", {
      hint: "Build, and write the images with seedstrap write",
    });
  }
  if (devices.paths.has("payload") && !hasPayload) {
    throw new UserError("usage", "Cannot use --payload-device: the plan has no payload", {
      hint: "--payload always makes one; seedstrap plan says why there is none",
    });
  }
}

/** Names that a build may leave in its target. */
function outputNames(plan: Plan): string[] {
  const names = plan.start === "directory"
    ? new Set(plan.entries.map(({ path }) => path.split("/")[1]!).filter((name) => name))
    : [BOOT_IMAGE, PAYLOAD_IMAGE, EXTERNAL_IMAGE, DISK_IMAGE];
  return [...names, SBOM_NAME, RECORD_NAME];
}

/**
 * Refuses a plan that breaks a limit.
 *
 * @throws {UserError} "limit", with the biggest contributors and what helps.
 */
function checkLimits(plan: Plan, force: boolean, events: BuildEvents): void {
  const broken = brokenLimits(plan);
  if (broken.length === 0) return;
  if (force) {
    for (const line of brokenLines(broken)) events.onNotice?.(`--force: ${line}`);
    return;
  }
  throw limitError(broken);
}

function brokenLines(broken: Plan["limits"]): string[] {
  return broken.map(({ title, used, limit, unit }) =>
    `${title}: ${used} ${unit}, ${used > limit ? "the most is" : "the least is"} ${limit}`
  );
}

/** The error for broken limits. */
export function limitError(broken: Plan["limits"]): UserError {
  const lines = broken.flatMap(({ unit, contributors }, index) => [
    brokenLines(broken)[index]!,
    ...contributors.map(({ name, amount }) => `    ${amount} ${unit}  ${name}`),
  ]);
  const remedies = [...new Set(broken.map(({ remedy }) => remedy))];
  return new UserError("limit", `Cannot bootstrap with this plan\n  ${lines.join("\n  ")}`, {
    hint: `${remedies.join(". ")}. --force goes on nevertheless`,
  });
}
