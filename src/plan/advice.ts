// SPDX-License-Identifier: MIT
/**
 * Advice and warnings about a plan.
 *
 * @module
 */

import { EXTRA_BUILDS, extraDir } from "../tree/extra.ts";
import { httpMirrors, secretOf } from "../fetch/mirror.ts";
import { FIWIX_PATH, type TreeModel } from "../tree/model.ts";
import { networkLines } from "./overlay.ts";
import { unknownToCleaning } from "./restore.ts";
import { formatAmount, type Limit } from "./limits.ts";
import type { BuildOptions } from "./options.ts";
import type { Boundaries } from "./split.ts";
import type { PlannedDistfile } from "./types.ts";

/** SHA-256 of kexec-fiwix.c at live-bootstrap 984b8322, with which the jump is known to work. */
const KEXEC_FIWIX_SHA256 = "34f6049c12e470e11f873bb46ef67ccfcb6bec5f7e913ea2ed6089dfff7fb3dc";

/** Returns suggestions for a plan that is correct but could be better. */
export function findAdvice(
  tree: TreeModel,
  { airGapped }: BuildOptions,
  distfiles: readonly PlannedDistfile[],
): string[] {
  const waits = networkLines(tree.manifest).map(({ name }) => `improve: ${name}`);
  if (airGapped || waits.length === 0) return [];
  if (distfiles.some(({ place }) => place === "network")) return [];
  return [
    `every distfile is included: for a machine without a network use --air-gapped, or the run fails at ${
      waits.join(", ")
    }`,
  ];
}

/** Returns warnings about a checkout that apply to every mode. */
export function treeWarnings({ remarks, emptySubmodules, untracked }: TreeModel): string[] {
  return [
    ...remarks,
    ...(emptySubmodules.length === 0 ? [] : [
      `submodules that this build does not need are empty: ${
        listed(emptySubmodules, 3)
      }: the image is not that of a complete clone`,
    ]),
    ...(untracked.length === 0 ? [] : [
      `git does not track these files of the checkout, which are packed too: ${
        listed(untracked, 12)
      }`,
    ]),
  ];
}

function listed(names: readonly string[], most: number): string {
  const others = names.length - most;
  const shown = names.slice(0, most).join(", ");
  return others > 0 ? `${shown} and ${others} more` : shown;
}

/** Returns warnings about options that apply to every mode. */
export function optionWarnings(options: BuildOptions): string[] {
  const { arch, mirrors, mirrorCredentials, externalSources, createConfig, extraBuilds } = options;
  const isInConfig = createConfig && !externalSources;
  return [
    ...(arch === "x86" ? [] : [`--arch ${arch} is for development only: only x86 can bootstrap`]),
    ...(extraBuilds === undefined || extraBuilds.length === 0 || createConfig
      ? []
      : [`--no-create-config leaves ${EXTRA_BUILDS} unset: set it on the machine`]),
    ...httpMirrors(mirrors).flatMap((mirror) => {
      const what = secretOf(mirror);
      if (what === undefined || !isInConfig) return [];
      const { host } = new URL(mirror.url);
      return [
        mirrorCredentials
          ? `the ${what} for the mirror ${host} becomes part of the image, in bootstrap.cfg`
          : `the machine will ask the mirror ${host} without the ${what}: ` +
            "--mirror-credentials writes it to bootstrap.cfg",
      ];
    }),
  ];
}

/** Returns warnings about a plan: unusual settings, and what is likely to fail. */
export function findWarnings(
  tree: TreeModel,
  options: BuildOptions,
  hasPayload: boolean,
  boundaries: Boundaries,
): string[] {
  const warnings = [...treeWarnings(tree), ...optionWarnings(options)];
  if (tree.kexecFiwix !== undefined && tree.kexecFiwix.sha256 !== KEXEC_FIWIX_SHA256) {
    warnings.push(
      `${tree.kexecFiwix.path} is not the version that is known to work: its SHA-256 is ${tree.kexecFiwix.sha256}, that of live-bootstrap 984b8322 is ${KEXEC_FIWIX_SHA256}`,
    );
  }
  if (hasPayload && options.payloadLayout === 64 && tree.ownImporter?.readsLayout64 === false) {
    warnings.push("the importer of the checkout reads layout 32 only: use --payload-layout 32");
  }
  if (options.externalSources && boundaries.split === Infinity && options.payload !== "never") {
    warnings.push("the manifest has no jump: fiwix: every distfile goes into the boot image");
  }
  if (!options.createConfig && hasPayload) {
    warnings.push("--no-create-config leaves PAYLOAD_REQUIRED unset: set it on the machine");
  }
  if (!options.externalSources) {
    for (const mirror of options.mirrors) {
      if (mirror.kind !== "oci" && mirror.kind !== "s3") continue;
      warnings.push(`the machine cannot ask ${mirror.url}, it is left out of MIRRORS`);
    }
  }
  if (options.mode === "bare-metal" && !options.externalSources) {
    for (const mirror of options.mirrors) {
      if (mirror.kind !== "directory") continue;
      warnings.push(`the machine cannot reach file://${mirror.path}, it is left out of MIRRORS`);
    }
  }
  return warnings;
}

/** Reports whether the bootstrap deletes distfiles that no step needs. */
export function cleansSources({ manifest }: TreeModel): boolean {
  return manifest.lines.some(({ kind, name }) => kind === "improve" && name === "clean_sources");
}

/**
 * Returns the warning about files of the user that the bootstrap itself deletes.
 *
 * @param added Names that `--add` brings among the distfiles.
 */
export function cleanedWarnings(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  added: readonly string[] = [],
): string[] {
  const unknown = new Set(unknownToCleaning(tree));
  const own = distfiles.filter(({ name, place, restored }) =>
    unknown.has(name) && (place === "boot" || restored === "fiwix")
  ).map(({ name }) => name);
  if (!cleansSources(tree) || own.length + added.length === 0) return [];
  const names = listed([...own, ...added], 12);
  const what = tree.extraBuilds.length === 0 ? "no step needs" : `no step of steps/ needs`;
  return [`improve: clean_sources will delete what ${what}: ${names}`];
}

/** Returns a note about step directories beside steps/ that the build leaves out. */
export function extraNotes({ otherBuilds }: TreeModel): string[] {
  if (otherBuilds.length === 0) return [];
  const dirs = otherBuilds.map((name) => `${extraDir(name)}/`).join(", ");
  return [`${dirs} of the checkout is left out: --extra-builds names what is included`];
}

/** Returns the warning about a limit that the checkout does not say. */
export function unknownWarning({ title, used, unit }: Limit): string {
  return `cannot be checked: ${title}: ${formatAmount(used, unit)} of an unknown number, ` +
    `as ${FIWIX_PATH} does not set one`;
}

/** Returns the warning about a limit that is not broken, but likely will be during the run. */
export function nearWarning({ title, used, expected, limit, unit }: Limit): string {
  const [here, later, most] = [used, expected, limit].map((amount) => formatAmount(amount, unit));
  return `probably too much (an estimate): ${title}: ${here} + ${later} of ${most}`;
}
