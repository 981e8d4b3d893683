// SPDX-License-Identifier: MIT
/** `seedstrap image ls|cat|verify`: looks into boot and payload images. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { once } from "node:events";
import { basename, dirname } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { bytesOf } from "../format/reader.ts";
import { type FileSource, openImage } from "../image/file_source.ts";
import { digestOf, findEntry, type ImageReport, readImage, verifyImage } from "../image/image.ts";
import { findRecordedImage, type RecordedImage } from "../job/record.ts";
import { formatCount, print, printable, printJson } from "./output.ts";

export function imageSubcommand(): CommandUnknownOpts {
  return new Command("image")
    .description("look into boot and payload images")
    .addCommand(lsCommand())
    .addCommand(catCommand())
    .addCommand(verifyCommand());
}

function lsCommand(): CommandUnknownOpts {
  return new Command("ls")
    .description("list what an image holds")
    .argument("<image>")
    .option("-l, --long", "with offset and SHA-256 of each file")
    .option("--json", "for scripts: one object a line")
    .action((path, { long, json }) =>
      withImage(path, (source) => {
        for (const entry of readImage(source)) {
          const sha256 = long && entry.kind === "file"
            ? digestOf(source, entry.dataOffset, entry.size)
            : undefined;
          if (json) printJson({ ...entry, ...(sha256 && { sha256 }) }, 0);
          else if (entry.kind === "command") print(`${"command".padStart(12)}  ${entry.path}`);
          else {
            const columns = [
              String(entry.size).padStart(12),
              ...(long ? [String(entry.dataOffset).padStart(12), sha256 ?? "-".repeat(64)] : []),
              printable(entry.path),
            ];
            print(columns.join("  "));
          }
        }
      })
    );
}

function catCommand(): CommandUnknownOpts {
  return new Command("cat")
    .description("print a file of an image")
    .argument("<image>")
    .argument("<path>", "as image ls prints it")
    .action((path, name) =>
      withImage(path, async (source) => {
        const { dataOffset, size } = findEntry(source, name);
        for (const part of bytesOf(source, dataOffset, size)) {
          if (!process.stdout.write(part.slice())) await once(process.stdout, "drain");
        }
      })
    );
}

function verifyCommand(): CommandUnknownOpts {
  return new Command("verify")
    .description("check an image to its last byte, and against the seedstrap.json beside it")
    .argument("<image>")
    .option("--json", "for scripts")
    .action((path, { json }) =>
      withImage(path, (source) => {
        const checked = checkImage(source);
        if (!json) reportLines(checked).forEach((line) => print(line));
        else printJson({ ...checked.report, checkedAgainstRecord: checked.record !== undefined });
      })
    );
}

/** Verifies an image and says what it is. */
export function verifyLines(path: string): string[] {
  const source = openImage(path);
  try {
    return reportLines(checkImage(source));
  } finally {
    source.close();
  }
}

interface CheckedImage {
  readonly report: ImageReport;
  readonly record: RecordedImage | undefined;
}

function checkImage(source: FileSource): CheckedImage {
  const report = verifyImage(source);
  const record = findRecordedImage(dirname(source.name), basename(source.name));
  if (record !== undefined) compare(source, record);
  return { report, record };
}

function reportLines({ report, record }: CheckedImage): string[] {
  const kind = report.layout ? `payload, layout ${report.layout}` : "boot image";
  return [
    `${kind}: ${formatCount(report.files)} files, ${
      formatCount(report.fileBytes)
    } bytes; ${report.empty} directories or empty files; ${report.commands} commands`,
    `the last entry ends at ${report.endOffset}; zeros up to ${report.sizeBytes}`,
    record === undefined
      ? "structure is whole; no seedstrap.json beside it to compare with"
      : `structure is whole; SHA-256 of every file and of the image as built: ${record.sha256}`,
  ];
}

/** @throws {UserError} "verify" for what is not as it was built. */
function compare(source: FileSource, record: RecordedImage): void {
  const recorded = new Map(record.files.map((file) => [file.path, file]));
  for (const entry of readImage(source)) {
    if (entry.kind !== "file") continue;
    const file = recorded.get(entry.path);
    recorded.delete(entry.path);
    const got = digestOf(source, entry.dataOffset, entry.size);
    if (file?.sha256 === got) continue;
    throw new UserError(
      "verify",
      file === undefined
        ? `Cannot trust ${source.name}: ${printable(entry.path)} was not put into it`
        : `Cannot trust ${source.name}: SHA-256 of ${
          printable(entry.path)
        } is ${got}, built was ${file.sha256}`,
      { where: `${source.name}, offset ${entry.dataOffset}`, hint: "Build the target again" },
    );
  }
  const missing = [...recorded.values()].find(({ size }) => size > 0);
  const got = missing === undefined ? digestOf(source, 0, record.dataBytes) : undefined;
  if (got === record.sha256 && source.size === record.sizeBytes) return;
  throw new UserError(
    "verify",
    missing !== undefined
      ? `Cannot trust ${source.name}: ${printable(missing.path)} is missing`
      : source.size !== record.sizeBytes
      ? `Cannot trust ${source.name}: it has ${source.size} bytes, built were ${record.sizeBytes}`
      : `Cannot trust ${source.name}: SHA-256 is ${got}, built was ${record.sha256}`,
    {
      where: source.name,
      hint: "A guest that was started from it changes it too; build the target again",
    },
  );
}

async function withImage(
  path: string,
  use: (source: FileSource) => void | Promise<void>,
): Promise<void> {
  const source = openImage(path);
  try {
    await use(source);
  } finally {
    source.close();
  }
}
