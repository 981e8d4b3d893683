// SPDX-License-Identifier: MIT
/** `seedstrap bundle create|verify|ls|unpack`: everything for an offline site in one tar. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { basename } from "node:path";
import process from "node:process";
import { openBundle } from "../image/bundle.ts";
import { type BundlePart, findParts, openParts } from "../source/parts.ts";
import { watched } from "../source/watched.ts";
import { type BundleFault, type BundleReport, verifyBundle } from "../image/bundle_verify.ts";
import { UserError } from "../errors.ts";
import { MIB, SECTOR_BYTES } from "../format/segment.ts";
import { BINARY_PATH, type BundleRequest, createBundle, unpackBundle } from "../job/bundle.ts";
import { parsePushPlace, pushBundle } from "../job/push.ts";
import { printPush } from "./mirror.ts";
import { shellQuote } from "../launch/process.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount, parseSizeMib } from "../plan/options.ts";
import { printedEvents } from "./build.ts";
import {
  chosenStore,
  extraBuildsOption,
  mirrorsOption,
  offlineOption,
  olderStoreOption,
  parseMirrorOption,
  plainHttpOption,
  storeOption,
  treeOption,
} from "./options.ts";
import { printJson, printJsonList } from "./json.ts";
import { counted, fileLines, formatBytes, formatCount, print, takeStdout } from "./output.ts";
import { withProgress } from "./progress.ts";

export function bundleSubcommand(): CommandUnknownOpts {
  return new Command("bundle")
    .summary("all for an offline site in one tar: create, verify, ls, unpack")
    .description("everything for an offline site in one tar: checkout, distfiles, images")
    .addCommand(createCommand())
    .addCommand(verifyCommand())
    .addCommand(lsCommand())
    .addCommand(unpackCommand());
}

function createCommand(): CommandUnknownOpts {
  const command = new Command("create")
    .description("make a bundle; distfiles that are missing are fetched first")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .requiredOption(
      "-o, --output <file>",
      "the bundle, such as live-bootstrap.tar; - is standard output",
    )
    .addOption(mirrorsOption())
    .addOption(plainHttpOption())
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .option("-j, --jobs <n>", "number of parallel downloads", "8")
    .addOption(offlineOption())
    .addOption(new Option("--all", "every distfile (the default)").conflicts("preNetwork"))
    .addOption(extraBuildsOption())
    .option("--pre-network", "only distfiles that are needed before the network")
    .addOption(
      new Option("--air-gapped", "builds from it are --air-gapped, unless told otherwise")
        .conflicts("preNetwork"),
    )
    .option("--images <target>", "include the images of a built target")
    .option("--binary", "include this program")
    .option("--split <size>", "split it into files smaller than this: 4G for FAT")
    .addOption(
      new Option("--push <url>", "also push it: oci://HOST/REPO[:TAG], s3+https://HOST/BUCKET")
        .conflicts("split"),
    )
    .option("--sha256", "tell the SHA-256 of each file of it, for other tools")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap bundle create -m https://mirror.example -o live-bootstrap.tar
  seedstrap bundle create --images target --binary --split 4G -o /media/stick/lb.tar
  cat /media/stick/lb.tar.* | tar x -C DIR
  seedstrap bundle create -o - | ssh lab 'cat >lb.tar'

The reader of a pipe cannot see that what it got is incomplete: use set -o pipefail.`,
    );
  return command.action((raw) =>
    withInterrupt(async (signal) => {
      const isPiped = raw.output === "-";
      const conflict = isPiped &&
        (["split", "sha256", "json", "push"] as const).find((name) => raw[name]);
      if (conflict) {
        throw new UserError("usage", `Cannot use --${conflict} with --output -`, {
          hint: "Standard output has the bundle: leave it out, or name a file with --output",
        });
      }
      const place = raw.push === undefined ? undefined : parsePushPlace(raw.push, raw.plainHttp);
      const jobs = parseCount(raw.jobs, "--jobs", 1, 64);
      const request: BundleRequest = {
        tree: raw.tree ?? process.cwd(),
        store: chosenStore(raw),
        mirrors: parseMirrorOption(raw.mirrors ?? [], raw.plainHttp),
        jobs,
        isOffline: raw.offline === true,
        extraBuilds: raw.extraBuilds,
        preNetwork: raw.preNetwork === true,
        airGapped: raw.airGapped === true,
        images: raw.images,
        wantsSha256: raw.sha256 === true || place !== undefined,
        hasBinary: raw.binary === true,
        output: isPiped ? takeStdout("--output -", signal) : raw.output,
        // A file of 4 GiB is one byte too long for FAT.
        partBytes: raw.split === undefined
          ? undefined
          : parseSizeMib(raw.split, "--split", 1) * MIB - SECTOR_BYTES,
      };
      const { index, sizeBytes, parts, pushed } = await withProgress(async (progress) => {
        const made = await createBundle(request, printedEvents(), signal);
        const pushed = place && await pushBundle(made.parts, place, { jobs, progress }, signal);
        return { ...made, pushed };
      });
      const files = index.members.filter(({ kind }) => kind === "file").length;
      const distfiles = index.distfiles.filter(({ isBundled }) => isBundled).length;
      if (raw.json) {
        printJson({
          ...{ sizeBytes, files, distfiles, of: index.distfiles.length, parts },
          ...(pushed && { push: pushed }),
        });
        return;
      }
      if (isPiped) {
        print("standard output");
        print(`  ${formatBytes(sizeBytes)}`);
      }
      for (const { path, sizeBytes, sha256 } of parts) {
        print(path);
        print(`  ${formatBytes(sizeBytes)}` + (sha256 === undefined ? "" : `, SHA-256 ${sha256}`));
      }
      print(
        `${counted(files, "file")}, ${distfiles} of ${counted(index.distfiles.length, "distfile")}`,
      );
      if (pushed !== undefined) printPush(pushed);
      if (raw.binary && !isPiped) {
        const tar = raw.split === undefined
          ? shellQuote(["tar", "xf", basename(raw.output), BINARY_PATH])
          : `cat ${shellQuote([basename(raw.output)])}.* | tar x ${BINARY_PATH}`;
        print(`seedstrap is in it: ${tar}`);
      }
    })
  );
}

function verifyCommand(): CommandUnknownOpts {
  return new Command("verify")
    .description("check a bundle to its last byte, and name everything that is damaged")
    .argument("<bundle>", "the bundle, or the first of its parts")
    .option("--json", "for scripts")
    .action((path, { json }) => checkBundle(path, json === true));
}

/**
 * Verifies a bundle and prints the report.
 *
 * @throws {UserError} "verify" where it is damaged.
 */
