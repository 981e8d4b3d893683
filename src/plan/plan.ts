// SPDX-License-Identifier: MIT
/**
 * Options and a checkout in, a plan out: no I/O, no clock. A plan is data; writers only stream it.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { assembleHex0 } from "../format/hex0.ts";
import { checkStage1, checkStage2 } from "../format/boot.ts";
import { compareBytes } from "../format/payload.ts";
import { MIB } from "../format/segment.ts";
import { type Config, formatConfig } from "../tree/config.ts";
import type { Distfile } from "../tree/distfiles.ts";
import { evaluateManifest, type Manifest } from "../tree/manifest.ts";
import { STAGE1_PATH, STAGE2_PATH, type TreeModel } from "../tree/model.ts";
import { bootstrapConfig, servedMirrors } from "./config.ts";
import { bootDataBytes, payloadEnds } from "./images.ts";
import {
  computeLimits,
  type Contributor,
  type Limit,
  LIVE_BOOTSTRAP_COSTS,
  type StepCosts,
} from "./limits.ts";
import type { BuildOptions } from "./options.ts";
import { qemuArgs } from "./qemu.ts";
import { type Boundaries, findBoundaries, phaseOf, survivesCleaning } from "./split.ts";
import {
  BOOT_IMAGE,
  PAYLOAD_IMAGE,
  type Place,
  type Plan,
  type PlannedDistfile,
  type PlannedEntry,
  SEED_COMMANDS,
  SEED_DIRECTORIES,
} from "./types.ts";

/** Sizes of the distfiles that are on this machine already, in bytes by name. */
export type KnownSizes = ReadonlyMap<string, number>;

/**
 * Plans a build.
 *
 * @throws {UserError} "format" for a boot sector that is none, "tree" for a configuration that
 * could not be read on the booted machine.
 */
export function makePlan(tree: TreeModel, options: BuildOptions, sizes: KnownSizes): Plan {
  if (options.payload === "always") return draft(tree, options, sizes, true, "--payload always");
  if (options.payload === "never") return draft(tree, options, sizes, false, "--payload never");
  if (options.externalSources) {
    return draft(tree, options, sizes, true, "--external-sources carries every distfile");
  }
  const plain = draft(tree, options, sizes, false, "the boot image holds what is needed");
  if (brokenLimits(plain).length === 0) return plain;
  const title = brokenLimits(plain)[0]!.title;
  const split = draft(tree, options, sizes, true, `without it the plan breaks: ${title}`);
  return brokenLimits(split).length < brokenLimits(plain).length ? split : plain;
}

/** The limits that a plan breaks. */
export function brokenLimits(plan: Plan): Limit[] {
  return plan.limits.filter(({ broken }) => broken);
}

/** The names of the distfiles that a build has to have. */
export function neededDistfiles(plan: Plan): PlannedDistfile[] {
  return plan.distfiles.filter(({ place }) => place !== "network");
}

/**
 * The arguments that QEMU is started with, without the accelerator.
 *
 * @param dir Directory of the images as QEMU shall see it.
 * @throws {UserError} "usage" for a plan that is not for QEMU.
 */
export function planCommand(plan: Pick<Plan, "options" | "images">, dir: string): string[] {
  if (plan.options.mode !== "qemu") {
    throw new UserError("usage", "Cannot start a bare-metal target in QEMU", {
      hint: "Build it with --qemu",
    });
  }
  return qemuArgs(plan.options, plan.images.map((name) => `${dir}/${name}`));
}

