// SPDX-License-Identifier: MIT
/** `seedstrap demo`: plans, builds and boots the embedded miniature tree. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { demoOptions, unpackDemo } from "../demo/demo.ts";
import { serveDirectory } from "../fetch/serve.ts";
import { buildMedia, planBuild } from "../job/build.ts";
import type { PreflightReport } from "../preflight/report.ts";
import { checkVerdict, runPreflight } from "../preflight/run.ts";
import type { TargetRecord } from "../record/types.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { findProgram, installHint } from "../launch/process.ts";
import { writing } from "../refused.ts";
import { makeScratch } from "../runtime/scratch.ts";
import { writeOutputDirectory } from "../write/output.ts";
import { printedEvents, printSummary } from "./build.ts";
import { verifyLines } from "./image_verify.ts";
import { guestWriter, paint, print, warn, widthOf } from "./output.ts";
import { planAsText } from "./plan.ts";
import { printReport } from "./preflight.ts";
import { withProgress } from "./progress.ts";

export function demoSubcommand(): CommandUnknownOpts {
  return new Command("demo")
    .summary("plan, build and boot a miniature tree: a first try")
    .description("plan, build and boot a miniature tree that is embedded in this program")
    .allowExcessArguments(false)
    .option("--keep <dir>", "keep the tree, its mirror and the media in a new directory")
    .addHelpText(
      "after",
      `
It plans, fetches the distfiles from a mirror over HTTP on 127.0.0.1, writes the boot and the
payload image, verifies both, and boots them in QEMU, where a small program checks the machine, the
memory and the disks. Without --keep everything is removed at the end.`,
    )
    .action(({ keep }) => withInterrupt((signal) => runDemo(keep, signal)));
}

async function runDemo(keep: string | undefined, signal: AbortSignal): Promise<void> {
  if (keep === undefined) {
    const prefix = join(tmpdir(), "seedstrap-demo-");
    const dir = writing(tmpdir(), () => makeScratch(prefix), "TMPDIR");
    try {
      judge(await demoIn(dir, dir, signal), dir);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
    return;
  }
  const place = resolve(keep);
  writing(place, () => mkdirSync(dirname(place), { recursive: true }));
  const report = await writeOutputDirectory(place, (dir) => demoIn(dir, place, signal));
  print();
  print(`Kept in ${place}`);
  print(
    "It is no bootstrap to run: what is built of its tree boots the preflight program, and no more",
  );
  judge(report, place);
}

function judge(report: PreflightReport | undefined, place: string): void {
  if (report !== undefined) checkVerdict(report, join(place, "target/serial.log"));
}

/**
 * Runs the demo in a directory.
 *
 * @param place The path that the directory gets at the end.
 * @returns What the machine reported; undefined where none was booted.
 */
async function demoIn(
  dir: string,
  place: string,
  signal: AbortSignal,
): Promise<PreflightReport | undefined> {
  const { tree, mirror } = writing(dir, () => unpackDemo(dir));
  const server = await serveDirectory(mirror);
  try {
    const url = server.url.replace(/\/$/, "");
    const options = demoOptions([{ kind: "http", url }]);
    const request = { tree, options, store: join(dir, "distfiles") };
    const target = join(dir, "target");
    heading("Plan, before anything is downloaded");
    const { plan } = await planBuild(request);
    const view = { all: true, columns: widthOf(process.stdout) };
    for (const line of planAsText(plan, join(place, "target"), view)) print(line);
    heading(`Fetch from ${url}, and write`);
    const build = { ...request, target, force: false, jobs: 4 };
    const record = await withProgress(() => buildMedia(build, printedEvents(), signal));
    printSummary(record, join(place, "target"));
    for (const { name } of record.images) {
      heading(`Verify ${name}`);
      for (const line of await verifyLines(join(target, name))) print(line);
    }
    return await boot(record, target, signal);
  } finally {
    await server.close();
  }
}

/** Boots the images. The preflight program runs in place of builder-hex0, and checks both disks. */
async function boot(
  record: TargetRecord,
  target: string,
  signal: AbortSignal,
): Promise<PreflightReport | undefined> {
  const { qemuCommand, qemuRamMib } = record.options;
  if (await findProgram(qemuCommand) === undefined) {
    heading("Boot: skipped");
    print(`${qemuCommand} is not installed. ${installHint("qemu-system-x86", "qemu")}`);
    return undefined;
  }
  heading(`Boot in ${qemuCommand}`);
  const report = await runPreflight({
    machine: "pc",
    ramMib: qemuRamMib,
    drives: record.images.map(({ name }) => join(target, name)),
    command: qemuCommand,
    // The guest needs seconds. KVM may take longer to find out that it cannot run it.
    accel: "tcg",
    logPath: join(target, "serial.log"),
    signal,
    onSerial: guestWriter(process.stderr),
    onNotice: warn,
  });
  heading("What it found");
  printReport(report, false);
  return report;
}

function heading(text: string): void {
  print();
  print(paint(["bold", "cyan"], `== ${text}`));
}
