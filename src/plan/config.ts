// SPDX-License-Identifier: MIT
/**
 * The bootstrap.cfg of a plan.
 *
 * @module
 */

import { requestUrl } from "../fetch/mirror.ts";
import { type Config, formatConfig } from "../tree/config.ts";
import { EXTRA_BUILDS } from "../tree/extra.ts";
import { type BuildOptions, hasExternalDisk, startOf, usesRunningKernel } from "./options.ts";

/** The address of the host's 127.0.0.1 in QEMU's user network. */
const HOST_SEEN_FROM_GUEST = "10.0.2.2";

/**
 * Returns the variables of the booted machine, in the order in which rootfs.py writes them, then
 * PAYLOAD_REQUIRED, and AIR_GAPPED and OVERWRITE_DISK if they are requested.
 *
 * @param hasPayload Whether there is a payload disk beside the boot disk.
 */
export function bootstrapConfig(options: BuildOptions, hasPayload: boolean): Config {
  const isBareMetal = options.mode === "bare-metal";
  const isKernelBootstrap = startOf(options) === "builder-hex0";
  const config: [string, string][] = [
    ["ARCH", options.arch],
    ["ARCH_DIR", archDir(options.arch)],
    ["FORCE_TIMESTAMPS", bool(options.forceTimestamps)],
    ["CHROOT", bool(usesRunningKernel(options.mode))],
    ["UPDATE_CHECKSUMS", bool(options.updateChecksums)],
    ["JOBS", String(options.cores)],
    ["SWAP_SIZE", String(options.swapMib)],
    ["FINAL_JOBS", String(options.cores)],
    ["INTERNAL_CI", options.internalCi ?? "False"],
    ["INTERACTIVE", bool(options.interactive)],
    ["QEMU", bool(options.mode === "qemu")],
    ["BARE_METAL", bool(isBareMetal || (options.mode === "qemu" && options.interactive))],
    ...extraVariable(options),
    ["DISK", diskOf(options)],
    ["KERNEL_BOOTSTRAP", bool(isKernelBootstrap)],
    ["BUILD_KERNELS", bool(options.updateChecksums || options.buildKernels)],
    ["CONFIGURATOR", bool(options.configurator)],
  ];
  if (!options.externalSources) {
    const urls = guestMirrors(options);
    if (urls.length > 0) config.push(["MIRRORS", `"${urls.join(" ")}"`]);
    config.push(["MIRRORS_LEN", String(urls.length)]);
  }
  config.push(["PAYLOAD_REQUIRED", bool(hasPayload)]);
  if (options.airGapped) config.push(["AIR_GAPPED", "True"]);
  if (options.overwriteDisk) config.push(["OVERWRITE_DISK", "True"]);
  return config;
}

/** The variable is only there where it names something, as in pull request 578. */
function extraVariable({ extraBuilds = [] }: BuildOptions): [string, string][] {
  return extraBuilds.length === 0 ? [] : [[EXTRA_BUILDS, extraBuilds.join(",")]];
}

/** The boot disk as Linux names it, if the BIOS finds the disks in the same order. */
export const BOOT_DISK = "sda";

/**
 * Returns what the system is installed to, as Linux names it. Without a second disk with a file
 * system that is the boot disk: a payload disk is only read.
 */
export function diskOf(
  options: Parameters<typeof hasExternalDisk>[0] & Pick<BuildOptions, "disk">,
): string {
  if (startOf(options) !== "builder-hex0") return "sda1";
  return options.disk ?? (hasExternalDisk(options) ? "sdb1" : BOOT_DISK);
}

/** The bootstrap.cfg of a plan as text; empty where none is made. */
export interface ConfigTexts {
  /** For the image. */
  readonly text: string;
  /** Without the secrets of mirrors, for all else. */
  readonly shown: string;
}

/** Returns the text of bootstrap.cfg, see {@link bootstrapConfig}. */
export function configTexts(options: BuildOptions, hasPayload: boolean): ConfigTexts {
  if (!options.createConfig) return { text: "", shown: "" };
  const { mirrorCredentials: _, ...others } = options;
  return {
    text: formatConfig(bootstrapConfig(options, hasPayload)),
    shown: formatConfig(bootstrapConfig(others, hasPayload)),
  };
}

/** A mirror directory that has to be served while the guest runs. */
export interface ServedMirror {
  readonly path: string;
  readonly port: number;
}

/** Returns the mirror directories to serve: those of a guest that can reach them and downloads. */
export function servedMirrors(options: BuildOptions): ServedMirror[] {
  if (options.externalSources || options.mode === "bare-metal") return [];
  return options.mirrors.flatMap((mirror) => mirror.kind === "directory" ? [mirror.path] : [])
    .map((path, index) => ({ path, port: options.mirrorPort + index }));
}

/**
 * Returns the URLs of mirrors for the guest. Registries and buckets are left out, as it knows http
 * only; on bare metal, local directories too.
 */
export function guestMirrors(options: BuildOptions): string[] {
  let port = options.mirrorPort;
  return options.mirrors.flatMap((mirror) => {
    if (mirror.kind === "http") {
      return [options.mirrorCredentials ? requestUrl(mirror) : mirror.url];
    }
    if (mirror.kind !== "directory") return [];
    const host = options.mode === "qemu" ? HOST_SEEN_FROM_GUEST : "127.0.0.1";
    return options.mode === "bare-metal" ? [] : [`http://${host}:${port++}`];
  });
}

/** Returns the name of an architecture in the directories of stage0-posix. */
export function archDir(arch: string): string {
  return arch === "amd64" ? "AMD64" : arch;
}

function bool(value: boolean): string {
  return value ? "True" : "False";
}