function draft(
  tree: TreeModel,
  options: BuildOptions,
  sizes: KnownSizes,
  wantsPayload: boolean,
  payloadReason: string,
): Plan {
  const config = bootstrapConfig(options, wantsPayload);
  const boundaries = findBoundaries(tree.manifest, config);
  const placed = tree.distfiles.map((distfile) =>
    placeDistfile(distfile, tree.manifest, boundaries, options, wantsPayload, sizes)
  );
  const hasPayload = placed.some(({ place }) => place === "payload");
  // Without anything to carry there is no payload disk, and nothing must wait for one.
  if (wantsPayload && !hasPayload) {
    return draft(tree, options, sizes, false, "no distfile is left for a payload");
  }
  const configText = options.createConfig ? formatConfig(config) : "";
  const entries = bootEntries(tree, placed, configText);
  const stage1 = assembleHex0(tree.stage1, STAGE1_PATH);
  checkStage1(stage1, STAGE1_PATH);
  checkStage2(tree.stage2, STAGE2_PATH);
  const fiwix = jumpsTo(tree.manifest, config, "fiwix") ? tree.fiwix : undefined;
  const costs = knownCosts(tree.manifest, boundaries);
  const oneGo = choosePhases(tree, placed, entries, fiwix, costs);
  const distfiles = placed.map((distfile): PlannedDistfile =>
    distfile.place !== "payload"
      ? distfile
      : { ...distfile, restored: oneGo || distfile.phase === "fiwix" ? "fiwix" : "disk" }
  );
  const limits = computeLimits({
    entries,
    seedFiles: SEED_DIRECTORIES.length + SEED_COMMANDS.filter(isHex0).length,
    ...underFiwix(tree, distfiles, options),
    fiwix,
    costs,
    movesToDisk: boundaries.moveDisk !== Infinity,
    ramMib: options.mode === "qemu" ? options.qemuRamMib : undefined,
    disk: options.mode === "qemu"
      ? {
        sizeBytes: options.targetSizeMib * MIB,
        dataBytes: bootDataBytes(tree.stage2.length, entries),
      }
      : undefined,
    payloadHelps: !hasPayload && boundaries.split !== Infinity,
  });
  return {
    options,
    tree: tree.root,
    config: configText,
    distfiles,
    stage1,
    stage2: tree.stage2,
    entries,
    hasPayload,
    payloadReason,
    limits,
    images: hasPayload ? [BOOT_IMAGE, PAYLOAD_IMAGE] : [BOOT_IMAGE],
    overlay: { manifestLines: [], files: ["steps/bootstrap.cfg"] },
    servedMirrors: servedMirrors(options),
    warnings: [
      ...findWarnings(tree, options, hasPayload, boundaries),
      ...limits.filter(({ near }) => near).map(nearWarning),
    ],
  };
}

function placeDistfile(
  distfile: Distfile,
  manifest: Manifest,
  boundaries: Boundaries,
  options: BuildOptions,
  wantsPayload: boolean,
  sizes: KnownSizes,
): PlannedDistfile {
  const { name, sha256, urls, uses } = distfile;
  const phase = phaseOf(distfile, boundaries);
  const first = uses[0]!;
  const place: Place = phase === "boot"
    ? "boot"
    : phase === "network" && !options.externalSources
    ? "network"
    : wantsPayload && boundaries.split !== Infinity
    ? "payload"
    : "boot";
  const line = (index: number) => manifest.lines[index]!;
  const needed = `${first.step} (manifest line ${line(first.index).line}) needs it`;
  const why = place === "network"
    ? `the machine downloads it: ${needed} behind ${short(line(boundaries.network).text)}`
    : phase === "boot" && boundaries.split !== Infinity
    ? `${needed} ahead of ${short(line(boundaries.split).text)}`
    : phase === "network"
    ? `${needed} behind the network, --external-sources carries it`
    : needed;
  return { name, sha256, urls, size: sizes.get(name) ?? null, phase, place, why };
}

/** A manifest line without predicate and comment. */
function short(text: string): string {
  return text.split(" ").slice(0, 2).join(" ");
}

/** Everything in the boot image: bytewise by path, a directory ahead of its content. */
function bootEntries(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  config: string,
): PlannedEntry[] {
  const entries: PlannedEntry[] = [directory(".")];
  for (const { path, kind, source, size } of tree.files) {
    entries.push(
      kind === "directory"
        ? directory(`./${path}`)
        : { path: `./${path}`, content: { kind: "tree", source }, size },
    );
  }
  const bytes = new TextEncoder().encode(config);
  entries.push({
    path: "./steps/bootstrap.cfg",
    content: { kind: "generated", bytes },
    size: bytes.length,
  });
  entries.push(directory("./external"), directory("./external/distfiles"));
  for (const { name, place, size } of distfiles) {
    if (place !== "boot") continue;
    entries.push({
      path: `./external/distfiles/${name}`,
      content: { kind: "distfile", name },
      size: size ?? 0,
    });
  }
  const encoder = new TextEncoder();
  return entries.map((entry) => ({ entry, key: encoder.encode(entry.path) }))
    .sort((a, b) => compareBytes(a.key, b.key)).map(({ entry }) => entry);
}

function directory(path: string): PlannedEntry {
  return { path, content: { kind: "directory" }, size: 0 };
}

