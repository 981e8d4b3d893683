// SPDX-License-Identifier: MIT
/**
 * Makes a plan from options and a checkout, without I/O or clock. A plan is data.
 *
 * @module
 */

import { flatEntries } from "../archive/entries.ts";
import { UserError } from "../errors.ts";
import { assembleHex0 } from "../format/hex0.ts";
import { checkStage1, checkStage2 } from "../format/boot.ts";
import { payloadEnds } from "../format/payload.ts";
import { MIB } from "../format/segment.ts";
import type { Config } from "../tree/config.ts";
import { type ActiveLine, evaluateManifest, type Manifest } from "../tree/manifest.ts";
import { noPlaceFor } from "./overlay.ts";
import { type FiwixSizes, STAGE1_PATH, STAGE2_PATH, type TreeModel } from "../tree/model.ts";
import { findAdvice, findWarnings, nearWarning } from "./advice.ts";
import { BOOT_DISK, bootstrapConfig, configTexts, diskOf, servedMirrors } from "./config.ts";
import { bootEntries, withOverlay } from "./entries.ts";
import { checkPreseed, type Extras, preseedWarnings } from "./preseed.ts";
import { bootDataBytes } from "./images.ts";
import {
  computeLimits,
  contributor,
  type Limit,
  type LimitInput,
  LIVE_BOOTSTRAP_COSTS,
  type StepCosts,
} from "./limits.ts";
import { directoryCommand, planRootDirectory } from "./directory.ts";
import { externalDisk, fileSystemLimits } from "./disk.ts";
import { canMakeAgain, findLost, lostForGood, NOTHING_LOST, withoutLost } from "./lost.ts";
import { type BuildOptions, startOf, startsInDirectory } from "./options.ts";
import { overlayFiles } from "./overlay_files.ts";
import { qemuArgs } from "./qemu.ts";
import { planRestore, survivors } from "./restore.ts";
import { type KnownSizes, placeDistfile } from "./place.ts";
import { type Boundaries, findBoundaries } from "./split.ts";
import {
  BOOT_IMAGE,
  PAYLOAD_IMAGE,
  type Plan,
  type PlannedDistfile,
  type PlannedEntry,
  type PlannedRestore,
  SEED_COMMANDS,
  SEED_DIRECTORIES,
} from "./types.ts";

/**
 * Plans a build.
 *
 * @param extras Prebuilt packages and an archive, if the options name them.
 * @throws {UserError} "format" if the boot sector is not valid; "tree" for a configuration that
 * could not be read on the booted machine, or a manifest that lacks a line that the overlay needs;
 * "usage" for options that this checkout does not support.
 */
export function makePlan(
  tree: TreeModel,
  options: BuildOptions,
  sizes: KnownSizes,
  extras: Extras = { repo: [] },
): Plan {
  if (extras.preseed !== undefined) checkPreseed(extras.preseed, options);
  if (startOf(options) !== "builder-hex0") return planRootDirectory(tree, options, sizes, extras);
  const input = { tree, options, sizes, extras };
  const draft = (wantsPayload: boolean, reason: string) => draftImages(input, wantsPayload, reason);
  if (options.payload === "always") return draft(true, "--payload always");
  if (options.payload === "never") return draft(false, "--payload never");
  // With prebuilt packages there is a second disk with a file system, which has room for distfiles.
  if (options.externalSources && !options.hasRepo) {
    return draft(true, "--external-sources includes every distfile");
  }
  const plain = draft(false, "everything fits into the boot image");
  if (brokenLimits(plain).length === 0) return plain;
  const title = brokenLimits(plain)[0]!.title;
  const split = draft(true, `without it the plan breaks: ${title}`);
  return brokenLimits(split).length < brokenLimits(plain).length ? split : plain;
}

/** Returns the limits that a plan breaks. */
export function brokenLimits(plan: Plan): Limit[] {
  return plan.limits.filter(({ broken }) => broken);
}

/** Returns the distfiles that a build needs. */
export function neededDistfiles(plan: Plan): PlannedDistfile[] {
  return plan.distfiles.filter(({ place }) => place !== "network");
}

/**
 * Returns the command that starts the bootstrap of a plan, without an accelerator of QEMU, which is
 * chosen at the start.
 *
 * @param dir The target, absolute.
 * @returns Program and arguments; undefined for bare metal, which is started by hand.
 */
