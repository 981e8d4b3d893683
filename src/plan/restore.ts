// SPDX-License-Identifier: MIT
/**
 * Plans how the booted machine restores the files of a payload: in one phase after the split, or in
 * two phases.
 *
 * After `jump: fiwix` the root is a ramdisk, and at `jump: linux` everything in it that
 * `improve: clean_sources` has kept must fit the kexec ramdisk. If the whole payload does not fit
 * both, the first phase only restores what the steps up to `jump: move_disk` need; the second phase
 * restores the rest once the root is on a disk. The importer of a checkout may stand after
 * `jump: move_disk`: then no ramdisk has any of it.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { sortedByBytes } from "../bytes.ts";
import type { PayloadLayout } from "../format/payload.ts";
import { formatSums } from "../format/sums.ts";
import { findRestPlace } from "./overlay.ts";
import type { TreeModel } from "../tree/model.ts";
import { bySize, contributor, countUnknown, ramdiskUse, type StepCosts } from "./limits.ts";
import type { BuildOptions } from "./options.ts";
import { type Boundaries, ofMainManifest, survivorsOfCleaning } from "./split.ts";
import type { Plan, PlannedDistfile, PlannedEntry, PlannedRestore } from "./types.ts";

/** Name of the list of digests in a payload, for `payload-import --verify`. */
export const SUMS_NAME = "SHA256SUMS";

/** The input for the choice of phases. */
export interface RestoreInput {
  readonly tree: TreeModel;
  readonly options: BuildOptions;
  readonly distfiles: readonly PlannedDistfile[];
  /** Entries of the boot image. */
  readonly entries: readonly PlannedEntry[];
  /** Undefined if the manifest does not jump to Fiwix. */
  readonly fiwix: TreeModel["fiwix"];
  readonly boundaries: Boundaries;
  readonly costs: StepCosts | undefined;
}

/**
 * Chooses the phases and the layout of a payload.
 *
 * @throws {UserError} "usage" if two phases are requested and not possible.
 */
export function planRestore(input: RestoreInput): PlannedRestore {
  const { tree, options, distfiles, entries, boundaries, costs } = input;
  const fiwix = restoresToDisk(boundaries) ? undefined : input.fiwix;
  const carried = distfiles.filter(({ place }) => place === "payload");
  const surviving = survivors(tree, distfiles, () => true);
  const inOneGo = fiwix && ramdiskUse(
    fiwix,
    [...bySize(entries), ...carried.map(contributor)],
    surviving.map(contributor),
    costs,
    {
      root: countUnknown(distfiles, ({ place }) => place === "boot" || place === "payload"),
      surviving: countUnknown(surviving),
    },
  );
  const fits = inOneGo === undefined ||
    Object.values(inOneGo).every(({ used, expected, limit }) =>
      limit !== null && used + expected <= limit
    );
  const obstacle = twoPhaseObstacle(tree);
  if (options.payloadPhases === "two" && obstacle !== undefined) {
    throw new UserError("usage", `Cannot use --payload-phases two: ${obstacle}`, {
      hint: "Use --payload-phases auto",
    });
  }
  // `improve: clean_sources`, which comes before the second phase, deletes what no step needs.
  const unknown = new Set(unknownToCleaning(tree));
  const hasOwn = carried.some(({ name }) => unknown.has(name));
  const wantsTwo = options.payloadPhases === "two" ||
    (options.payloadPhases === "auto" && (!fits || hasOwn));
  return {
    phases: wantsTwo && obstacle === undefined ? 2 : 1,
    ...(inOneGo && { inOneGo }),
    ...(wantsTwo && obstacle !== undefined && { obstacle }),
    layout: layoutOf(tree, options),
    importer: tree.ownImporter === undefined ? "overlay" : "checkout",
  };
}

/** Reports whether a payload is restored only when the root is on a disk. */
export function restoresToDisk({ split, moveDisk }: Boundaries): boolean {
  return split > moveDisk;
}

