// SPDX-License-Identifier: MIT
/** `seedstrap write`: writes an image to a device. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { checkFit, chooseTarget, type WriteTarget } from "../device/candidates.ts";
import { type DeviceReport, writeToDevice } from "../device/write.ts";
import { imageToWrite } from "../job/write.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { confirmTarget } from "./confirm.ts";
import { describeTarget } from "./devices.ts";
import { printJson } from "./json.ts";
import { formatBytes, note, print } from "./output.ts";
import { withProgress } from "./progress.ts";

export function writeSubcommand(): CommandUnknownOpts {
  return new Command("write")
    .description("write an image to a device, and read it back")
    .argument("<image>", "a boot or payload image, or a disk image with a partition table")
    .argument("<device>", "a whole disk that nothing uses; everything on it is lost")
    .allowExcessArguments(false)
    .option("--yes <serial>", "do not ask: the device's serial, or its name if it has none")
    .option("--file", "the device is a regular file, to be written in place")
    .option("--bmap <file>", "the block map of an image without a record (default: IMAGE.bmap)")
    .option("--no-verify", "do not read it back")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
The first MiB is cleared at the beginning and written last, after the rest was read back and
compared: a device does not boot where this was interrupted. Bytes after the image are not changed.
Without a record beside it, an image is verified by its block map, if there is one.

Examples:
  seedstrap devices
  seedstrap write target/init.img /dev/sdb
  seedstrap write target/payload.img /dev/sdc --yes 4C530001230518112311
  seedstrap write target/init.img /dev/loop3 --yes loop3`,
    )
    .action((path, device, { yes, file, bmap, verify, json }) =>
      withInterrupt(async (signal) => {
        const image = imageToWrite(path, bmap);
        const target = chooseTarget(device, file === true);
        checkFit(target, image.sizeBytes, [path], image.leastBytes);
        if (image.bmap !== undefined) note(`${path} is verified by ${image.bmap}`);
        for (const line of describeTarget(target)) note(line);
        await confirmTarget(target, yes, signal);
        const { report } = await withProgress((progress) =>
          writeToDevice(image, target, verify, progress, signal)
        );
        const { kind, bmap: used } = image;
        const written = { device: target.path, image: path, kind, ...(used && { bmap: used }) };
        if (json) printJson({ ...written, ...report });
        else printReport(report, target);
      })
    );
}

function printReport(report: DeviceReport, target: WriteTarget): void {
  const { sizeBytes, piecesSha256, blocksSha256, isVerified, isDirect, partitions } = report;
  print(`${target.path}: ${formatBytes(sizeBytes)} written`);
  if ((piecesSha256 ?? blocksSha256) !== undefined) print("  every byte is as it was built");
  print(
    !isVerified
      ? "  not read back"
      : isDirect
      ? `  read back from the ${target.kind}, and equal to the last byte`
      : `  read back and equal; the ${target.kind} has no direct reads`,
  );
  if (partitions === "busy") print("  the kernel still has the old partitions: attach it again");
}
