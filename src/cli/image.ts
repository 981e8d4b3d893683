// SPDX-License-Identifier: MIT
/** `seedstrap image ls|cat|extract|verify|digest|diff|bmap|convert`: looks into images and disks. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { once } from "node:events";
import process from "node:process";
import { UserError } from "../errors.ts";
import { type Difference, diffViews } from "../image/diff.ts";
import { extract } from "../write/extract.ts";
import { digestEntries } from "../image/digests.ts";
import { findEntry } from "../image/view.ts";
import type { Progress } from "../progress.ts";
import { type ImageView, plainPath, type ViewEntry } from "../image/types.ts";
import { type DistfileSteps, stepsOf, stepsOfRecord, stepsOfTree } from "../record/steps.ts";
import { printable } from "../text.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { writeOutputDirectory } from "../write/output.ts";
import { bmapSubcommand } from "./image_bmap.ts";
import { convertSubcommand } from "./image_convert.ts";
import { digestSubcommand } from "./image_digest.ts";
import { verifySubcommand } from "./image_verify.ts";
import { asOption, recordOption, withGuestView } from "./image_source.ts";
import { recordFor } from "../record/find.ts";
import { printJson, printJsonList } from "./json.ts";
import {
  counted,
  fileLines,
  formatBytes,
  print,
  printableLines,
  printAll,
  printExact,
  warn,
  writeOut,
} from "./output.ts";

export function imageSubcommand(): CommandUnknownOpts {
  return new Command("image")
    .summary("look into images: ls, cat, extract, verify, digest, diff, bmap, convert")
    .description(
      "look into boot and payload images, those of containers, and disks with ext2, ext3 or ext4",
    )
    .addCommand(lsCommand())
    .addCommand(catCommand())
    .addCommand(extractCommand())
    .addCommand(verifySubcommand())
    .addCommand(digestSubcommand())
    .addCommand(diffCommand())
    .addCommand(bmapSubcommand())
    .addCommand(convertSubcommand())
    .addHelpText(
      "after",
      `
An image is a file or a block device. Its kind is detected, or given by --as.
A boot image from which a guest has installed itself is a disk.`,
    );
}

function lsCommand(): CommandUnknownOpts {
  return new Command("ls")
    .description("list what an image holds")
    .argument("<image>")
    .option("-l, --long", "with mode (of a disk), offset, SHA-256 and source step of each file")
    .option("--json", "for scripts")
    .option("--tree <dir>", "a checkout to take the source steps from")
    .addOption(recordOption())
    .addOption(asOption())
    .action(async (path, { long, json, tree, record, as }) => {
      await withGuestView(path, as, async (view, _, progress) => {
        progress.begin("listing");
        const known = long ? knownSteps(view, tree, record) : new Map<string, readonly string[]>();
        if (!long) {
          if (json) await printJsonList("entries", view.entries());
          else for (const entry of view.entries()) printExact(shortLine(entry));
          return;
        }
        const entries = detailed(view, known, progress);
        if (json) return await printJsonList("entries", entries);
        for await (const entry of entries) longLines(entry).forEach(printExact);
      });
    });
}

/** Returns the entries of an image one by one, each with its details. */
async function* detailed(
  view: ImageView,
  known: DistfileSteps,
  progress: Progress,
): AsyncGenerator<ViewEntry & Details> {
  for await (const [entry, sha256] of digestEntries(view, view.entries(), { progress })) {
    const steps = entry.kind === "command" ? [] : stepsOf(entry.path, view.kind, known);
    yield {
      ...entry,
      ...(sha256 !== undefined && { sha256 }),
      ...(steps.length > 0 && { steps }),
    };
  }
}

interface Details {
  readonly sha256?: string;
  readonly steps?: readonly string[];
}

function knownSteps(
  view: ImageView,
  tree: string | undefined,
  record: string | undefined,
): DistfileSteps {
  if (tree !== undefined) return stepsOfTree(tree);
  try {
    const found = recordFor(view.source.name, view.kind, record);
    return found === undefined ? new Map() : stepsOfRecord(found.record);
  } catch (error) {
    // The list is printed without steps, unless --record asks for them.
    if (record !== undefined || !(error instanceof UserError)) throw error;
    warn(error.message);
    return new Map();
  }
}

function shortLine(entry: ViewEntry): string {
  return `${sizeColumn(entry)}  ${pathColumn(entry)}`;
}

/** Columns of unknown width come last, so that each line can be printed at once. */
function longLines(entry: ViewEntry & Details): string[] {
  const { sha256, steps = [] } = entry;
  const offset = entry.kind === "command" ? entry.offset : entry.dataOffset;
  const facts = [
    ...("mode" in entry ? [formatMode(entry.kind, entry.mode)] : []),
    sizeColumn(entry),
    String(offset ?? "-").padStart(12),
  ];
  const known = steps.map((step) => step.replaceAll(" ", "")).join(",");
  return fileLines(facts, sha256, known, pathColumn(entry));
}

function sizeColumn(entry: ViewEntry): string {
  return (entry.kind === "command" ? "command" : String(entry.size)).padStart(12);
}

function pathColumn(entry: ViewEntry): string {
  const target = "target" in entry ? ` -> ${entry.target}` : "";
  return entry.kind === "command" ? entry.path : `${entry.path}${target}`;
}

