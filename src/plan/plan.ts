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
import { counted } from "../text.ts";
import type { Config } from "../tree/config.ts";
import { checkExtraBuilds } from "../tree/extra.ts";
import { type ActiveLine, evaluateManifest, type Manifest } from "../tree/manifest.ts";
import { earlyShell, findExtraMissing, findMissing } from "./missing.ts";
import { noImporterFor, noPlaceFor } from "./overlay.ts";
import {
  BUILDER,
  type BuilderStages,
  type FiwixSizes,
  neededSubmodules,
  STAGE1_PATH,
  STAGE2_PATH,
  type TreeModel,
} from "../tree/model.ts";
import { emptySubmoduleError } from "../tree/submodules.ts";
import {
  cleanedWarnings,
  extraNotes,
  findAdvice,
  findWarnings,
  nearWarning,
  unknownWarning,
} from "./advice.ts";
import {
  archDir,
  BOOT_DISK,
  bootstrapConfig,
  configTexts,
  diskOf,
  servedMirrors,
} from "./config.ts";
import { bootEntries, checkAddedPlaces, withOverlay } from "./entries.ts";
import { checkPreseed, type Extras, preseedWarnings } from "./preseed.ts";
import { bootDataBytes } from "./images.ts";
import {
  computeLimits,
  contributor,
  countUnknown,
  type Limit,
  type LimitInput,
  LIVE_BOOTSTRAP_COSTS,
  type StepCosts,
} from "./limits.ts";
import { directoryCommand, planRootDirectory } from "./directory.ts";
import { externalDisk, fileSystemLimits } from "./disk.ts";
import { canMakeAgain, findLost, lostForGood, NOTHING_LOST, withoutLost } from "./lost.ts";
import { containerCommand } from "./container.ts";
import {
  asksForPayload,
  type BuildOptions,
  hasExternalDisk,
  startOf,
  startsInDirectory,
} from "./options.ts";
import { checkOneDisk, layOutDisk } from "./one_disk.ts";
import { overlayFiles } from "./overlay_files.ts";
import { checkExtras, payloadExtras } from "./payload_extras.ts";
import { qemuArgs } from "./qemu.ts";
import { planRestore, restoresToDisk, survivors } from "./restore.ts";
import { type KnownSizes, placeDistfile } from "./place.ts";
import { carriedNote, type Network, networkOf, plannedDownloads, reachFaults } from "./reach.ts";
import { type Boundaries, findBoundaries } from "./split.ts";
import {
  BOOT_IMAGE,
  type OneDisk,
  PAYLOAD_IMAGE,
  type PayloadExtra,
  type Plan,
  type PlannedDistfile,
  type PlannedEntry,
  type PlannedRestore,
  SEED_COMMANDS,
  SEED_DIRECTORIES,
} from "./types.ts";

const FITS = "everything fits into the boot image";

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
  checkArch(tree, options);
  checkOneDisk(options, tree);
  checkSubmodules(tree, options);
  checkExtraBuilds(tree);
  checkGeneratedList(tree, options);
  if (startOf(options) !== "builder-hex0") return planRootDirectory(tree, options, sizes, extras);
  const input = { tree: bootable(tree), options, sizes, extras };
  const draft = (wantsPayload: boolean, reason: string, carries = true) =>
    draftImages(input, wantsPayload, reason, carries);
  if (options.payload === "always") return draft(true, "--payload always");
  if (options.payload === "never") {
    const whole = draft(false, "--payload never");
    if (brokenLimits(whole).length === 0 || whole.downloads.length === 0) return whole;
    // What the machine cannot download is carried only where it fits.
    const bare = draft(false, "--payload never", false);
    return brokenLimits(bare).length < brokenLimits(whole).length ? bare : whole;
  }
  if (options.externalSources) return draft(true, "--external-sources includes every distfile");
  if (asksForPayload(options)) {
    const what = options.addedPaths === undefined
      ? "the packages of --repo are"
      : "what --add brings is";
    return draft(true, `${what} in it`);
  }
  const plain = draft(false, FITS);
  const [trouble] = troubles(plain);
  if (trouble !== undefined) {
    const what = trouble.broken ? "the plan breaks" : "there is probably too much (an estimate)";
    const split = draft(true, `without it ${what}: ${trouble.title}`);
    if (isBetter(split, plain)) return split;
    return { ...plain, payloadReason: `a payload would not help with: ${trouble.title}` };
  }
  const unknown = countUnknown(plain.distfiles);
  if (unknown === 0) return plain;
  const payloadReason = `${unknown} sizes are not known yet: a build decides when it has the files`;
  return { ...plain, payloadReason };
}