function jumpsTo(manifest: Manifest, config: Config, name: string): boolean {
  return evaluateManifest(manifest, config)
    .some(({ line }) => line.kind === "jump" && line.name === name);
}

/**
 * Whether the whole payload can be restored right behind the split. Otherwise only what is needed
 * before `jump: move_disk` is, and the rest behind it, when the root is on a disk.
 */
function choosePhases(
  tree: TreeModel,
  placed: readonly PlannedDistfile[],
  entries: readonly PlannedEntry[],
  fiwix: TreeModel["fiwix"],
  costs: StepCosts | undefined,
): boolean {
  if (fiwix === undefined) return true;
  const carried = placed.filter(({ place }) => place === "payload");
  const content = total(entries) + total(carried) + (costs?.bytes ?? 0);
  const surviving = total(survivors(tree, placed, () => true)) + (costs?.kexecBytes ?? 0);
  return content <= fiwix.ramdiskBytes && surviving <= fiwix.kexecBytes;
}

/** What is known of the steps ahead of the split: the figures are those of live-bootstrap's own. */
function knownCosts(manifest: Manifest, { split }: Boundaries): StepCosts | undefined {
  const isMes = manifest.lines.slice(0, split).some((line) =>
    line.kind === "build" && line.name.startsWith("mes-")
  );
  return isMes ? LIVE_BOOTSTRAP_COSTS : undefined;
}

/** Distfiles that lie on the Fiwix ramdisk when it is packed for Linux. */
function survivors(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  isThere: (distfile: PlannedDistfile) => boolean,
): PlannedDistfile[] {
  const kept = new Set(
    tree.distfiles.filter((distfile) => survivesCleaning(distfile, tree.manifest))
      .map(({ name }) => name),
  );
  return distfiles.filter((distfile) =>
    distfile.place !== "network" && kept.has(distfile.name) && isThere(distfile)
  );
}

function underFiwix(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  options: BuildOptions,
): { restored: Contributor[]; restoredEnd: number; surviving: Contributor[] } {
  const restored = distfiles.filter((distfile) => distfile.restored === "fiwix");
  const ends = payloadEnds(
    distfiles.filter(({ place }) => place === "payload"),
    options.payloadLayout,
  );
  const surviving = survivors(tree, distfiles, ({ restored }) => restored !== "disk");
  return {
    restored: restored.map(contributor),
    restoredEnd: Math.max(0, ...restored.map(({ name }) => ends.get(name)!)),
    surviving: surviving.map(contributor),
  };
}

function contributor({ name, size }: PlannedDistfile): Contributor {
  return { name, amount: size ?? 0 };
}

function total(items: readonly { readonly size: number | null }[]): number {
  return items.reduce((sum, { size }) => sum + (size ?? 0), 0);
}

function findWarnings(
  tree: TreeModel,
  options: BuildOptions,
  hasPayload: boolean,
  boundaries: Boundaries,
): string[] {
  const warnings: string[] = [];
  if (options.arch !== "x86") {
    warnings.push(`--arch ${options.arch} is for development only: x86 is what bootstraps`);
  }
  // The preflight program runs no step.
  const runsSteps = options.bootProgram === "builder-hex0";
  if (hasPayload && runsSteps && !tree.manifest.lines.some(importsPayload)) {
    warnings.push(
      "the manifest has no improve: import_payload: nothing on the booted machine restores the payload yet, and the run stops where its first distfile is missing",
    );
  }
  if (options.externalSources && boundaries.split === Infinity && options.payload !== "never") {
    warnings.push("the manifest has no jump: fiwix: every distfile goes into the boot image");
  }
  if (!options.createConfig && hasPayload) {
    warnings.push("--no-create-config leaves PAYLOAD_REQUIRED unset: set it on the machine");
  }
  if (options.mode === "bare-metal" && !options.externalSources) {
    for (const mirror of options.mirrors) {
      if (mirror.kind !== "directory") continue;
      warnings.push(`the machine cannot reach file://${mirror.path}: it is left out of MIRRORS`);
    }
  }
  return warnings;
}

function isHex0(command: string): boolean {
  return command.startsWith("hex0 ");
}

function nearWarning({ title, used, expected, limit, unit }: Limit): string {
  return `likely too much, by an estimate: ${title}: ${used} + ${expected} of ${limit} ${unit}`;
}

function importsPayload(line: TreeModel["manifest"]["lines"][number]): boolean {
  return line.kind === "improve" && line.name === "import_payload";
}