const LETTERS: Readonly<Record<string, string>> = {
  file: "-",
  directory: "d",
  symlink: "l",
  device: "c",
  fifo: "p",
  socket: "s",
};

/** Formats a mode as `ls -l` does, with the bits above the permissions as an octal digit. */
function formatMode(kind: string, mode: number): string {
  const permissions = [...(mode % 0o1000).toString(8).padStart(3, "0")].map((digit) =>
    ["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"][Number(digit)]
  );
  return `${LETTERS[kind]}${permissions.join("")}${Math.floor(mode / 0o1000) || " "}`;
}

function catCommand(): CommandUnknownOpts {
  return new Command("cat")
    .description("print a file of an image; on a terminal, control characters are escaped")
    .argument("<image>")
    .argument("<path>", "as image ls prints it")
    .addOption(asOption())
    .action((path, name, { as }) =>
      withGuestView(path, as, async (view) => {
        const entry = findEntry(view, name);
        if (entry.kind !== "file" && !isEmptyFile(view, entry)) {
          const target = "target" in entry ? ` to ${entry.target}` : "";
          const kind = entry.kind === "empty" ? "directory or an empty file" : entry.kind;
          throw new UserError("usage", `Cannot print ${name}: it is a ${kind}${target}`);
        }
        const isShown = process.stdout.isTTY === true;
        const decoder = new TextDecoder();
        const shown = (part: Uint8Array) =>
          printableLines(decoder.decode(part, { stream: true }), "\t");
        for (const part of view.read(entry)) {
          const isWritten = writeOut(process.stdout, isShown ? shown(part) : part.slice());
          if (!isWritten) await once(process.stdout, "drain");
        }
        if (isShown) process.stdout.write(printable(decoder.decode()));
      })
    );
}

/** Reports whether an entry is an empty file: in a boot image only its record tells. */
function isEmptyFile(view: ImageView, entry: ViewEntry): boolean {
  if (entry.kind !== "empty" || view.kind !== "boot") return entry.kind === "empty";
  const files = recordFor(view.source.name, view.kind, undefined)?.image?.files ?? [];
  return files.some(({ path }) => plainPath(path) === plainPath(entry.path));
}

function extractCommand(): CommandUnknownOpts {
  return new Command("extract")
    .description("write files of an image into a new directory")
    .argument("<image>")
    .argument("[path...]", "files and directories, as image ls prints them; default: everything")
    .requiredOption("-o, --output <dir>", "a new or an empty directory")
    .addOption(recordOption())
    .addOption(asOption())
    .addHelpText(
      "after",
      `
Links are created but never followed. Devices are left out, owners are not restored.`,
    )
    .action((path, paths, { output, record, as }) =>
      withGuestView(path, as, async (view, _, progress) => {
        const found = recordFor(path, view.kind, record);
        const emptyFiles = found?.image && new Set(
          found.image.files.filter(({ size }) => size === 0).map((file) => plainPath(file.path)),
        );
        // Files after those that are counted would be missing.
        if (view.kind === "payload" && paths.length === 0) view.verify();
        const extracted = await withInterrupt((signal) =>
          writeOutputDirectory(output, (part) =>
            extract(view, part, {
              paths,
              signal,
              ...(emptyFiles && { emptyFiles }),
              progress,
            }))
        );
        progress.end();
        for (const { path, why } of extracted.skipped) {
          warn(`${path} is left out: ${why}`);
        }
        print(
          `${output}: ${counted(extracted.files, "file")}, ${formatBytes(extracted.bytes)}; ` +
            `${counted(extracted.directories, "directory", "directories")}, ` +
            counted(extracted.symlinks, "symbolic link"),
        );
      })
    );
}

function diffCommand(): CommandUnknownOpts {
  return new Command("diff")
    .description("compare what two images hold; exit code 11 where they differ")
    .argument("<a>")
    .argument("<b>")
    .option("--json", "for scripts")
    .addOption(asOption())
    .action((a, b, { json, as }) =>
      withGuestView(a, as, (one) =>
        withGuestView(b, as, async (other, _, progress) => {
          progress.begin("comparing");
          const differences = await diffViews(one, other, { progress });
          progress.end();
          if (json) printJson({ equal: differences.length === 0, differences });
          else await printAll(differenceLines(differences));
          if (differences.length === 0) return;
          const count = (kind: Difference["kind"]) =>
            differences.filter((difference) => difference.kind === kind).length;
          throw new UserError(
            "different",
            `${a} and ${b} differ: ${count("added")} added, ${count("removed")} removed, ${
              count("changed")
            } changed, ${count("moved")} moved`,
          );
        }))
    );
}

function* differenceLines(differences: readonly Difference[]): Generator<string> {
  for (const difference of differences) yield* imageDifferenceLines(difference);
}

function imageDifferenceLines(difference: Difference): string[] {
  const path = difference.path;
  switch (difference.kind) {
    case "added":
    case "removed":
      return [`${difference.kind.padEnd(7)}  ${path}  (${difference.size} bytes)`];
    case "moved":
      return [`moved    ${difference.from} -> ${path}`];
    case "changed": {
      const sizes = difference.aspects.includes("size")
        ? ` (${difference.sizes[0]} -> ${difference.sizes[1]} bytes)`
        : "";
      return [
        `changed  ${path}: ${difference.aspects.join(", ")}${sizes}`,
        ...(difference.text ?? []).map((line) => `    ${line}`),
      ];
    }
  }
}