/** Returns the limits that a plan breaks, then those that it likely will break during the run. */
function troubles({ limits }: Plan): Limit[] {
  return [...limits.filter(({ broken }) => broken), ...limits.filter(({ near }) => near)];
}

/** Reports whether a plan breaks fewer limits than another, or the same with fewer near ones. */
function isBetter(plan: Plan, other: Plan): boolean {
  const fewerBroken = brokenLimits(other).length - brokenLimits(plan).length;
  return fewerBroken > 0 || (fewerBroken === 0 && troubles(plan).length < troubles(other).length);
}

/** Returns the limits that a plan breaks. */
export function brokenLimits(plan: Plan): Limit[] {
  return plan.limits.filter(({ broken }) => broken);
}

/** Reports whether a plan is certain to fail: it breaks a limit, or distfiles are out of reach. */
export function isDoomed(plan: Plan): boolean {
  return brokenLimits(plan).length > 0 || reachFaults(plan).length > 0;
}

/** Returns the distfiles that a build needs. */
export function neededDistfiles(plan: Plan): PlannedDistfile[] {
  return plan.distfiles.filter(({ place }) => place !== "network");
}

/**
 * Returns the command that starts the bootstrap of a plan, without an accelerator of QEMU, which is
 * chosen at the start. So is the engine of a container, which has to have its image by then.
 *
 * @param dir The target, absolute.
 * @returns Program and arguments; undefined for bare metal, which is started by hand.
 */
export function planCommand(
  { options, images }: Pick<Plan, "options" | "images">,
  dir: string,
): string[] | undefined {
  if (startsInDirectory(options.mode)) return directoryCommand(options, dir);
  if (options.mode === "container") return containerCommand(options);
  if (options.mode === "bare-metal") return undefined;
  return [options.qemuCommand, ...qemuArgs(options, images.map((name) => `${dir}/${name}`))];
}

/** The common input of all drafts of a plan. */
interface DraftInput {
  readonly tree: BootableTree;
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
  readonly network: Network;
}

function courseOf(tree: TreeModel, options: BuildOptions, config: Config): Course {
  const { manifest, fiwix } = tree;
  const active = evaluateManifest(manifest, config);
  const boundaries = findBoundaries(tree, active);
  const jumps = active.some(({ line }) => line.kind === "jump" && line.name === "fiwix");
  const costs = knownCosts(manifest, boundaries);
  const network = networkOf(tree, options, active);
  const unknown = { ramdiskBytes: undefined, kexecBytes: undefined };
  return { active, boundaries, fiwix: jumps ? fiwix ?? unknown : undefined, costs, network };
}

/**
 * Plans the images of a kernel bootstrap.
 *
 * @param wantsPayload Whether there will be a payload image, if there are any files for it.
 * @param carries Whether what the machine cannot download is carried.
 */