export function planCommand(
  { options, images }: Pick<Plan, "options" | "images">,
  dir: string,
): string[] | undefined {
  if (startsInDirectory(options.mode)) return directoryCommand(options, dir);
  if (options.mode === "bare-metal") return undefined;
  return [options.qemuCommand, ...qemuArgs(options, images.map((name) => `${dir}/${name}`))];
}

/** The common input of all drafts of a plan. */
interface DraftInput {
  readonly tree: TreeModel;
  readonly options: BuildOptions;
  readonly sizes: KnownSizes;
  readonly extras: Extras;
}

/** The manifest under a configuration. */
interface Course {
  readonly active: readonly ActiveLine[];
  readonly boundaries: Boundaries;
  /** The ramdisks of the Fiwix jump; undefined if the manifest does not jump to Fiwix. */
  readonly fiwix: FiwixSizes | undefined;
  readonly costs: StepCosts | undefined;
}

function courseOf({ manifest, fiwix }: TreeModel, config: Config): Course {
  const active = evaluateManifest(manifest, config);
  const boundaries = findBoundaries(manifest, active);
  const jumps = active.some(({ line }) => line.kind === "jump" && line.name === "fiwix");
  const costs = knownCosts(manifest, boundaries);
  return { active, boundaries, fiwix: jumps ? fiwix : undefined, costs };
}

/**
 * Plans the images of a kernel bootstrap.
 *
 * @param wantsPayload Whether there will be a payload image, if there are any files for it.
 */
function draftImages(input: DraftInput, wantsPayload: boolean, payloadReason: string): Plan {
  const { tree, options, sizes, extras: { repo, preseed } } = input;
  const config = bootstrapConfig(options, wantsPayload);
  const course = courseOf(tree, config);
  const { active, boundaries, fiwix, costs } = course;
  const placed = tree.distfiles.map((distfile) =>
    placeDistfile(distfile, tree.manifest, boundaries, options, wantsPayload, sizes)
  );
  if (options.payload === "always" && boundaries.split === Infinity) {
    throw noPlaceFor(tree.manifest, "jump: fiwix");
  }
  const hasPayload = placed.some(({ place }) => place === "payload");
  // Without any files for it there is no payload disk, and nothing must wait for one.
  if (wantsPayload && !hasPayload) {
    return draftImages(input, false, "no distfile is left for a payload");
  }
  checkAirGap(options, placed);
  const stage1 = bootSector(tree);
  const root = bootEntries(tree, placed, preseed);
  const restore = hasPayload
    ? planRestore({ tree, options, distfiles: placed, entries: root, fiwix, costs })
    : undefined;
  const distfiles = restore === undefined
    ? placed
    : placed.map((file) => restoredBy(restore, file));
  const configText = configTexts(options, wantsPayload);
  const lost = fiwix === undefined
    ? NOTHING_LOST
    : findLost(root, tree.manifest, active, boundaries);
  const again = canMakeAgain(lost);
  const overlay = overlayFiles(
    tree,
    options,
    configText.text,
    distfiles,
    restore,
    again,
    boundaries.moveDisk === Infinity ? undefined : { stage1, stage2: tree.stage2 },
  );
  const entries = withoutLost(withOverlay(root, overlay.files), again);
  const disk = options.hasRepo ? externalDisk(distfiles, repo) : undefined;
  const limits = [
    ...imageLimits(input, course, entries, distfiles, restore),
    ...(disk === undefined ? [] : fileSystemLimits(disk)),
  ];
  return {
    options,
    start: "builder-hex0",
    tree: tree.root,
    config: configText.shown,
    distfiles,
    stage1,
    stage2: tree.stage2,
    entries,
    hasPayload,
    payloadReason,
    limits,
    images: [BOOT_IMAGE, ...optional(disk?.name), ...optional(hasPayload && PAYLOAD_IMAGE)],
    ...(disk && { disk }),
    ...(restore && { restore }),
    overlay: {
      manifestLines: overlay.changes,
      files: [...overlay.files.keys()],
      madeAgain: [...again.directories.map((path) => `${path}/`), ...again.files],
    },
    servedMirrors: servedMirrors(options),
    advice: findAdvice(tree, options, distfiles),
    warnings: [
      ...findWarnings(tree, options, hasPayload, boundaries),
      ...limits.filter(({ near }) => near).map(nearWarning),
      ...(preseed === undefined ? [] : preseedWarnings(flatEntries(preseed).leftOut)),
      ...lostForGood(lost).map((path) =>
        `${path} is empty and will be lost at jump: fiwix: kaem cannot read its name in a script`
      ),
    ],
  };
}

