// SPDX-License-Identifier: MIT
/**
 * The command line of QEMU.
 *
 * @module
 */

import type { BuildOptions } from "./options.ts";

/**
 * Arguments for QEMU without the accelerator, which is chosen when it is started.
 *
 * @param drives Raw images in the order of the BIOS: the boot disk first.
 */
export function qemuArgs(
  options: Pick<BuildOptions, "qemuRamMib" | "cores" | "interactive">,
  drives: readonly string[],
): string[] {
  return [
    "-m",
    `${options.qemuRamMib}M`,
    "-smp",
    String(options.cores),
    ...drives.flatMap((path) => ["-drive", `file=${escapeComma(path)},format=raw`]),
    "-machine",
    "kernel-irqchip=split",
    "-nic",
    "user,ipv6=off,model=e1000",
    ...(options.interactive ? [] : ["-no-reboot", "-nographic"]),
  ];
}

/** QEMU ends an option's value at a comma, unless it is doubled. */
export function escapeComma(path: string): string {
  return path.replaceAll(",", ",,");
}