function draftImages(
  input: DraftInput,
  wantsPayload: boolean,
  payloadReason: string,
  carries: boolean,
): Plan {
  const { tree, options, sizes, extras: given } = input;
  const { repo, preseed } = given;
  const config = bootstrapConfig(options, wantsPayload);
  const course = courseOf(tree, options, config);
  const { active, boundaries, fiwix, costs, network } = course;
  const placing = { manifests: tree, boundaries, options, sizes, network, carries };
  const placed = tree.distfiles.map((distfile) => placeDistfile(distfile, wantsPayload, placing));
  if (options.payload === "always" && boundaries.split === Infinity) {
    throw noPlaceFor(tree.manifest, "jump: fiwix");
  }
  const names = new Set(placed.map(({ name }) => name));
  const extras = wantsPayload ? payloadExtras(options, given, names) : [];
  checkExtras(tree, active, extras);
  const hasPayload = extras.length > 0 || placed.some(({ place }) => place === "payload");
  // Without any files for it there is no payload disk, and nothing must wait for one.
  if (wantsPayload && !hasPayload) {
    return draftImages(input, false, "no distfile is left for a payload", carries);
  }
  const shell = earlyShell(tree, active);
  const overlays = shell === "kaem";
  if (hasPayload && tree.ownImporter === undefined && !overlays) throw noImporterFor(shell);
  checkAirGap(options, placed);
  const stage1 = bootSector(tree);
  const root = bootEntries(tree, placed, preseed);
  const restore = hasPayload
    ? planRestore({ tree, options, distfiles: placed, entries: root, fiwix, costs, boundaries })
    : undefined;
  const distfiles = restore === undefined
    ? placed
    : placed.map((file) => restoredBy(restore, boundaries, file));
  const configText = configTexts(options, wantsPayload);
  const lost = fiwix === undefined
    ? NOTHING_LOST
    : findLost(root, tree.manifest, active, boundaries);
  const again = overlays ? canMakeAgain(lost) : NOTHING_LOST;
  const isInstalled = overlays && boundaries.moveDisk !== Infinity;
  const overlay = overlayFiles(
    tree,
    options,
    configText.text,
    distfiles,
    restore,
    again,
    isInstalled ? { stage1, stage2: tree.stages.stage2 } : undefined,
    extras,
  );
  const whole = withOverlay(root, overlay.files);
  checkAddedPlaces(whole, distfiles, repo, given.added ?? []);
  const entries = withoutLost(whole, again);
  const disk = hasExternalDisk(options) ? externalDisk(distfiles, repo) : undefined;
  const oneDisk = restore !== undefined && options.oneDisk
    ? layOutDisk({
      stage2Bytes: tree.stages.stage2.length,
      entries,
      distfiles,
      extras,
      restore,
      boundaries,
    })
    : undefined;
  const made = plannedDownloads(network, distfiles, options);
  const limits = [
    ...imageLimits(input, course, { entries, distfiles, extras, restore, oneDisk }),
    ...(disk === undefined ? [] : fileSystemLimits(disk, countUnknown(distfiles))),
  ];
  return {
    options,
    start: "builder-hex0",
    tree: tree.root,
    config: configText.shown,
    distfiles,
    ...made,
    stage1,
    stage2: tree.stages.stage2,
    entries,
    hasPayload,
    ...(oneDisk && { oneDisk }),
    ...(extras.length > 0 && { extras }),
    payloadReason,
    limits,
    images: [
      BOOT_IMAGE,
      ...optional(disk?.name),
      ...optional(hasPayload && oneDisk === undefined && PAYLOAD_IMAGE),
    ],
    ...(disk && { disk }),
    ...(restore && { restore }),
    overlay: {
      manifestLines: overlay.changes,
      files: [...overlay.files.keys()],
      madeAgain: [...again.directories.map((path) => `${path}/`), ...again.files],
    },
    servedMirrors: servedMirrors(options),
    missing: [...findMissing(tree, active, options), ...findExtraMissing(tree, config, options)],
    untracked: tree.untracked,
    advice: [
      ...extraNotes(tree),
      ...(options.oneDisk && oneDisk === undefined
        ? ["--one-disk changes nothing: there is no payload, and the boot disk is the only one"]
        : []),
      ...findAdvice(tree, options, distfiles),
      ...carriedNote(distfiles, made.downloads),
    ],
    warnings: [
      ...findWarnings(tree, options, hasPayload, boundaries),
      ...cleanedWarnings(tree, distfiles),
      ...limits.filter(({ near }) => near).map(nearWarning),
      ...limits.filter(({ limit }) => limit === null).map(unknownWarning),
      ...(preseed === undefined ? [] : preseedWarnings(flatEntries(preseed).leftOut)),
      ...(overlays ? lostForGood(lost) : [...lost.files, ...lost.directories]).map((path) =>
        `${path} is empty and will be lost at jump: fiwix: ` +
        (overlays ? "kaem cannot read its name in a script" : `no script of ours is for .${shell}`)
      ),
    ],
  };
}

