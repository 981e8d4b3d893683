// SPDX-License-Identifier: MIT
/** `seedstrap image convert`: disks for other virtual machines. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { convertImage, DISK_FORMATS } from "../job/convert.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { printJson } from "./json.ts";
import { formatBytes, print, warn } from "./output.ts";
import { withProgress } from "./progress.ts";

export function convertSubcommand(): CommandUnknownOpts {
  return new Command("convert")
    .description("make a disk for VirtualBox, VMware or another QEMU of a raw image")
    .argument("<image>")
    .addOption(
      new Option("--to <format>", "what it becomes").choices(DISK_FORMATS).makeOptionMandatory(),
    )
    .requiredOption("-o, --output <file>", "the file, which must not exist")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
qemu-img makes qcow2, vdi and vmdk, and compares them with the image. vmdk-flat needs no program: it is
a small text that makes the image itself a disk of VMware and VirtualBox, which then write to it.`,
    )
    .action((image, { to, output, json }) =>
      withInterrupt(async (signal) => {
        const made = await withProgress((progress) => {
          progress.begin(`making ${output}`);
          return convertImage(image, to, output, signal);
        });
        if (json) return printJson(made);
        const { fileBytes, sizeBytes, isSmall } = made;
        if (isSmall) {
          warn(
            "a disk of this size has no room for the system that is installed to it: build with " +
              "--qemu, which makes one of --target-size",
          );
        }
        print(`${output}: ${to}, ${formatBytes(fileBytes)}, a disk of ${formatBytes(sizeBytes)}`);
      })
    );
}
