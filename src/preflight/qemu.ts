// SPDX-License-Identifier: MIT
/**
 * The preflight program in QEMU.
 *
 * @module
 */

import { escapeComma } from "../plan/qemu.ts";

/** Exit codes that the program's debug-exit device makes QEMU end with. */
export const VERDICT_CODES = { ok: 33, failed: 35 } as const;

/** A machine to look at. */
export interface PreflightMachine {
  /** `pc`, as a real run has it, or another one of QEMU's. */
  readonly machine: string;
  readonly ramMib: number;
  /** Raw images in the order of the BIOS: the boot disk first. */
  readonly drives: readonly string[];
}

/** Arguments for QEMU without the accelerator. */
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
    // With -nographic SeaBIOS would send the screen to the serial line too.
    "-display",
    "none",
    "-serial",
    "stdio",
  ];
}