/** Names of an architecture in the files of ports of builder-hex0, where they are not those of --arch. */
const PORT_NAMES: Readonly<Record<string, readonly string[]>> = {
  aarch64: ["aarch64", "arm64"],
  amd64: ["amd64", "x86_64"],
};

/**
 * Checks that builder-hex0 can boot the architecture.
 *
 * @throws {UserError} "usage"
 */
function checkArch({ builderFiles }: TreeModel, options: BuildOptions): void {
  const { arch, mode } = options;
  if (startOf(options) !== "builder-hex0" || arch === "x86") return;
  const names = PORT_NAMES[arch] ?? [arch];
  const ports = builderFiles.filter((file) =>
    names.some((name) => file.startsWith(`${BUILDER}-${name}-`))
  );
  const why = ports.length === 0
    ? "builder-hex0 boots x86 only"
    : `the checkout has ${
      ports.join(", ")
    }, but how a boot disk for it is laid out is not known here`;
  throw new UserError("usage", `Cannot use --arch ${arch} with --${mode}: ${why}`, {
    hint: "Use --chroot or --bwrap, or a --kernel for that architecture",
  });
}

/**
 * Refuses a boot image of a checkout whose Fiwix gets the files of a list: it would not have those of
 * the overlay and what they build. A directory has no Fiwix.
 *
 * @throws {UserError} "tree"
 */
function checkGeneratedList({ generatedList }: TreeModel, options: BuildOptions): void {
  if (generatedList === undefined || startOf(options) !== "builder-hex0") return;
  throw new UserError(
    "tree",
    "Cannot make a boot image of this checkout: Fiwix gets the files of a list that only its own " +
      "rootfs.py makes",
    {
      where: generatedList.path,
      hint:
        "It is of the time from December 2023 to February 2024: use a later one, such as release " +
        "1.0, or --chroot, --bwrap or --kernel",
    },
  );
}

/** A checkout from which a boot image can be made. */
type BootableTree = TreeModel & { readonly stages: BuilderStages };

/**
 * Checks that a checkout has what a boot image begins with.
 *
 * @throws {UserError} "tree"
 */
function bootable(tree: TreeModel): BootableTree {
  const { stages, builderFiles, root } = tree;
  if (stages !== undefined) return { ...tree, stages };
  const names = [STAGE1_PATH, STAGE2_PATH].map((path) => path.slice(BUILDER.length + 1));
  const there = builderFiles.length === 0 ? "no hex0 file" : builderFiles.join(", ");
  throw new UserError(
    "tree",
    `Cannot make a boot image: it needs ${names.join(" and ")}, and the checkout has ${there}`,
    {
      where: `${root}/${BUILDER}`,
      hint: "Is the checkout complete (git submodule update --init --recursive)? Those of before " +
        "2024, or with another builder-hex0, start with --chroot, --bwrap or --kernel only",
    },
  );
}

/**
 * Checks that every submodule that the bootstrap needs is cloned. An archive replaces those of
 * stage0-posix, and builder-hex0 makes the seeds itself.
 *
 * @throws {UserError} "tree"
 */
function checkSubmodules(tree: TreeModel, options: BuildOptions): void {
  if (options.hasPreseed) return;
  const empty = neededSubmodules(tree, archDir(options.arch)).filter((path) =>
    startOf(options) !== "builder-hex0" || !path.endsWith("/bootstrap-seeds")
  );
  if (empty.length > 0) throw emptySubmoduleError(tree.root, empty);
}

/** Assembles and checks the boot sector of a checkout, and checks the text that it loads. */
function bootSector({ stages }: BootableTree): Uint8Array {
  const stage1 = assembleHex0(stages.stage1, STAGE1_PATH);
  checkStage1(stage1, STAGE1_PATH);
  checkStage2(stages.stage2, STAGE2_PATH);
  return stage1;
}

