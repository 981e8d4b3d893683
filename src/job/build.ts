// SPDX-License-Identifier: MIT
/**
 * The main job: read, plan, check, fetch, write.
 *
 * @module
 */

import { relative, resolve, sep } from "node:path";
import { readArchive } from "../archive/archive.ts";
import { UserError } from "../errors.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { GIB } from "../format/segment.ts";
import { type Extras, REPLACED } from "../plan/preseed.ts";
import type { LocatedFile } from "../plan/images.ts";
import { FILE_STORE_BYTES } from "../plan/limits.ts";
import { type BuildOptions, continuesPass, type Mirror, startOf } from "../plan/options.ts";
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
import {
  type DistfileRequest,
  dropWrong,
  fetchInto,
  locateAll,
  type Located,
} from "./distfiles.ts";
import { continuePass, readPass } from "./pass.ts";
import { builderDigest, digestGiven, gatherMaterials } from "../record/materials.ts";
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
export interface PlannedJob extends Inputs {
  readonly plan: Plan;
  readonly located: ReadonlyMap<string, LocatedFile>;
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
export async function planJob(
  request: PlanRequest,
  signal?: AbortSignal,
): Promise<PlannedJob> {
  const inputs = await readInputs(request, signal);
  const located = await locateAll(
    inputs.tree.distfiles,
    distfileRequest(request),
    inputs.tree.root,
  );
  return { ...inputs, plan: planWith(inputs, request, located), located };
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
  const job = await planJob(request, signal);
  checkLimits(job.plan, request.force, events);
  checkDevices(job.plan, request.devices);
  checkTarget(request.target, job.tree);
  if (job.plan.disk !== undefined) await findMke2fs();
  const given = await digestGiven(request.options.kernel, request.preseed, signal);
  const isDirectory = job.plan.start === "directory";
  const earlier = continuesPass(request.options) ? readPass(request.target) : undefined;
  const target = earlier === undefined
    ? Target.open(request.target, outputNames(job.plan), isDirectory)
    : Target.open(request.target, [SBOM_NAME, RECORD_NAME]);
  try {
    const located: Located = new Map(job.located);
    const builder = builderDigest();
    const fetchAbsent = async (plan: Plan): Promise<Plan> => {
      const whole = await fetchMissing(job, plan, request, located, events, signal);
      if (whole !== plan) checkLimits(whole, request.force, events);
      return whole;
    };
    let plan = await fetchAbsent(job.plan);
    events.onPlan?.(plan);
    const write = async (plan: Plan): Promise<TargetRecord> => {
      if (earlier !== undefined) {
        const places = { root: job.tree.root, store: request.store };
        return await continuePass(plan, located, target, earlier, places, signal);
      }
      const { onWrite, onNotice, onDevice } = events;
      const { devices } = request;
      const files = { plan, located, target, devices, onWrite, onNotice, onDevice, signal };
      const written = await (isDirectory ? writeRoot : writeImages)(files);
      const { store } = request;
      const made = { plan, located, written, given, builder };
      const materials = await gatherMaterials({ tree: job.tree, store, ...made });
      const record = makeRecord(VERSION, plan, written, materials);
      target.writePart(SBOM_NAME, sbomText(record));
      target.writePart(RECORD_NAME, statementText(record));
      target.commit([...written.names, SBOM_NAME, RECORD_NAME]);
      return record;
    };
    try {
      return await write(plan);
    } catch (error) {
      // Files that were already here are verified only now, while they are written. Where one is
      // wrong, find all that are, fetch these, and begin again.
      if (!(error instanceof DigestMismatch)) throw error;
      await dropWrong(neededDistfiles(plan), located, request.store, events, signal);
      plan = await fetchAbsent(plan);
      return await write(plan);
    }
  } finally {
    target.close();
  }
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

function planWith({ tree, extras }: Inputs, { options }: PlanRequest, located: Located): Plan {
  const sizes = new Map([...located].map(([name, { size }]) => [name, size]));
  return makePlan(tree, options, sizes, extras);
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

/**
 * Downloads what a plan needs and is not located.
 *
 * @returns The plan, or another one where sizes that became known changed it.
 */
async function fetchMissing(
  inputs: Inputs,
  plan: Plan,
  request: BuildRequest,
  located: Located,
  events: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<Plan> {
  for (;;) {
    const missing = neededDistfiles(plan).filter(({ name }) => !located.has(name));
    if (missing.length === 0) return plan;
    await fetchInto(located, missing, distfileRequest(request), events, signal);
    plan = planWith(inputs, request, located);
  }
}

function distfileRequest(
  { store, sources, options, isOffline = false, jobs = 1 }: PlanRequest & { jobs?: number },
): DistfileRequest {
  return { store, mirrors: sources ?? options.mirrors, isOffline, jobs };
}
