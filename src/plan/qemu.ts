// SPDX-License-Identifier: MIT
/**
 * Makes the command line of QEMU.
 *
 * @module
 */

import type { BuildOptions } from "./options.ts";

const ROOT = "root=/dev/sda1 rootfstype=ext3 init=/init rw";
const SERIAL_CONSOLE = "console=ttyS0 earlycon=uart8250,io,0x3f8,115200n8";
const SCREEN_CONSOLE = "consoleblank=0 earlyprintk=vga";

/** Returns the command line for a kernel of the user, with the disk as its root. */
export function kernelCommandLine(interactive: boolean): string {
  return `${interactive ? SCREEN_CONSOLE : SERIAL_CONSOLE} ${ROOT}`;
}

/**
 * Returns the arguments of QEMU without the accelerator, which is chosen at the start.
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

/** Doubles the commas in a path, as a single one ends the value of an option of QEMU. */
export function escapeComma(path: string): string {
  return path.replaceAll(",", ",,");
}