export async function checkBundle(path: string, json: boolean): Promise<void> {
  await withInterrupt(async (signal) => {
    const report = await verifyFile(path, signal);
    if (json) printJson(report);
    else reportLines(report).forEach((line) => print(line));
    if (report.faults.length === 0) return;
    const damaged = [...new Set(report.faults.flatMap(({ parts = [] }) => parts))].sort();
    const [first = path, ...others] = damaged;
    throw new UserError("verify", `Cannot trust ${path}: ${summary(report)}`, {
      where: [first, ...others].join(", "),
      hint: damaged.length === 0
        ? "Copy the bundle again, or make it again"
        : `Copy ${
          others.length === 0 ? "this part" : "these parts"
        } again, or make the bundle again`,
    });
  });
}

/** A fault, and the parts of a split bundle that it is in, by path. */
interface PlacedFault extends BundleFault {
  readonly parts?: readonly string[];
}

interface PlacedReport extends BundleReport {
  readonly faults: readonly PlacedFault[];
}

async function verifyFile(path: string, signal: AbortSignal): Promise<PlacedReport> {
  const parts = findParts(path);
  if (parts === undefined) openBundle(path);
  const source = openParts(parts!);
  try {
    const report = await withProgress((progress) => {
      progress.begin("verifying", source.sizeBytes);
      return verifyBundle(watched(source, progress), { progress, signal });
    });
    if (parts!.length === 1) return report;
    return { ...report, faults: report.faults.map((fault) => placed(fault, parts!)) };
  } finally {
    source.close();
  }
}

