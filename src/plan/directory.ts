// SPDX-License-Identifier: MIT
/**
 * Plans a bootstrap that starts under the running kernel, in a directory or in a container with the
 * same files, or on a disk with them under a kernel of the user.
 *
 * @module
 */

import { join } from "node:path/posix";
import { sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { checkLayerPath } from "../format/oci.ts";
import { evaluateManifest } from "../tree/manifest.ts";
import { findExtraMissing, findMissing } from "./missing.ts";
import type { AddedDirectory } from "./added.ts";
import type { Extras } from "./preseed.ts";
import type { GeneratedList, TreeModel } from "../tree/model.ts";
import {
  cleanedWarnings,
  cleansSources,
  extraNotes,
  findAdvice,
  optionWarnings,
  treeWarnings,
} from "./advice.ts";
import { archDir, bootstrapConfig, configTexts, servedMirrors } from "./config.ts";
import { directoryEntries, seedPath, withAdded, withOverlay } from "./entries.ts";
import { bootDisk, fileSystemLimits } from "./disk.ts";
import { countUnknown } from "./limits.ts";
import { type BuildOptions, continuesPass, type Start, startOf } from "./options.ts";
import { overlayFiles } from "./overlay_files.ts";
import { OWN, planned, whyIncluded } from "./place.ts";
import { carriedNote, networkOf, plannedDownloads } from "./reach.ts";
import { findBoundaries, phaseOf } from "./split.ts";
import { CONTAINER_IMAGE, type Plan, type PlannedDistfile, type PlannedEntry } from "./types.ts";

/** Where the files of a bootstrap are by what it starts from, as a phrase. */
export const ROOT_PLACES: Readonly<Record<Start, string>> = {
  "builder-hex0": "in the boot image",
  disk: "on the disk",
  directory: "in the directory",
  container: "in the container",
};

/**
 * Plans a directory, or a disk or a container with the same files. Space is its only limit, as
 * there is no ramdisk and no builder-hex0.
 *
 * @param extras Prebuilt packages and an archive, in addition to the checkout.
 * @throws {UserError} "usage" for options that only apply to images, "tree" if there is no seed.
 */
export function planRootDirectory(
  tree: TreeModel,
  options: BuildOptions,
  sizes: ReadonlyMap<string, number>,
  { repo, added = [], preseed }: Extras,
): Plan {
  const start = startOf(options);
  if (options.payload === "always") {
    const other = start === "disk" ? "kernel" : options.mode;
    throw new UserError("usage", `Cannot use --payload always with --${other}`, {
      hint: "A payload is for machines that boot builder-hex0: --qemu or --bare-metal",
    });
  }
  const config = bootstrapConfig(options, false);
  const active = evaluateManifest(tree.manifest, config);
  const boundaries = findBoundaries(tree, active);
  const network = networkOf(tree, options, active);
  const input = { manifests: tree, boundaries, options, sizes, network, carries: true };
  const distfiles = tree.distfiles.map((distfile): PlannedDistfile => {
    const phase = phaseOf(distfile, boundaries);
    const included = phase === "network" ? whyIncluded(distfile, input) : "";
    const isCarried = included !== undefined;
    const step = distfile.uses[0]?.step;
    return planned(distfile, sizes, {
      phase,
      place: isCarried ? "boot" : "network",
      why: step === undefined
        ? OWN
        : isCarried
        ? `${step} needs it ${included}`.trimEnd()
        : `${step} downloads it`,
    });
  });
  const made = plannedDownloads(network, distfiles, options);
  const configText = configTexts(options, false);
  const overlay = overlayFiles(tree, options, configText.text, distfiles, undefined);
  const arch = archDir(options.arch);
  const root = directoryEntries(tree, arch, distfiles, repo, preseed);
  const whole = withOverlay(root, overlay.files);
  const list = tree.generatedList && generatedListOf(tree.generatedList, whole);
  const entries = withAdded(list === undefined ? whole : withOverlay(whole, list), added);
  // Before anything is downloaded.
  if (start === "container") { for (const { path } of entries) checkLayerPath(path); }
  const disk = start === "disk" ? bootDisk(options, entries) : undefined;
  return {
    options,
    start,
    tree: tree.root,
    config: configText.shown,
    distfiles,
    ...made,
    stage1: new Uint8Array(),
    stage2: new Uint8Array(),
    entries,
    ...(disk && { disk }),
    hasPayload: false,
    payloadReason: `the distfiles are ${ROOT_PLACES[start]}`,
    limits: disk === undefined ? [] : fileSystemLimits(disk, countUnknown(distfiles)),
    images: disk !== undefined
      ? [disk.name]
      : start === "container" && !continuesPass(options)
      ? [CONTAINER_IMAGE]
      : [],
    overlay: {
      manifestLines: overlay.changes,
      files: [...overlay.files.keys(), ...list?.keys() ?? []],
      madeAgain: [],
    },
    servedMirrors: servedMirrors(options),
    missing: [...findMissing(tree, active, options), ...findExtraMissing(tree, config, options)],
    untracked: tree.untracked,
    advice: [
      ...extraNotes(tree),
      ...(disk === undefined ? [] : findAdvice(tree, options, distfiles)),
      ...carriedNote(distfiles, made.downloads),
    ],
    warnings: [
      ...treeWarnings(tree),
      ...optionWarnings(options),
      ...cleanedWarnings(tree, distfiles, addedDistfiles(tree, added, distfiles)),
    ],
  };
}

/** Makes the list of the files that come to Fiwix, itself among them, as the rootfs.py of its time. */
function generatedListOf(
  { path, begin }: GeneratedList,
  entries: readonly PlannedEntry[],
): ReadonlyMap<string, Uint8Array> {
  const steps = entries.filter(({ path, content }) =>
    path.startsWith("./steps/") && content.kind !== "directory"
  ).map((entry) => entry.path.slice(1));
  const lines = sortedByBytes(new Set([...steps, `/${path}`]), (line) => line);
  const text = begin + lines.map((line) => `${line}\n`).join("");
  return new Map([[path, new TextEncoder().encode(text)]]);
}

/**
 * Returns the names that directories of the user bring among the distfiles.
 *
 * @throws {UserError} "usage" for a directory among them, at which `improve: clean_sources` fails.
 */
function addedDistfiles(
  tree: TreeModel,
  added: readonly AddedDirectory[],
  distfiles: readonly PlannedDistfile[],
): string[] {
  const known = new Set(distfiles.map(({ name }) => name));
  return added.flatMap(({ dir, path, entries }) =>
    [{ path: "", kind: "directory" }, ...entries].flatMap((entry) => {
      const name = /^external\/distfiles\/([^/]+)$/.exec(join(path, entry.path))?.[1];
      if (name === undefined || known.has(name)) return [];
      if (entry.kind === "file" || !cleansSources(tree)) return [name];
      throw new UserError(
        "usage",
        `Cannot add ${dir}: improve: clean_sources fails at the directory /external/distfiles/${name}`,
        { where: dir, hint: "Only files can be among the distfiles" },
      );
    })
  );
}

/**
 * Returns the command that starts a bootstrap in a directory.
 *
 * @param dir The directory, absolute.
 */
export function directoryCommand(options: BuildOptions, dir: string): string[] {
  const init = continuesPass(options) ? "/init" : `/${seedPath(archDir(options.arch))}`;
  if (options.mode === "chroot") return ["env", "-i", "PATH=/bin", "chroot", dir, init];
  const devices = ["null", "zero", "random", "urandom", "ptmx", "tty"].map((name) =>
    `/dev/${name}`
  );
  return [
    "env",
    "-i",
    "bwrap",
    "--unshare-user",
    "--uid",
    "0",
    "--gid",
    "0",
    ...(options.externalSources ? ["--unshare-net"] : []),
    "--setenv",
    "PATH",
    "/usr/bin",
    "--bind",
    dir,
    "/",
    "--dir",
    "/dev",
    ...devices.flatMap((device) => ["--dev-bind", device, device]),
    "--tmpfs",
    "/dev/shm",
    "--proc",
    "/proc",
    "--bind",
    "/sys",
    "/sys",
    "--tmpfs",
    "/tmp",
    init,
  ];
}
