// SPDX-License-Identifier: MIT
/**
 * The command line of QEMU.
 *
 * @module
 */

import type { BuildOptions } from "./options.ts";

const ROOT = "root=/dev/sda1 rootfstype=ext3 init=/init rw";
const SERIAL_CONSOLE = "console=ttyS0 earlycon=uart8250,io,0x3f8,115200n8";
const SCREEN_CONSOLE = "consoleblank=0 earlyprintk=vga";

/** The command line for a kernel of the user's: the disk is its root. */
export function kernelCommandLine(interactive: boolean): string {
  return `${interactive ? SCREEN_CONSOLE : SERIAL_CONSOLE} ${ROOT}`;
}

/**
 * Arguments for QEMU without the accelerator, which is chosen when it is started.
 *
 * @param drives Raw images in the order of the BIOS: the boot disk first.
 */
export function qemuArgs(
  { qemuRamMib, cores, interactive, kernel }: Pick<
    BuildOptions,
    "qemuRamMib" | "cores" | "interactive" | "kernel"
  >,
  drives: readonly string[],
): string[] {
  return [
    "-m",
    `${qemuRamMib}M`,
    "-smp",
    String(cores),
    ...drives.flatMap((path) => ["-drive", `file=${escapeComma(path)},format=raw`]),
    ...(kernel === undefined ? ["-machine", "kernel-irqchip=split"] : []),
    "-nic",
    "user,ipv6=off,model=e1000",
    ...(kernel === undefined ? [] : ["-kernel", kernel, "-append", kernelCommandLine(interactive)]),
    ...(interactive ? [] : ["-no-reboot", "-nographic"]),
  ];
}

/** QEMU ends an option's value at a comma, unless it is doubled. */
export function escapeComma(path: string): string {
  return path.replaceAll(",", ",,");
}
