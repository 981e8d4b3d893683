// SPDX-License-Identifier: MIT
/** `seedstrap image verify`: checks an image. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import type { DiskReport, ImageReport } from "../image/types.ts";
import { checkImage, hasOwnIndex, type VerifiedImage } from "../job/verify.ts";
import { asOption, recordOption, withView } from "./image_source.ts";
import { checkBundle } from "./bundle.ts";
import { digestText } from "./digest.ts";
import { printJson } from "./json.ts";
import { counted, formatCount, print, warn } from "./output.ts";

export function verifySubcommand(): CommandUnknownOpts {
  return new Command("verify")
    .description("check the structure of an image, and its contents by the record of its build")
    .argument("<image>")
    .option("--json", "for scripts")
    .option("--tree <dir>", "also compare with a checkout")
    .addOption(recordOption())
    .addOption(asOption())
    .addHelpText(
      "after",
      `
With a record, which lies beside the image in its target, everything is checked to the last byte. A
copy elsewhere has none: name it with --record, or only the structure is checked, with a warning.
A bundle has an index of its own.`,
    )
    .action((path, { json, tree, record, as }) =>
      withView(path, as, async (view, source, progress) => {
        if (view.kind === "bundle") {
          if (record !== undefined || tree !== undefined) throw hasOwnIndex(path);
          return await checkBundle(path, json === true);
        }
        const checked = await checkImage(view, source, { recordPath: record, tree, progress });
        progress.end();
        if (!hasCheckedContents(checked)) {
          warn("contents are not checked: no record beside the image; name one with --record");
        }
        if (!json) return reportLines(checked).forEach((line) => print(line));
        printJson({
          ...checked.report,
          checkedAgainstRecord: checked.record !== undefined,
          ...(checked.tree && { tree: checked.tree }),
        });
      })
    );
}

function hasCheckedContents({ report, record, tree }: VerifiedImage): boolean {
  const hasChecksum = report.kind !== "disk" && report.hasChecksum === true;
  return record !== undefined || tree !== undefined || hasChecksum;
}

/** Verifies an image and returns the report as lines. */
export async function verifyLines(path: string): Promise<string[]> {
  let lines: string[] = [];
  await withView(path, undefined, async (view, source, progress) => {
    lines = reportLines(await checkImage(view, source, { progress }));
  });
  return lines;
}

function reportLines({ report, record, tree }: VerifiedImage): string[] {
  return [
    ...structureLines(report),
    record === undefined
      ? "the structure is intact"
      : `the structure is intact; every file and the image are as built: ${digestText(record)}`,
    ...(tree === undefined ? [] : [
      `as in the checkout: ${formatCount(tree.same)} files; not compared: ${
        [
          ...tree.generated,
          ...(tree.others > 0 ? [`${formatCount(tree.others)} files that it does not have`] : []),
        ].join(", ") || "none"
      }`,
    ]),
  ];
}

function structureLines(report: ImageReport | DiskReport): string[] {
  const files = `${counted(report.files, "file")}, ${formatCount(report.fileBytes)} bytes`;
  if (report.kind === "disk") {
    const { fileSystem, partition, startOffset } = report;
    const place = partition === undefined ? "" : ` in partition ${partition}`;
    return [
      `${fileSystem}${place}, from ${startOffset} to ${report.endOffset}: ${files}; ${
        counted(report.directories, "directory", "directories")
      }, ${counted(report.symlinks, "symbolic link")}, ${counted(report.others, "other")}`,
    ];
  }
  if (report.kind === "container") {
    return [
      `container: ${files}; ${
        counted(report.empty, "directory or link", "directories or links")
      }; the layer has the SHA-256 that its manifest names`,
    ];
  }
  const kind = report.layout ? `payload, layout ${report.layout}` : "boot image";
  return [
    `${kind}: ${files}; ${
      counted(report.empty, "directory or empty file", "directories or empty files")
    }; ${counted(report.commands, "command")}`,
    ...(report.payloadOffset === undefined
      ? []
      : [`the payload on it, from ${report.payloadOffset} on, is among them`]),
    `the last entry ends at ${report.endOffset}; zeros up to ${report.sizeBytes}`,
  ];
}
