// SPDX-License-Identifier: MIT
/** `seedstrap mirror`: makes a mirror of the distfiles of every step, as mirror.sh does. */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import process from "node:process";
import { UserError } from "../errors.ts";
import {
  isComplete,
  makeMirror,
  mirrorError,
  type MirrorFinding,
  type MirrorReport,
} from "../job/mirror.ts";
import { checkError, checkMirror, type CheckReport } from "../job/mirror_check.ts";
import { parsePushPlace, pushMirror, type PushReport } from "../job/push.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { parseRate } from "./fetch.ts";
import { fetchPrinter } from "./fetching.ts";
import { printJson } from "./json.ts";
import {
  chosenStore,
  olderStoreOption,
  parseMirrorOption,
  plainHttpOption,
  treeOption,
} from "./options.ts";
import { counted, formatBytes, print, warn } from "./output.ts";
import { display, withProgress } from "./progress.ts";

export function mirrorSubcommand(): CommandUnknownOpts {
  return new Command("mirror")
    .summary("make a mirror of the distfiles of every step")
    .description("make a directory that is a mirror of the distfiles of every step")
    .argument("[dir]", "the mirror; run again to bring it up to date")
    .allowExcessArguments(false)
    .addOption(treeOption())
    .addOption(
      new Option("-m, --mirrors <url...>", "asked for what the distfiles' own URLs do not have")
        .conflicts("check"),
    )
    .option("--store <dir>", "a store that may have files already (default: the user's cache)")
    .addOption(plainHttpOption())
    .addOption(
      new Option(
        "--push <url>",
        "then push it to a registry or a bucket: oci://HOST/REPO[:TAG], s3+https://HOST/BUCKET",
      ).conflicts("check"),
    )
    .addOption(olderStoreOption())
    .option("--state <dir>", "where clones of git repositories are kept (default: in the mirror)")
    .option("-j, --jobs <n>", "number of parallel downloads", "8")
    .option("--limit-rate <rate>", "bytes a second of all together: 500K, 2M")
    .addOption(
      new Option("--prune", "remove what it has put there and no step names any more")
        .conflicts("check"),
    )
    .option("--check", "only ask every URL and repository, and list what upstream should mend")
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      `
It has every file under its name, SHA256SUMS, index.html, and in .seedstrap what is unfinished.
Snapshots of git references are made by git, gzip and xz where their URLs do not have them. A URL
that is dead, or has other bytes now, stops nothing: all of them are listed at the end, with the
line of the step.

Examples:
  seedstrap mirror /srv/mirror --tree live-bootstrap
  seedstrap mirror /srv/mirror --push oci://registry.example/distfiles
  seedstrap mirror --check --json
  seedstrap build --qemu --external-sources -m /srv/mirror`,
    )
    .action((dest, raw) =>
      withInterrupt(async (signal) => {
        const tree = raw.tree ?? process.cwd();
        const events = { onNotice: warn, onFetch: fetchPrinter(display), progress: display };
        if (raw.check) {
          const report = await withProgress(() => checkMirror({ tree, dest }, events, signal));
          if (raw.json) printJson(checkedObject(report));
          else printCheck(report);
          if (report.findings.length + report.missing.length > 0) throw checkError(report);
          return;
        }
        if (dest === undefined) {
          throw new UserError("usage", "Cannot make a mirror without a directory", {
            hint: "Name one: seedstrap mirror DIR; seedstrap mirror --check needs none",
          });
        }
        const place = raw.push === undefined ? undefined : parsePushPlace(raw.push, raw.plainHttp);
        const jobs = parseCount(raw.jobs, "--jobs", 1, 64);
        const request = {
          tree,
          dest,
          state: raw.state,
          store: chosenStore(raw),
          mirrors: parseMirrorOption(raw.mirrors ?? [], raw.plainHttp),
          jobs,
          bytesPerSecond: parseRate(raw.limitRate),
          prunes: raw.prune === true,
        };
        const { report, pushed } = await withProgress(async () => {
          const report = await makeMirror(request, events, signal);
          const pushed = place &&
            await pushMirror(report, place, { jobs, progress: display }, signal);
          return { report, pushed };
        });
        if (raw.json) printJson({ ...jsonOf(report), ...(pushed && { push: pushed }) });
        else {
          printReport(report);
          if (pushed !== undefined) printPush(pushed);
        }
        if (!isComplete(report)) throw mirrorError(report);
      })
    );
}

function jsonOf({ files, ...report }: MirrorReport): object {
  return { ...report, files: files.length, sizeBytes: sizeOfAll({ files }) };
}

function sizeOfAll({ files }: Pick<MirrorReport, "files">): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function printReport(report: MirrorReport): void {
  const { dest, files, added, stale, isPruned, missing } = report;
  printFindings(report.findings);
  const what = `${dest}: ${counted(files.length, "file")}, ${formatBytes(sizeOfAll(report))}`;
  if (added.length > 0) print(`${what}; ${added.length} new`);
  else print(missing.length > 0 ? what : `${what}; nothing was to do`);
  if (stale.length === 0) return;
  const some = counted(stale.length, "file");
  print(
    isPruned
      ? `  ${some} removed that no step names any more`
      : `  ${some} that no step names any more: --prune removes them`,
  );
}

/** Prints what was pushed. */
export function printPush({ url, files, pushed, pushedBytes, manifestSha256 }: PushReport): void {
  const what = pushed === 0
    ? "nothing was to push"
    : `${counted(pushed, "file")}, ${formatBytes(pushedBytes)} pushed`;
  print(`${url}: ${counted(files, "file")}; ${what}`);
  if (manifestSha256 !== undefined) print(`  sha256:${manifestSha256}`);
}

function checkedObject({ dest, files, ...report }: CheckReport): object {
  return { dest: dest ?? null, ...report, files: files.length, sizeBytes: sizeOfAll({ files }) };
}

function printCheck(report: CheckReport): void {
  const { dest, files, missing, urls, repositories, untold, findings } = report;
  printFindings(findings);
  print(
    `${counted(urls, "URL")} and ${counted(repositories, "repository", "repositories")} asked` +
      (findings.length === 0 ? ": nothing to mend" : ""),
  );
  if (untold.length > 0) {
    print(`  ${counted(untold.length, "commit")} of no branch or tag: only a clone tells`);
  }
  if (dest === undefined) return;
  print(`${dest}: ${counted(files.length, "file")}, ${formatBytes(sizeOfAll(report))}`);
  for (const name of missing) print(`  ${name} is missing, or has other bytes`);
}

const TITLES: Readonly<Record<MirrorFinding["kind"], string>> = {
  dead: "Dead URLs:",
  lost: "References that a repository does not have:",
  changed: "Not the bytes that the step wants:",
  conflict: "Names that cannot be in a mirror:",
};

/** Prints what upstream should mend, by kind. */
function printFindings(findings: readonly MirrorFinding[]): void {
  for (const [kind, found] of Map.groupBy(findings, ({ kind }) => kind)) {
    print(TITLES[kind]);
    for (const { where, source, answer, name, isMirrored } of found) {
      print(`  ${where}: ${name}`);
      print(`    ${source}: ${answer}${isMirrored ? "; the mirror has it" : ""}`);
    }
  }
}
