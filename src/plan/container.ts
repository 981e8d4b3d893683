// SPDX-License-Identifier: MIT
/**
 * How a container is started: what its image says, and the options that podman and docker have in
 * common.
 *
 * @module
 */

import { CONTAINER_NAME, type ContainerSettings } from "../format/oci.ts";
import { archDir } from "./config.ts";
import { seedPath } from "./entries.ts";
import { asksUser, type BuildOptions, continuesPass } from "./options.ts";

/** Architectures that have other names in Go, by which an image says for what it is. */
const GO_NAMES: Readonly<Record<string, string>> = { x86: "386", aarch64: "arm64" };

function architectureOf({ arch }: Pick<BuildOptions, "arch">): string {
  return GO_NAMES[arch] ?? arch;
}

/** Returns what the image says of its container: it starts as chroot starts a directory. */
export function containerSettings({ arch }: Pick<BuildOptions, "arch">): ContainerSettings {
  return {
    architecture: architectureOf({ arch }),
    entrypoint: [`/${seedPath(archDir(arch))}`],
    environment: ["PATH=/bin"],
  };
}

/**
 * Returns the options of an engine with which it makes the container of a bootstrap.
 *
 * The first process heeds no signal that it has no handler for, as the first of every PID namespace:
 * hence the stop signal. Without --external-sources the network is that of this machine, as in chroot
 * and bwrap: mirrors that are directories are served on 127.0.0.1. The engine keeps no log of its own.
 * A later pass starts as with bwrap.
 */
export function containerOptions(options: BuildOptions): string[] {
  return [
    // Of an image for another architecture than the machine's it is said to be expected.
    `--platform=linux/${architectureOf(options)}`,
    "--pull=never",
    `--network=${options.externalSources ? "none" : "host"}`,
    "--stop-signal=KILL",
    "--log-driver=none",
    ...(options.interactive || asksUser(options) ? ["--interactive", "--tty"] : []),
    ...(continuesPass(options) ? ["--entrypoint=/init", "--env=PATH=/usr/bin"] : []),
  ];
}

/**
 * Returns the command that starts the container of a bootstrap, once podman has its image. That of a
 * later pass is made of the container of the pass before, and has no name yet.
 */
export function containerCommand(options: BuildOptions): string[] {
  const image = continuesPass(options) ? "IMAGE" : CONTAINER_NAME;
  return ["podman", "run", ...containerOptions(options), image];
}
