// SPDX-License-Identifier: MIT
/** `seedstrap build`, and the default command, which builds and runs. */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { join, resolve } from "node:path";
import { chooseTarget, refusal } from "../device/candidates.ts";
import type { FetchEvent } from "../fetch/types.ts";
import { type BuildEvents, buildMedia, type BuildRequest } from "../job/build.ts";
import type { TargetRecord } from "../job/record.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { confirmationOf, confirmTarget } from "./confirm.ts";
import { describeTarget } from "./devices.ts";
import { parsePlanRequest, planCommandBase, type RawOptions } from "./options.ts";
import { formatBytes, note, paint, print, printable, printJson } from "./output.ts";
import { Progress } from "./progress.ts";
import { accelOption, runTarget } from "./run.ts";

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
function buildCommandBase(name: string) {
  return planCommandBase(name)
    .option("-t, --target <dir>", "where the media go", "target")
    .option("--force", "go on although a limit is broken")
    .option("-j, --jobs <n>", "downloads at once", "4");
}

export function buildSubcommand(): CommandUnknownOpts {
  return buildCommandBase("build")
    .description("build the media, and start nothing")
    .option("--json", "print the record of the target instead of a summary")
    .option("--boot-device <device>", "with --bare-metal: write the boot image there, not a file")
    .option("--payload-device <device>", "likewise the payload image")
    .option("--yes <serial...>", "do not ask about the devices, see seedstrap write")
    .option("--no-verify", "do not read the devices back")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap build --qemu --external-sources -m file:///srv/distfiles --tree live-bootstrap
  seedstrap build --bare-metal -m https://mirror.example -t /srv/media`,
    )
    .action((raw) =>
      withInterrupt(async (signal) => {
        const request = buildRequest(raw);
        const paths = await confirmedDevices(raw, signal);
        const record = await buildMedia(
          paths.size === 0 ? request : { ...request, devices: { paths, isVerified: raw.verify } },
          printedEvents(),
          signal,
        );
        if (raw.json) printJson(record);
        else printSummary(record, raw.target, paths);
      })
    );
}

/** What rootfs.py does, in one go. */
export function bootstrapSubcommand(): CommandUnknownOpts {
  return buildCommandBase("bootstrap")
    .description("build the media and start them: rootfs.py's options without a command do this")
    .addOption(accelOption())
    .addHelpText(
      "after",
      `
Example:
  cd live-bootstrap && seedstrap --qemu --external-sources -m https://mirror.example`,
    )
    .action((raw) =>
      withInterrupt(async (signal) => {
        const request = buildRequest(raw);
        const record = await buildMedia(request, printedEvents(), signal);
        printSummary(record, request.target);
        if (record.options.mode !== "bare-metal") {
          await runTarget(request.target, raw.accel, signal);
        }
      })
    );
}

type BuildRaw = RawOptions & { target: string; force?: true | undefined; jobs: string };

function buildRequest(raw: BuildRaw): BuildRequest {
  return {
    ...parsePlanRequest(raw),
    target: raw.target,
    force: raw.force === true,
    jobs: parseCount(raw.jobs, "--jobs", 1, 64),
  };
}

/** Looks at the devices that images go to, and asks, before anything is downloaded. */
async function confirmedDevices(
  raw: { bootDevice?: string; payloadDevice?: string; yes?: string[]; bareMetal?: true },
  signal: AbortSignal,
): Promise<Map<"boot" | "payload", string>> {
  const paths = new Map<"boot" | "payload", string>();
  for (const [role, path] of [["boot", raw.bootDevice], ["payload", raw.payloadDevice]] as const) {
    if (path === undefined) continue;
    const target = chooseTarget(path, false);
    if ([...paths.values()].includes(target.path)) {
      throw refusal(path, ["it is to be the other device, too"], "Name two devices");
    }
    note(`for the ${role} image:`);
    for (const line of describeTarget(target)) note(`  ${line}`);
    const yes = raw.yes?.find((serial) => serial === confirmationOf(target)) ?? raw.yes?.[0];
    await confirmTarget(target, yes, signal);
    paths.set(role, target.path);
  }
  return paths;
}

/** Events of a build, shown on standard error. */
export function printedEvents(): BuildEvents {
  let progress: Progress | undefined;
  let stage = "";
  const show = (title: string): Progress => {
    if (stage !== title) {
      progress?.clear();
      progress = new Progress(title);
      stage = title;
    }
    return progress!;
  };
  const line = (text: string) => {
    progress?.clear();
    note(text);
  };
  return {
    onNotice: (text) => line(`${paint("yellow", "notice:")} ${printable(text)}`),
    onPlan: (plan) => {
      for (const warning of plan.warnings) line(`${paint("yellow", "warning:")} ${warning}`);
    },
    onFetch: (event) => printFetch(event, show, line),
    onWrite: (done, total) => {
      if (done < total) show("writing").update(done, total);
      else progress?.clear();
    },
    onDevice: (what, done, total) => {
      if (done < total) show(`${what} the device`).update(done, total);
      else progress?.clear();
    },
  };
}

function printFetch(
  event: FetchEvent,
  show: (title: string) => Progress,
  line: (text: string) => void,
): void {
  const name = printable(event.name);
  switch (event.kind) {
    case "bytes":
      show("fetching").update(event.bytes, event.total, name);
      break;
    case "done":
      if (!event.url.startsWith("file:")) {
        line(`fetched ${name} (${formatBytes(event.bytes)}) from ${printable(event.url)}`);
      }
      break;
    case "failed-attempt":
      // A mirror need not have every file: only the report at the end is about failures.
      if (!event.url.startsWith("file:")) {
        line(`${name}: ${printable(event.url)}: ${printable(event.answer)}`);
      }
      break;
    case "retry":
      line(`${name}: trying ${printable(event.url)} again`);
      break;
    case "start":
      break;
  }
}

/** What was built, and on bare metal what to do with it. */
export function printSummary(
  record: TargetRecord,
  target: string,
  devices: ReadonlyMap<string, string> = new Map(),
): void {
  const dir = resolve(target);
  if (record.files.length > 0) print(`${dir}\n  ${record.files.length} files to start in`);
  for (const image of record.images) {
    print(devices.get(image.role) ?? join(dir, image.name));
    const tail = image.sizeBytes - image.dataBytes;
    print(
      `  ${image.role}, ${image.files.length} files, ${formatBytes(image.dataBytes)}` +
        (tail > 0 ? ` and ${formatBytes(tail)} of zeros behind them` : ""),
    );
    print(
      `  SHA-256 ${image.sha256}` + (tail > 0 ? ` of the first ${image.dataBytes} bytes` : ""),
    );
  }
  if (record.options.mode !== "bare-metal") return;
  const [boot, payload] = record.images;
  const steps: string[] = [];
  if (!devices.has("boot")) {
    steps.push(`Write ${boot!.name} (${boot!.sizeBytes} bytes) to the drive that will boot.`);
  }
  if (payload !== undefined && !devices.has("payload")) {
    steps.push(`Write ${payload.name} (${payload.sizeBytes} bytes) to a second drive.`);
  }
  steps.push(
    `Boot the machine from ${devices.get("boot") ?? "the first"}: it will be installed to.`,
  );
  print("Please:");
  for (const [index, step] of steps.entries()) print(`  ${index + 1}. ${step}`);
}
