// SPDX-License-Identifier: MIT
/** `seedstrap fetch`: downloads distfiles, and builds nothing. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { resolve } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { fetchDistfiles, type FetchJob, type Wish } from "../job/fetch.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { fetchPrinter } from "./fetching.ts";
import { beginJsonLines, printJson, printJsonLine } from "./json.ts";
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
import { counted, formatBytes, note, print } from "./output.ts";
import { display, withProgress } from "./progress.ts";

/** In --json, a file that is being received has a line so often. */
const BYTES_EVERY_MS = 1000;

export function fetchSubcommand(): CommandUnknownOpts {
  return new Command("fetch")
    .summary("download distfiles, and build nothing")
    .description("download the distfiles of a checkout, verified, and build nothing")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .addOption(
      new Option("--all", "all that the manifest needs (the default)")
        .conflicts(["preNetwork", "step"]),
    )
    .addOption(
      extraBuildsOption(),
    )
    .addOption(
      new Option("--pre-network", "those that are needed before the machine has a network")
        .conflicts("step"),
    )
    .option("--step <name...>", "those of a step, whether or not the manifest builds it")
    .option("--to <dir>", "also put them there by their names, such as distfiles of the checkout")
    .option("--force", "with --to: replace files of these names that have other bytes")
    .addOption(mirrorsOption())
    .addOption(plainHttpOption())
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .addOption(offlineOption())
    .option("-j, --jobs <n>", "number of parallel downloads", "8")
    .option("--limit-rate <rate>", "bytes a second of all together: 500K, 2M")
    .option("--json", "for scripts: a line for each event, and the result as the last one")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap fetch --tree live-bootstrap -m https://mirror.example
  seedstrap fetch --pre-network --to distfiles
  seedstrap fetch --step bash-5.2.15 --offline

Every byte is verified before a file has its name. What cannot be had stops nothing else: one report
at the end names each file, each URL, and what that answered; the exit code is 4 then, or 5 where
every source has other bytes. Run again, it goes on where it has stopped. --offline only verifies what
is here. A file that exists only in a git repository is made by seedstrap mirror.`,
    )
    .action((raw) =>
      withInterrupt(async (signal) => {
        const { json = false } = raw;
        const job: FetchJob = {
          tree: raw.tree ?? process.cwd(),
          wish: wishOf(raw),
          extraBuilds: raw.extraBuilds,
          store: chosenStore(raw),
          mirrors: parseMirrorOption(raw.mirrors ?? [], raw.plainHttp),
          jobs: parseCount(raw.jobs, "--jobs", 1, 64),
          isOffline: raw.offline === true,
          bytesPerSecond: parseRate(raw.limitRate),
          to: raw.to,
          replaces: raw.force === true,
        };
        if (json) beginJsonLines();
        const { files, placed, failure } = await withProgress((progress) =>
          fetchDistfiles(job, {
            onNotice: note,
            onFetch: json ? jsonPrinter() : fetchPrinter(display, { namesFiles: true }),
            progress,
          }, signal)
        );
        const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
        const to = job.to === undefined ? null : resolve(job.to);
        if (json) printJson({ store: resolve(job.store), to, placed, sizeBytes, files });
        else {
          print(
            `${counted(files.length, "distfile")}, ${formatBytes(sizeBytes)}: here, and verified` +
              (to === null ? "" : `; in ${to}, ${counted(placed, "file")} new`),
          );
        }
        if (failure !== undefined) throw failure;
      })
    );
}

function wishOf(
  { preNetwork, step }: {
    readonly preNetwork?: true | undefined;
    readonly step?: readonly string[] | undefined;
  },
): Wish {
  if (step !== undefined) return { kind: "steps", steps: step };
  return { kind: preNetwork === true ? "pre-network" : "all" };
}

/**
 * Parses a rate, to bytes a second.
 *
 * @throws {UserError} "usage"
 */
export function parseRate(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit = ""] = /^(\d{1,9})([kKmMgG]?)$/.exec(text) ?? [];
  const rate = Number(number) * 1024 ** " kmg".indexOf(unit.toLowerCase() || " ");
  if (rate >= 1024) return rate;
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --limit-rate`, {
    hint: "It takes bytes a second, at least 1K: 500K, 2M",
  });
}

/** Prints events as lines of JSON. */
function jsonPrinter(): (event: FetchEvent) => void {
  const told = new Map<string, number>();
  return (event) => {
    if (event.kind === "bytes") {
      const now = performance.now();
      if (now - (told.get(event.name) ?? -Infinity) < BYTES_EVERY_MS) return;
      told.set(event.name, now);
    }
    printJsonLine({ time: new Date().toISOString(), ...event });
  };
}
