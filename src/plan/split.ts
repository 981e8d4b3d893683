// SPDX-License-Identifier: MIT
/**
 * The split of the manifest into phases by which distfiles are needed.
 *
 * @module
 */

import type { Distfile } from "../tree/distfiles.ts";
import type { Manifests } from "../tree/extra.ts";
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
  /** The same of each extra build, and its first line, counted as `lineAt()` counts. */
  readonly extraBuilds: readonly { readonly firstIndex: number; readonly network: number }[];
}

/** Finds the boundaries of a manifest, by the lines that are active under a configuration. */
export function findBoundaries(
  { manifest, extraBuilds }: Manifests,
  active: readonly ActiveLine[],
): Boundaries {
  const first = (test: (line: ActiveLine["line"]) => boolean) =>
    active.find(({ line }) => test(line))?.index ?? Infinity;
  const importer = first((line) => line.kind === "improve" && line.name === "import_payload");
  const fiwix = first((line) => line.kind === "jump" && line.name === "fiwix");
  return {
    split: importer !== Infinity ? importer : fiwix,
    fiwix,
    moveDisk: first((line) => line.kind === "jump" && line.name === "move_disk"),
    network: findNetwork(manifest),
    extraBuilds: extraBuilds.map((extra) => ({
      firstIndex: extra.firstIndex,
      network: extra.firstIndex + findNetwork(extra.manifest),
    })),
  };
}

/** Reports whether a line, as `lineAt()` counts them, is before the network of its manifest. */
export function isPreNetwork(index: number, manifests: Manifests): boolean {
  const boundaries = findBoundaries(manifests, []);
  return index < networkBefore(index, boundaries);
}

/**
 * Returns the index of the line of the same manifest after which the machine can download. An extra
 * build has one of its own, as it may jump to another kernel before it, and what it needs up to
 * there is carried: so does the generator of pull request 578.
 */
export function networkBefore(index: number, { network, extraBuilds }: Boundaries): number {
  return extraBuilds.findLast(({ firstIndex }) => firstIndex <= index)?.network ?? network;
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
export function phaseOf({ uses }: Distfile, boundaries: Boundaries): Phase {
  // What no build line needs is there for who uses the machine afterwards.
  const first = uses[0]?.index ?? Infinity;
  // A later manifest may need it before its network, and the one before it after its own.
  const isEarly = uses.length === 0
    ? boundaries.network === Infinity
    : uses.some(({ index }) => index < networkBefore(index, boundaries));
  if (!isEarly) return "network";
  if (first < boundaries.split && boundaries.split !== Infinity) return "boot";
  if (boundaries.split === Infinity) return "boot";
  return first < boundaries.moveDisk ? "fiwix" : "disk";
}

/**
 * Returns the distfiles that `improve: clean_sources` keeps: it deletes those that no build line
 * from the first `linux-N` on needs, whatever the predicates. It does not read the manifests of
 * extra builds.
 */
export function survivorsOfCleaning(
  distfiles: readonly Distfile[],
  manifest: Manifest,
): readonly Distfile[] {
  const linux = manifest.lines.findIndex((line) =>
    line.kind === "build" && /^linux-[0-9]/.test(line.name)
  );
  return distfiles.filter((distfile) =>
    linux < 0 || ofMainManifest(distfile, manifest).some(({ index }) => index >= linux)
  );
}

/** Returns the build lines of steps/manifest that need a distfile. */
export function ofMainManifest({ uses }: Distfile, { lines }: Manifest): Distfile["uses"] {
  return uses.filter(({ index }) => index < lines.length);
}