/** Names the parts of a fault; what a short part lacks is of that part. */
function placed(fault: BundleFault, parts: readonly BundlePart[]): PlacedFault {
  const end = fault.offset + Math.max(1, fault.size);
  const within = parts.filter(({ startBytes }, index) => {
    const nextBytes = parts[index + 1]?.startBytes ?? Infinity;
    return fault.offset < nextBytes && startBytes < end;
  });
  return { ...fault, parts: within.map(({ path }) => path) };
}

function reportLines({ files, sizeBytes, faults }: PlacedReport): string[] {
  if (faults.length === 0) {
    return [
      `${counted(files, "file")}, ${formatCount(sizeBytes)} bytes: ` +
      "every byte is as the index says",
    ];
  }
  const cut = faults.find((fault) => isCut(fault, sizeBytes));
  const isMissing = ({ kind }: PlacedFault) => kind === "missing";
  const missing = faults.filter(isMissing);
  const others = faults.filter((fault) => fault !== cut && !isMissing(fault));
  const shown = [...others, ...missing.slice(0, MOST_MISSING)];
  return [
    ...(cut === undefined ? [] : [cut.message]),
    ...shown.map(faultLine),
    ...(missing.length <= MOST_MISSING
      ? []
      : [`missing ${formatCount(missing.length)} members in all; --json lists them`]),
  ];
}

/** How many missing members are listed: a bundle that is cut lacks hundreds. */
const MOST_MISSING = 20;

/** Reports whether a fault is that the bundle ends before its end. */
function isCut({ kind, offset, size }: BundleFault, sizeBytes: number): boolean {
  return kind === "end" && offset + size > sizeBytes;
}

function faultLine({ member, kind, offset, size, message, parts }: PlacedFault): string {
  return `${kind.padEnd(8)}${member === undefined ? "(no member)" : member}: ${
    counted(size, "byte")
  } at ${offset}${
    parts === undefined ? "" : `, in ${parts.map((path) => basename(path)).join(", ")}`
  }: ${message}`;
}

function summary({ faults, sizeBytes }: BundleReport): string {
  const cut = faults.find((fault) => isCut(fault, sizeBytes));
  if (cut !== undefined) return cut.message;
  const members = new Set(faults.flatMap(({ member }) => member === undefined ? [] : [member]));
  const [first] = members;
  if (first === undefined) return faults[0]!.message;
  const others = members.size - 1;
  return `${first}${others === 0 ? " is" : ` and ${others} more are`} damaged`;
}

function lsCommand(): CommandUnknownOpts {
  return new Command("ls")
    .description("list what a bundle holds, as its index says")
    .argument("<bundle>", "the bundle, or the first of its parts")
    .option("-l, --long", "with mode, offset and SHA-256 of each file")
    .option("--json", "for scripts")
    .action(async (path, { long, json }) => {
      const { members } = openBundle(path).layout;
      if (json) {
        const entries = members.map(({ member, dataOffset }) => ({
          ...member,
          ...(member.kind === "file" && { dataOffset }),
        }));
        return await printJsonList("entries", entries);
      }
      for (const { member, size, dataOffset } of members) {
        const isFile = member.kind === "file";
        const name = member.path + (isFile ? "" : "/");
        const sizeColumn = String(size).padStart(12);
        if (!long) {
          print(`${sizeColumn}  ${name}`);
          continue;
        }
        const mode = !isFile || member.isExecutable ? "755" : "644";
        const facts = [mode, sizeColumn, String(dataOffset).padStart(12)];
        for (const line of fileLines(facts, isFile ? member.sha256 : undefined, undefined, name)) {
          print(line);
        }
      }
    });
}

function unpackCommand(): CommandUnknownOpts {
  return new Command("unpack")
    .description("unpack a bundle to a new directory: a checkout with its distfiles")
    .argument("<bundle>", "the bundle, or the first of its parts")
    .requiredOption("-o, --output <dir>", "a new or an empty directory")
    .action((path, { output }) =>
      withInterrupt(async (signal) => {
        const files = await withProgress(() =>
          unpackBundle(openBundle(path), output, printedEvents(), signal)
        );
        print(`${output}: ${counted(files, "file")}`);
      })
    );
}
