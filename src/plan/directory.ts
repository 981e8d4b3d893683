// SPDX-License-Identifier: MIT
/**
 * A bootstrap that starts in a directory, under the kernel that runs already.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { formatConfig } from "../tree/config.ts";
import { usingSteps } from "../tree/distfiles.ts";
import type { TreeModel } from "../tree/model.ts";
import { archDir, bootstrapConfig, servedMirrors } from "./config.ts";
import { directoryEntries, seedPath } from "./entries.ts";
import type { BuildOptions } from "./options.ts";
import { overlayFiles } from "./overlay_files.ts";
import { findBoundaries, phaseOf } from "./split.ts";
import type { Plan, PlannedDistfile } from "./types.ts";

/**
 * Plans a directory. It has no limits but space: no ramdisk, and no builder-hex0.
 *
 * @throws {UserError} "usage" for what belongs to images, "tree" where there is no seed.
 */
export function planDirectory(
  tree: TreeModel,
  options: BuildOptions,
  sizes: ReadonlyMap<string, number>,
): Plan {
  if (options.payload === "always") {
    throw new UserError("usage", `Cannot use --payload always with --${options.mode}`, {
      hint: "A payload is for machines that boot: --qemu or --bare-metal",
    });
  }
  const config = bootstrapConfig(options, false);
  const boundaries = findBoundaries(tree.manifest, config);
  const distfiles = tree.distfiles.map((distfile): PlannedDistfile => {
    const { name, sha256, urls, uses } = distfile;
    const phase = phaseOf(distfile, boundaries);
    const isCarried = phase !== "network" || options.externalSources;
    const step = uses[0]!.step;
    return {
      name,
      sha256,
      urls,
      size: sizes.get(name) ?? null,
      phase,
      place: isCarried ? "boot" : "network",
      why: isCarried ? `${step} needs it` : `${step} downloads it`,
      steps: usingSteps(distfile),
    };
  });
  const configText = options.createConfig ? formatConfig(config) : "";
  const overlay = overlayFiles(tree, options, configText, distfiles, undefined);
  return {
    options,
    tree: tree.root,
    config: configText,
    distfiles,
    stage1: new Uint8Array(),
    stage2: new Uint8Array(),
    entries: directoryEntries(tree, archDir(options.arch), distfiles, overlay.files),
    hasPayload: false,
    payloadReason: "the distfiles lie in the directory",
    limits: [],
    images: [],
    overlay: { manifestLines: overlay.changes, files: [...overlay.files.keys()] },
    servedMirrors: servedMirrors(options),
    advice: [],
    warnings: options.arch === "x86"
      ? []
      : [`--arch ${options.arch} is for development only: x86 is what bootstraps`],
  };
}

/**
 * The command that starts a bootstrap in a directory.
 *
 * @param dir The directory, absolute.
 */
export function directoryCommand(options: BuildOptions, dir: string): string[] {
  const init = `/${seedPath(archDir(options.arch))}`;
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
