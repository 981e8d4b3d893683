// SPDX-License-Identifier: MIT
/**
 * Decides where each distfile goes, and why.
 *
 * @module
 */

import { type Distfile, usingSteps } from "../tree/distfiles.ts";
import { lineAt, type Manifests } from "../tree/extra.ts";
import { type BuildOptions, hasExternalDisk } from "./options.ts";
import { isObtainable, isReachable, type Network, obstacleOf, reachOf } from "./reach.ts";
import { type Boundaries, networkBefore, phaseOf } from "./split.ts";
import type { Place, PlannedDistfile } from "./types.ts";

/** Sizes in bytes of the distfiles that are already on this machine, by name. */
export type KnownSizes = ReadonlyMap<string, number>;

/** The reason for a file that no sources file names. */
export const OWN = "it is in distfiles/ of the checkout, --external-sources includes it";

/** Returns a distfile of the checkout as one of a plan. */
export function planned(
  distfile: Distfile,
  sizes: KnownSizes,
  decided: Pick<PlannedDistfile, "phase" | "place" | "why">,
): PlannedDistfile {
  const { name, sha256, urls, isInNoMirror } = distfile;
  const size = sizes.get(name) ?? null;
  const steps = usingSteps(distfile);
  return { name, sha256, urls, size, ...decided, steps, ...(isInNoMirror && { isInNoMirror }) };
}

/** What decides where the distfiles of a plan go. */
export interface PlaceInput {
  readonly manifests: Manifests;
  readonly boundaries: Boundaries;
  readonly options: BuildOptions;
  readonly sizes: KnownSizes;
  readonly network: Network;
  /** Whether what the machine cannot download is carried. */
  readonly carries: boolean;
}

/**
 * Returns why a distfile of the phase "network" is included, as a phrase; undefined if it is not.
 * One that this machine cannot get either is left to the booted one.
 */
export function whyIncluded(distfile: Distfile, input: PlaceInput): string | undefined {
  const { options, sizes, network, carries } = input;
  if (options.externalSources) {
    return "after the network is up, --external-sources includes it";
  }
  const reach = reachOf(distfile, network);
  if (!carries || isReachable(reach)) return undefined;
  const canGet = isObtainable(distfile, sizes.has(distfile.name), network.sources);
  return canGet ? `after the network is up, but ${obstacleOf(reach)}` : undefined;
}

/**
 * Decides where a distfile of a kernel bootstrap goes.
 *
 * @param wantsPayload Whether there will be a payload image.
 */
export function placeDistfile(
  distfile: Distfile,
  wantsPayload: boolean,
  input: PlaceInput,
): PlannedDistfile {
  const { manifests, boundaries, options, sizes } = input;
  const { uses } = distfile;
  const phase = phaseOf(distfile, boundaries);
  const [first] = uses;
  const included = phase === "network" ? whyIncluded(distfile, input) : undefined;
  const place: Place = phase === "boot"
    ? "boot"
    : phase === "network" && included === undefined
    ? "network"
    : phase === "network" && hasExternalDisk(options)
    ? "external"
    : wantsPayload && (first?.index ?? Infinity) > boundaries.split
    ? "payload"
    : "boot";
  if (first === undefined) return planned(distfile, sizes, { phase, place, why: OWN });
  const line = (index: number) => lineAt(manifests, index)!.line;
  const { manifest, line: build } = lineAt(manifests, first.index)!;
  const where = manifest === manifests.manifest ? "manifest" : manifest.file;
  const needed = `${first.step} (${where} line ${build.line}) needs it`;
  const network = networkBefore(first.index, boundaries);
  const why = place === "network"
    ? `the machine downloads it: ${needed} after ${short(line(network).text)}`
    : phase === "boot" && boundaries.split !== Infinity
    ? `${needed} before ${short(line(boundaries.split).text)}`
    : phase === "network"
    ? `${needed} ${included}`
    : needed;
  return planned(distfile, sizes, { phase, place, why });
}

/** Returns a manifest line without predicate and comment. */
function short(text: string): string {
  return text.split(" ").slice(0, 2).join(" ");
}
