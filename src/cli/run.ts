// SPDX-License-Identifier: MIT
/** `seedstrap run`: starts built media. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import process from "node:process";
import { LOG_NAME, type RunEvents, runTarget } from "../job/run.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { note, warn } from "./output.ts";

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function accelOption() {
  return new Option("--accel <how>", "accelerator; auto is KVM where it works, else TCG")
    .choices(["auto", "kvm", "tcg"] as const).default("auto" as const);
}

export function runSubcommand(): CommandUnknownOpts {
  return new Command("run")
    .description("start what was built: media in QEMU, a directory in chroot or bwrap")
    .argument("[target]", "directory that was built", "target")
    .allowExcessArguments(false)
    .addOption(accelOption())
    .addHelpText(
      "after",
      `
The serial console appears here and in TARGET/${LOG_NAME}. Ctrl-C ends the guest.`,
    )
    .action((target, { accel }) =>
      withInterrupt((signal) => runTarget(target, accel, printedRun(), signal))
    );
}

/** Returns handlers for the events of a run, which print the guest to standard output. */
export function printedRun(): RunEvents {
  return {
    onServe: (path, port) => note(`serving ${path} on 127.0.0.1:${port} for the guest`),
    onSerial: (chunk) => process.stdout.write(chunk),
    onWarning: warn,
  };
}
