// SPDX-License-Identifier: MIT
/**
 * The split of the manifest into phases by which distfiles are needed.
 *
 * @module
 */

import type { Distfile } from "../tree/distfiles.ts";
import type { ActiveLine, Manifest } from "../tree/manifest.ts";

/**
 * The phase in which a distfile is first needed.
 *
 * - boot: before the split, so it has to be in the boot image
 * - fiwix: between the split and `jump: move_disk`, while the root is a ramdisk; none if the split
 *   comes after that jump
 * - disk: after `jump: move_disk`, before the network is up
 * - network: after the first `improve:` with "network" in its line
 */
export type Phase = "boot" | "fiwix" | "disk" | "network";

/** The ends of the phases: indices into `manifest.lines`; Infinity if there is no such line. */
export interface Boundaries {
  /** `improve: import_payload`, else `jump: fiwix`. */
  readonly split: number;
  readonly fiwix: number;
  readonly moveDisk: number;
  readonly network: number;
}

/** Finds the boundaries of a manifest, by the lines that are active under a configuration. */
export function findBoundaries(manifest: Manifest, active: readonly ActiveLine[]): Boundaries {
  const first = (test: (line: ActiveLine["line"]) => boolean) =>
    active.find(({ line }) => test(line))?.index ?? Infinity;
  const importer = first((line) => line.kind === "improve" && line.name === "import_payload");
  const fiwix = first((line) => line.kind === "jump" && line.name === "fiwix");
  return {
    split: importer !== Infinity ? importer : fiwix,
    fiwix,
    moveDisk: first((line) => line.kind === "jump" && line.name === "move_disk"),
    network: findNetwork(manifest),
  };
}

/**
 * Returns the index of the line after which the machine can download: the first improve with
 * "network" anywhere in its line, whatever its predicate, as in source_manifest.py.
 */
export function findNetwork(manifest: Manifest): number {
  const index = manifest.lines.findIndex((line) =>
    line.kind === "improve" && line.text.includes("network")
  );
  return index < 0 ? Infinity : index;
}

/** Returns the phase in which a distfile is first needed. */
export function phaseOf(distfile: Distfile, boundaries: Boundaries): Phase {
  // What no build line needs is there for who uses the machine afterwards.
  const first = distfile.uses[0]?.index ?? Infinity;
  if (first > boundaries.network) return "network";
  if (first < boundaries.split && boundaries.split !== Infinity) return "boot";
  if (boundaries.split === Infinity) return "boot";
  return first < boundaries.moveDisk ? "fiwix" : "disk";
}

/**
 * Returns the distfiles that `improve: clean_sources` keeps: it deletes those that no build line
 * from the first `linux-N` on needs, whatever the predicates.
 */
export function survivorsOfCleaning(
  distfiles: readonly Distfile[],
  manifest: Manifest,
): readonly Distfile[] {
  const linux = manifest.lines.findIndex((line) =>
    line.kind === "build" && /^linux-[0-9]/.test(line.name)
  );
  return distfiles.filter(({ uses }) => linux < 0 || uses.some(({ index }) => index >= linux));
}