/** Returns the reason why a payload cannot be restored in two phases, or undefined. */
function twoPhaseObstacle(tree: TreeModel): string | undefined {
  if (tree.ownImporter !== undefined) return "the checkout has an importer of its own";
  const place = findRestPlace(tree.manifest, tree.procImproves);
  return typeof place === "string" ? `the manifest has no "${place}"` : undefined;
}

function layoutOf(tree: TreeModel, options: BuildOptions): PayloadLayout {
  if (options.payloadLayout !== "auto") return options.payloadLayout;
  return tree.ownImporter?.readsLayout64 === false ? 32 : 64;
}

/** Returns the distfiles that are on the Fiwix ramdisk when it is packed for Linux. */
export function survivors(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  isThere: (distfile: PlannedDistfile) => boolean,
): PlannedDistfile[] {
  const kept = new Set(
    survivorsOfCleaning(tree.distfiles, tree.manifest).map(({ name }) => name),
  );
  return distfiles.filter((distfile) =>
    (distfile.place === "boot" || distfile.place === "payload") && kept.has(distfile.name) &&
    isThere(distfile)
  );
}

/**
 * Returns the names of distfiles that no step of steps/manifest needs: `improve: clean_sources`
 * deletes them, if they are there by then. They are files of the user, or those of extra builds.
 */
export function unknownToCleaning({ distfiles, manifest }: TreeModel): string[] {
  return distfiles.filter((distfile) => ofMainManifest(distfile, manifest).length === 0)
    .map(({ name }) => name);
}

/** The importer keeps a list in a buffer of this size, and its lines in a table of that. */
const MAX_LIST_BYTES = 256 * 1024;
const MAX_LIST_LINES = 4096;

/**
 * Returns the names that are restored in one of the phases, one per line, sorted bytewise. Without
 * names it is an empty line, which the importer skips, as builder-hex0 would lose an empty file.
 *
 * @throws {UserError} "limit" for more names than the importer supports.
 */
export function restoreList(
  distfiles: readonly PlannedDistfile[],
  where: "fiwix" | "disk",
): string {
  return nameList(
    distfiles.filter(({ restored }) => restored === where).map(({ name }) => name),
  );
}

/** Returns names for the importer, as {@link restoreList} does. */
export function nameList(names: readonly string[]): string {
  const list = names.length === 0 ? "\n" : sorted(names).map((name) => `${name}\n`).join("");
  if (names.length > MAX_LIST_LINES || new TextEncoder().encode(list).length > MAX_LIST_BYTES) {
    throw new UserError(
      "limit",
      `Cannot restore ${names.length} files from a payload: the importer takes at most ${MAX_LIST_LINES} names in ${MAX_LIST_BYTES} bytes`,
      { hint: "Include fewer files" },
    );
  }
  return list;
}

/** Returns the names of the files of a payload image: distfiles, their digests, and the extras. */
export function payloadFiles(
  { distfiles, restore, extras = [] }: Pick<Plan, "distfiles" | "restore" | "extras">,
): string[] {
  const carried = [...distfiles.filter(({ place }) => place === "payload"), ...extras]
    .map(({ name }) => name);
  return restore?.importer === "overlay" ? [...carried, SUMS_NAME] : carried;
}

/** Returns the content of {@link SUMS_NAME}: the output of `sha256sum` for distfiles of a payload. */
export function payloadSums(distfiles: readonly PlannedDistfile[]): string {
  const carried = distfiles.filter(({ place }) => place === "payload");
  const digests = new Map(carried.map(({ name, sha256 }) => [name, sha256]));
  return formatSums(
    sorted(digests.keys()).map((path) => ({ path, sha256: digests.get(path)! })),
  );
}

function sorted(names: Iterable<string>): string[] {
  return sortedByBytes(names, (name) => name);
}