/** Assembles and checks the boot sector of a checkout, and checks the text that it loads. */
function bootSector(tree: TreeModel): Uint8Array {
  const stage1 = assembleHex0(tree.stage1, STAGE1_PATH);
  checkStage1(stage1, STAGE1_PATH);
  checkStage2(tree.stage2, STAGE2_PATH);
  return stage1;
}

/** Adds to a distfile of the payload the phase in which the importer restores it. */
function restoredBy({ phases }: PlannedRestore, distfile: PlannedDistfile): PlannedDistfile {
  if (distfile.place !== "payload") return distfile;
  return { ...distfile, restored: phases === 1 || distfile.phase === "fiwix" ? "fiwix" : "disk" };
}

function optional<T>(item: T | false | undefined): T[] {
  return item === false || item === undefined ? [] : [item];
}

/** Returns the costs of the steps before the split, which are known for live-bootstrap's own. */
function knownCosts(manifest: Manifest, { split }: Boundaries): StepCosts | undefined {
  const isMes = manifest.lines.slice(0, split).some((line) =>
    line.kind === "build" && line.name.startsWith("mes-")
  );
  return isMes ? LIVE_BOOTSTRAP_COSTS : undefined;
}

function imageLimits(
  { tree, options }: DraftInput,
  { boundaries, fiwix, costs }: Course,
  entries: readonly PlannedEntry[],
  distfiles: readonly PlannedDistfile[],
  restore: PlannedRestore | undefined,
): Limit[] {
  const sizeBytes = options.targetSizeMib * MIB;
  const { installed, ...restored } = onDisks(tree, distfiles, restore);
  return computeLimits({
    entries,
    seedFiles: SEED_DIRECTORIES.length + SEED_COMMANDS.filter(isHex0).length,
    ...restored,
    installed: [...installed, { name: "/swapfile", amount: options.swapMib * MIB }],
    fiwix,
    costs,
    movesToDisk: boundaries.moveDisk !== Infinity && diskOf(options) === BOOT_DISK,
    ramMib: options.mode === "qemu" ? options.qemuRamMib : undefined,
    disk: options.mode === "qemu"
      ? { sizeBytes, dataBytes: bootDataBytes(tree.stage2.length, entries) }
      : undefined,
    payloadHelps: restore === undefined && boundaries.split !== Infinity,
  });
}

/** Returns what the machine restores, and what of it comes to the disk of the system. */
function onDisks(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  restore: PlannedRestore | undefined,
): Pick<LimitInput, "restored" | "restoredEnd" | "surviving" | "installed"> {
  const restored = distfiles.filter((distfile) => distfile.restored === "fiwix");
  const carried = distfiles.filter(({ place }) => place === "payload")
    .map(({ name, size }) => ({ name, sizeBytes: size ?? 0 }));
  const ends = restore === undefined
    ? new Map<string, number>()
    : payloadEnds(carried, restore.layout);
  const surviving = survivors(tree, distfiles, ({ restored }) => restored !== "disk");
  // What the machine restores or downloads when the system is on its disk.
  const afterwards = distfiles.filter(({ restored, place }) =>
    restored === "disk" || place === "network"
  );
  return {
    restored: restored.map(contributor),
    restoredEnd: Math.max(0, ...restored.map(({ name }) => ends.get(name)!)),
    surviving: surviving.map(contributor),
    installed: [...surviving, ...afterwards].map(contributor),
  };
}

/**
 * Checks that an air-gapped machine gets every distfile.
 *
 * @throws {UserError} "usage"
 */
function checkAirGap({ airGapped }: BuildOptions, distfiles: readonly PlannedDistfile[]): void {
  const absent = distfiles.filter(({ place }) => place === "network").length;
  if (!airGapped || absent === 0) return;
  throw new UserError(
    "usage",
    `Cannot use --air-gapped: the machine would have to download ${absent} distfiles itself`,
    { hint: "Use --external-sources too: it includes every distfile" },
  );
}

function isHex0(command: string): boolean {
  return command.startsWith("hex0 ");
}