/** Adds to a distfile of the payload the phase in which the importer restores it. */
function restoredBy(
  { phases }: PlannedRestore,
  boundaries: Boundaries,
  distfile: PlannedDistfile,
): PlannedDistfile {
  if (distfile.place !== "payload") return distfile;
  if (restoresToDisk(boundaries)) return { ...distfile, restored: "disk" };
  return { ...distfile, restored: phases === 1 || distfile.phase === "fiwix" ? "fiwix" : "disk" };
}

function optional<T>(item: T | false | undefined): T[] {
  return item === false || item === undefined ? [] : [item];
}

/** Returns the costs of the steps before the jump, which are known for live-bootstrap's own. */
function knownCosts(manifest: Manifest, { fiwix }: Boundaries): StepCosts | undefined {
  const isMes = manifest.lines.slice(0, fiwix).some((line) =>
    line.kind === "build" && line.name.startsWith("mes-")
  );
  return isMes ? LIVE_BOOTSTRAP_COSTS : undefined;
}

/** What is in the images of a plan, and where. */
interface PlannedMedia {
  readonly entries: readonly PlannedEntry[];
  readonly distfiles: readonly PlannedDistfile[];
  readonly extras: readonly PayloadExtra[];
  readonly restore: PlannedRestore | undefined;
  readonly oneDisk: OneDisk | undefined;
}

function imageLimits(
  { tree, options }: DraftInput,
  { boundaries, fiwix, costs }: Course,
  { entries, distfiles, extras, restore, oneDisk }: PlannedMedia,
): Limit[] {
  const sizeBytes = options.targetSizeMib * MIB;
  const { installed, ...restored } = onDisks(tree, distfiles, restore, extras);
  return computeLimits({
    entries,
    seedFiles: SEED_DIRECTORIES.length + SEED_COMMANDS.filter(isHex0).length,
    ...restored,
    hasPackages: extras.some(({ origin }) => origin === "repo"),
    installed: [...installed, { name: "/swapfile", amount: options.swapMib * MIB }],
    fiwix,
    costs,
    movesToDisk: boundaries.moveDisk !== Infinity && diskOf(options) === BOOT_DISK,
    ramMib: options.mode === "qemu" ? options.qemuRamMib : undefined,
    disk: options.mode === "qemu"
      ? {
        sizeBytes,
        dataBytes: oneDisk?.payloadEndBytes ??
          bootDataBytes(tree.stages.stage2.length, entries),
      }
      : undefined,
    systemStartBytes: oneDisk?.systemStartBytes,
    payloadHelps: restore === undefined && boundaries.split !== Infinity,
  });
}

/** Returns what the machine restores, and what of it comes to the disk of the system. */
function onDisks(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  restore: PlannedRestore | undefined,
  extras: readonly PayloadExtra[],
): Pick<LimitInput, "restored" | "restoredEnd" | "surviving" | "installed" | "unknown"> {
  const restored = distfiles.filter((distfile) => distfile.restored === "fiwix");
  const carried = [...distfiles.filter(({ place }) => place === "payload"), ...extras]
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
    installed: [
      ...[...surviving, ...afterwards].map(contributor),
      // A tar is there beside what was in it until all of that is unpacked.
      ...extras.map(({ name, origin, size }) => ({
        name,
        amount: origin === "added" ? 2 * size : size,
      })),
    ],
    unknown: {
      entries: countUnknown(distfiles, ({ place }) => place === "boot"),
      restored: countUnknown(restored),
      surviving: countUnknown(surviving),
      installed: countUnknown([...surviving, ...afterwards]),
    },
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
    `Cannot use --air-gapped: the machine would have to download ${
      counted(absent, "distfile")
    } itself`,
    { hint: "Use --external-sources too: it includes every distfile" },
  );
}

function isHex0(command: string): boolean {
  return command.startsWith("hex0 ");
}
