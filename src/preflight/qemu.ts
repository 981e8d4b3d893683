// SPDX-License-Identifier: MIT
/**
 * The machine of QEMU that runs the preflight program.
 *
 * @module
 */

import { escapeComma } from "../plan/qemu.ts";

/** Exit codes of QEMU, which the program sets through the debug-exit device. */
export const VERDICT_CODES = { ok: 33, failed: 35 } as const;

/** A machine to examine. */
export interface PreflightMachine {
  /** `pc`, as in a real run, or another machine type of QEMU. */
  readonly machine: string;
  readonly ramMib: number;
  /** Raw images in the order of the BIOS: the boot disk first. */
  readonly drives: readonly string[];
}

/** Returns the arguments of QEMU without the accelerator. */
export function preflightArgs({ machine, ramMib, drives }: PreflightMachine): string[] {
  return [
    "-machine",
    machine,
    "-m",
    `${ramMib}M`,
    ...drives.flatMap((path) => [
      "-drive",
      `file=${escapeComma(path)},format=raw,snapshot=on`,
    ]),
    "-nic",
    "none",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=4",
    "-no-reboot",
    // With -nographic SeaBIOS would also send the screen to the serial port.
    "-display",
    "none",
    "-serial",
    "stdio",
  ];
}
