// SPDX-License-Identifier: MIT
/**
 * The main job: read, plan, check, fetch, write.
 *
 * @module
 */

import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { readArchive } from "../archive/archive.ts";
import { UserError } from "../errors.ts";
import { fetchAll } from "../fetch/fetch.ts";
import { fetchError } from "../fetch/report.ts";
import { locate } from "../fetch/store.ts";
import type { FetchEvent, FetchReport } from "../fetch/types.ts";
import { fileSegment, GIB } from "../format/segment.ts";
import { type Extras, REPLACED } from "../plan/preseed.ts";
import type { LocatedFile } from "../plan/images.ts";
import { FILE_STORE_BYTES } from "../plan/limits.ts";
import { type BuildOptions, continuesPass, type Mirror, startOf } from "../plan/options.ts";
import { brokenLimits, makePlan, neededDistfiles } from "../plan/plan.ts";
import { BOOT_IMAGE, DISK_IMAGE, EXTERNAL_IMAGE, PAYLOAD_IMAGE, type Plan } from "../plan/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import { bundleAt, findBundledDistfile } from "../tree/bundled.ts";
import { walkTree } from "../tree/checkout.ts";
import type { Distfile } from "../tree/distfiles.ts";
import { readTree, type TreeModel } from "../tree/model.ts";
import { USER_AGENT, VERSION } from "../version.ts";
import { digestSegment } from "../write/directory.ts";
import { Target } from "../write/target.ts";
import { DigestMismatch, fileName } from "../write/writer.ts";
import { findMke2fs } from "./disk.ts";
import { continuePass, readPass } from "./pass.ts";
import { makeRecord, RECORD_NAME, type TargetRecord } from "./record.ts";
import { writeImages, writeRoot } from "./write.ts";

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
  /** Nothing is downloaded: every distfile has to be on this machine. */
  readonly isOffline?: boolean | undefined;
}

/** Where distfiles come from. */
export type DistfileRequest =
  & Pick<PlanRequest, "store" | "isOffline">
  & Pick<BuildRequest, "jobs">
  & { readonly options: Pick<BuildOptions, "mirrors"> };

/** What a build needs besides. */
export interface BuildRequest extends PlanRequest {
  readonly target: string;
  /** Goes on although the plan breaks a limit. */
  readonly force: boolean;
  /** Downloads at once. */
  readonly jobs: number;
}

/** Told what happens. */
export interface BuildEvents {
  readonly onNotice?: (text: string) => void;
  readonly onPlan?: (plan: Plan) => void;
  readonly onFetch?: (event: FetchEvent) => void;
  /** Bytes read so far of all that the images hold. */
  readonly onWrite?: (done: number, total: number) => void;
}

/** Where the distfiles of a checkout are on this machine. */
export type Located = Map<string, LocatedFile>;

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
  const located = await locateAll(inputs.tree.distfiles, request, inputs.tree.root);
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
  if (job.plan.disk !== undefined) await findMke2fs();
  const isDirectory = job.plan.start === "directory";
  const earlier = continuesPass(request.options) ? readPass(request.target) : undefined;
  const target = earlier === undefined
    ? Target.open(request.target, outputNames(job.plan), isDirectory)
    : Target.open(request.target, [RECORD_NAME]);
  try {
    const located: Located = new Map(job.located);
    const downloads = new Map<string, string>();
    const fetchAbsent = async (plan: Plan): Promise<Plan> => {
      const whole = await fetchMissing(job, plan, request, located, downloads, events, signal);
      if (whole !== plan) checkLimits(whole, request.force, events);
      return whole;
    };
    let plan = await fetchAbsent(job.plan);
    events.onPlan?.(plan);
    const write = async (plan: Plan): Promise<TargetRecord> => {
      if (earlier !== undefined) return await continuePass(plan, located, target, earlier, signal);
      const { onWrite } = events;
      const files = { plan, located, target, onWrite, onNotice: events.onNotice, signal };
      const written = await (isDirectory ? writeRoot : writeImages)(files);
      const record = makeRecord(VERSION, plan, written.images, downloads, written.files);
      target.writePart(RECORD_NAME, `${JSON.stringify(record, null, 1)}\n`);
      target.commit([...written.names, RECORD_NAME]);
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

/** Names that a build may leave in its target. */
function outputNames(plan: Plan): string[] {
  const names = plan.start === "directory"
    ? new Set(plan.entries.map(({ path }) => path.split("/")[1]!).filter((name) => name))
    : [BOOT_IMAGE, PAYLOAD_IMAGE, EXTERNAL_IMAGE, DISK_IMAGE];
  return [...names, RECORD_NAME];
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

/** Where distfiles may lie already: in the checkout, the store, and mirrors that are directories. */
export async function locateAll(
  distfiles: readonly Pick<Distfile, "name" | "sha256">[],
  { store, options }: Pick<DistfileRequest, "store" | "options">,
  root: string,
): Promise<Located> {
  const bundle = bundleAt(root);
  const dirs = [
    join(root, "distfiles"),
    store,
    ...options.mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : []),
  ];
  const found = await Promise.all(distfiles.map(async ({ name, sha256 }) => {
    const bundled = bundle && findBundledDistfile(bundle, name, sha256);
    const [first] = bundled === undefined ? await locate(name, dirs) : [];
    return { name, file: bundled ?? (first && { path: first.path, size: first.sizeBytes }) };
  }));
  return new Map(found.flatMap(({ name, file }) => file === undefined ? [] : [[name, file]]));
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
  downloads: Map<string, string>,
  events: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<Plan> {
  for (;;) {
    const missing = neededDistfiles(plan).filter(({ name }) => !located.has(name));
    if (missing.length === 0) return plan;
    await fetchInto(located, missing, request, downloads, events, signal);
    plan = planWith(inputs, request, located);
  }
}

/**
 * Gets distfiles that are not located.
 *
 * @throws {UserError} "fetch", with everything that could not be had
 */
export async function fetchInto(
  located: Located,
  missing: readonly Pick<Distfile, "name" | "sha256" | "urls">[],
  { store, options, jobs, isOffline = false }: DistfileRequest,
  downloads: Map<string, string>,
  events: BuildEvents,
  signal: AbortSignal | undefined,
): Promise<void> {
  const mirrors = options.mirrors.filter(({ kind }) => !isOffline || kind === "directory");
  const report = await fetchAll(
    isOffline ? missing.map(({ name, sha256 }) => ({ name, sha256, urls: [] })) : missing,
    {
      store,
      mirrors: mirrors.map(mirrorUrl),
      jobs,
      userAgent: USER_AGENT,
      signal,
      onProgress: events.onFetch,
    },
  );
  if (report.failures.length > 0) throw isOffline ? offlineError(report) : fetchError(report);
  for (const [name, { path, sizeBytes, source }] of report.files) {
    located.set(name, { path, size: sizeBytes });
    if (!source.startsWith("file:")) downloads.set(name, source);
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
  return mirror.kind === "http" ? mirror.url : `file://${mirror.path}`;
}

/**
 * Verifies every located file and forgets those that are wrong, so that they are fetched. In the
 * store, which is seedstrap's own, a wrong file is removed; elsewhere it is left alone.
 */
export async function dropWrong(
  distfiles: readonly Pick<Distfile, "name" | "sha256">[],
  located: Located,
  store: string,
  events: BuildEvents,
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
