// SPDX-License-Identifier: MIT
/** `seedstrap build`, and the default command, which builds and runs. */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { join, resolve } from "node:path";
import { chooseTarget, isSameDisk, refusal, type WriteTarget } from "../device/candidates.ts";
import { UserError } from "../errors.ts";
import { type BuildEvents, buildMedia, type BuildRequest } from "../job/build.ts";
import type { Image } from "../plan/images.ts";
import type { ImageOutputs } from "../job/media.ts";
import { runCommand, runWords } from "../job/named.ts";
import { bootstrap, buildAndDetach } from "../job/bootstrap.ts";
import type { RecordedImage, TargetRecord } from "../record/types.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { shellQuote } from "../launch/process.ts";
import { diskOf } from "../plan/config.ts";
import {
  type BuildOptions,
  continuesPass,
  isPartitionName,
  type Mode,
  parseCount,
  startsInDirectory,
} from "../plan/options.ts";
import { GUARD_DISK } from "../plan/overlay.ts";
import { kernelCommandLine } from "../plan/qemu.ts";
import type { Plan } from "../plan/types.ts";
import { DEFAULT_COMMAND } from "./argv.ts";
import { confirmationOf, confirmTarget } from "./confirm.ts";
import { describeTarget } from "./devices.ts";
import { GROUPS } from "./help.ts";
import { budgetOption, checkpointOption, keepOption, parseCheckpoints } from "./checkpoint.ts";
import { parseDuration } from "./duration.ts";
import { parsePlanRequest, planCommandBase, type RawOptions } from "./options.ts";
import { digestText, wholeDigestText } from "./digest.ts";
import { fetchPrinter } from "./fetching.ts";
import { beginJsonLines, printJson, printJsonLine } from "./json.ts";
import { adviceLine, counted, formatBytes, note, print, takeStdout, warn } from "./output.ts";
import { display, withProgress } from "./progress.ts";
import {
  accelOption,
  DETACH_TEXT,
  detachRun,
  printedRun,
  qemuArgumentOption,
  RUN_JSON,
  RUN_QUIET,
  stallOption,
} from "./run.ts";
import { withRunView } from "./view/view.ts";

// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
function buildCommandBase(name: string) {
  return planCommandBase(name)
    .option("-t, --target <dir>", "where the media go", "target")
    .option("--sha256", "record the SHA-256 of each image as a whole, for other tools")
    .option(
      "--force",
      "go on although a limit is broken, files are missing, or a guest has changed a disk",
    )
    .optionsGroup(GROUPS.distfiles)
    .option("-j, --jobs <n>", "number of parallel downloads", "8")
    .optionsGroup(GROUPS.place);
}

export function buildSubcommand(): CommandUnknownOpts {
  return buildCommandBase("build")
    .description("build the media, and start nothing")
    .option("--bmap", "also write the block map of each image, for bmaptool: init.img.bmap")
    .option("--json", "print the record of the target instead of a summary")
    .addOption(outputOption())
    .optionsGroup("Devices:")
    .option("--boot-device <device>", "with --bare-metal: write the boot image to this device")
    .option("--payload-device <device>", "the same for the payload image")
    .option("--yes <serial...>", "do not ask about the devices, see seedstrap write")
    .option("--no-verify", "do not read the devices back")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap build --qemu --external-sources -m file:///srv/distfiles --tree live-bootstrap
  seedstrap build --bare-metal -m https://mirror.example -t /srv/media
  seedstrap build --bare-metal --output boot=- | ssh lab 'dd of=/dev/sdb bs=4M'
  seedstrap build --container --external-sources -o lb.oci.tar && podman load -i lb.oci.tar

The reader of a pipe cannot see that what it got is incomplete: use set -o pipefail.`,
    )
    .action((raw) =>
      withInterrupt(async (signal) => {
        const request = buildRequest(raw);
        const placed = parseOutputs(raw);
        const outputs = imageOutputs(placed, signal);
        const paths = await confirmedDevices(raw, signal);
        let advice: Plan["advice"] = [];
        const devices = paths.size === 0 ? {} : { devices: { paths, isVerified: raw.verify } };
        const record = await withProgress(() =>
          buildMedia(
            { ...request, ...devices, ...outputs, wantsBmaps: raw.bmap === true },
            printedEvents((given) => advice = given),
            signal,
          )
        );
        if (raw.json) printJson(record);
        else {
          printSummary(record, raw.target, { devices: paths, outputs: placed }, advice);
          printStart(record, raw.target, placed.get("container"));
        }
      })
    );
}

/** Declares the default command, which builds and starts in one go, as rootfs.py does. */
export function bootstrapSubcommand(): CommandUnknownOpts {
  return buildCommandBase(DEFAULT_COMMAND)
    .description("build the media and start them, as rootfs.py does; the default command")
    .optionsGroup(GROUPS.machine)
    .addOption(accelOption())
    .addOption(stallOption())
    .addOption(checkpointOption("off"))
    .addOption(budgetOption())
    .addOption(keepOption())
    .addOption(qemuArgumentOption())
    .configureHelp({ commandUsage: () => "seedstrap [options] [-- arguments of QEMU...]" })
    .optionsGroup(GROUPS.place)
    .option("--tmpfs", "mount a tmpfs on the target while it is used")
    .option("--tmpfs-size <size>", "size of the tmpfs", "8G")
    .option("--detach", DETACH_TEXT)
    .option("--json", RUN_JSON)
    .option("--quiet", RUN_QUIET)
    .addHelpText(
      "after",
      `
Example:
  cd live-bootstrap && seedstrap --qemu --external-sources -m https://mirror.example`,
    )
    .action((raw) =>
      withInterrupt((signal) => {
        const build = buildRequest(raw);
        const tmpfsSize = parseTmpfsSize(raw, build.options.mode);
        let advice: Plan["advice"] = [];
        const events = {
          ...printedEvents((given) => advice = given),
          onBuilt: (record: TargetRecord) => {
            display.end();
            if (!raw.json) printSummary(record, build.target, undefined, advice);
            else if (record.options.mode !== "bare-metal") {
              printJsonLine(builtObject(record, build.target));
            } else printJson(builtObject(record, build.target));
          },
        };
        const { accel, qemuArg: extraArgs } = raw;
        const stallMs = parseDuration(raw.stall, "--stall");
        const checkpoints = parseCheckpoints(raw);
        if (raw.detach) {
          if (raw.json) beginJsonLines();
          const start = (record: TargetRecord) =>
            detachRun(build.target, detachedWords(record, build.target, raw), raw, signal);
          return withProgress(() => buildAndDetach({ ...build, tmpfsSize }, events, signal, start));
        }
        return withProgress(() =>
          withRunView(raw, printedRun(raw), (run) =>
            bootstrap(
              { ...build, accel, extraArgs, stallMs, checkpoints, tmpfsSize },
              { ...events, ...run },
              signal,
            ))
        );
      })
    );
}

/** The command line of a run without a terminal, of what was built with another one. */
function detachedWords(
  record: TargetRecord,
  target: string,
  { accel, stall, checkpoint, budget, keepCheckpoints, qemuArg }: {
    readonly accel: string;
    readonly stall?: string | undefined;
    readonly checkpoint?: string | undefined;
    readonly budget?: string | undefined;
    readonly keepCheckpoints: string;
    readonly qemuArg: readonly string[];
  },
): string[] {
  return [
    ...runWords(record, resolve(target)),
    ...["--accel", accel, "--keep-checkpoints", keepCheckpoints],
    ...(checkpoint === undefined ? [] : ["--checkpoint", checkpoint]),
    ...(budget === undefined ? [] : ["--budget", budget]),
    ...(stall === undefined ? [] : ["--stall", stall]),
    ...(qemuArg.length === 0 ? [] : ["--", ...qemuArg]),
  ];
}

/** What was built, as an event for scripts: the record has everything else. */
function builtObject({ images }: TargetRecord, target: string): object {
  return {
    time: new Date().toISOString(),
    kind: "built",
    target: resolve(target),
    images: images.map(({ name, role, sizeBytes, dataBytes }) => ({
      name,
      role,
      sizeBytes,
      dataBytes,
    })),
  };
}

/**
 * Returns the size of the tmpfs for `--tmpfs`, as mount takes it; undefined without that option.
 *
 * @throws {UserError} "usage" for a malformed size, or a mode that cannot use a tmpfs.
 */
function parseTmpfsSize(
  { tmpfs, tmpfsSize: size }: { tmpfs?: true | undefined; tmpfsSize: string },
  mode: Mode,
): string | undefined {
  if (tmpfs === undefined) return undefined;
  if (!/^[1-9]\d{0,15}[kKmMgG%]?$/.test(size)) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(size)} for --tmpfs-size`, {
      hint: "It takes a size as mount does: 8G, 512m or 50%",
    });
  }
  if (mode === "bwrap" || mode === "bare-metal" || mode === "container") {
    throw new UserError("usage", `Cannot use --tmpfs with --${mode}`, {
      hint: mode === "bwrap"
        ? "A sandbox may not mount: leave the option out, or use --chroot"
        : mode === "container"
        ? "The container is where podman or docker keeps its own: leave the option out"
        : "The images would be lost with it: leave it out, or name a --target on a tmpfs",
    });
  }
  return size;
}

type BuildRaw = RawOptions & {
  target: string;
  force?: true | undefined;
  jobs: string;
  sha256?: true | undefined;
};

function buildRequest(raw: BuildRaw): BuildRequest {
  const request = parsePlanRequest(raw);
  const { options } = request;
  if (raw.sha256 && startsInDirectory(options.mode)) {
    throw new UserError("usage", `Cannot use --sha256 with --${options.mode}`, {
      hint: "It is for images: every file of a directory has its SHA-256 in the record",
    });
  }
  return {
    ...request,
    options: { ...options, ...(raw.sha256 && { sha256: true }) },
    target: raw.target,
    force: raw.force === true,
    jobs: parseCount(raw.jobs, "--jobs", 1, 64),
  };
}

/** The name of standard output among files. */
const STDOUT = "-";

// deno-lint-ignore explicit-function-return-type -- the type is the declaration
function outputOption() {
  const add = (value: string, before: readonly string[] | undefined) => [...before ?? [], value];
  return new Option(
    "-o, --output <image=file>",
    "with --bare-metal: write an image, boot or payload, to a new file, or to standard output (-), " +
      "instead of the target; may be repeated. With --container: FILE or - alone",
  ).argParser<readonly string[] | undefined>(add);
}

/** An image that can go elsewhere. */
type Output = Image["role"];

/**
 * Returns where images go instead of the target.
 *
 * @throws {UserError} "usage"
 */
function parseOutputs(
  { output = [], bootDevice, payloadDevice, container, json, sha256 }: {
    readonly output?: readonly string[] | undefined;
    readonly bootDevice?: string;
    readonly payloadDevice?: string;
    readonly container?: true | undefined;
    readonly json?: true | undefined;
    readonly sha256?: true | undefined;
  },
): Map<Output, string> {
  const outputs = new Map<Output, string>();
  const deviceFor = (role: Output) =>
    role === "boot" ? bootDevice : role === "payload" ? payloadDevice : undefined;
  for (const text of output) {
    const refuse = (why: string, hint: string) =>
      new UserError("usage", `Cannot use --output ${JSON.stringify(text)}: ${why}`, { hint });
    const [, role, path = ""] = container
      ? ["", "container", /^(boot|payload|container)=/.test(text) ? "" : text]
      : /^(boot|payload)=(.+)$/s.exec(text) ?? [];
    if (path === "" || (role !== "boot" && role !== "payload" && role !== "container")) {
      throw refuse(
        container ? "it names no file" : "it names no image",
        `It takes ${container ? "FILE" : "boot=FILE or payload=FILE"}; - is standard output`,
      );
    }
    if (outputs.has(role) || deviceFor(role) !== undefined) {
      throw refuse(`the ${role} image has another place already`, "Name one place for each image");
    }
    if ([...outputs.values()].some((other) => isSamePlace(other, path))) {
      throw refuse("the other image goes there", "Name another place, or leave one to the target");
    }
    if (path === STDOUT && json) {
      throw refuse("--json prints there", "Read seedstrap.json in the target");
    }
    outputs.set(role, path);
  }
  if (outputs.size > 0 && sha256) {
    throw new UserError("usage", "Cannot use --sha256 with --output", {
      hint: "It is for images in the target; image digest has the SHA-256 of a file",
    });
  }
  return outputs;
}

function isSamePlace(a: string, b: string): boolean {
  return a === STDOUT || b === STDOUT ? a === b : resolve(a) === resolve(b);
}

/** Opens standard output where it is among the places. */
function imageOutputs(
  places: ReadonlyMap<Output, string>,
  signal: AbortSignal,
): { readonly outputs?: ImageOutputs } {
  if (places.size === 0) return {};
  const opened = [...places].map(([role, path]) =>
    [
      role,
      path === STDOUT
        ? takeStdout(role === "container" ? "--output -" : `--output ${role}=-`, signal)
        : path,
    ] as const
  );
  return { outputs: new Map(opened) };
}

/** Shows the devices that images will be written to, and asks for each, before any download. */
async function confirmedDevices(
  raw: {
    readonly bootDevice?: string;
    readonly payloadDevice?: string;
    readonly yes?: string[];
    readonly verify: boolean;
    readonly sha256?: true | undefined;
  },
  signal: AbortSignal,
): Promise<Map<"boot" | "payload", string>> {
  const paths = new Map<"boot" | "payload", string>();
  const targets: WriteTarget[] = [];
  for (const [role, path] of [["boot", raw.bootDevice], ["payload", raw.payloadDevice]] as const) {
    if (path === undefined) continue;
    const target = chooseTarget(path, false);
    if (targets.some((other) => isSameDisk(other, target))) {
      throw refusal(path, ["it is given for both images"], "Name two devices");
    }
    note(`for the ${role} image:`);
    for (const line of describeTarget(target)) note(`  ${line}`);
    const yes = raw.yes?.find((serial) => serial === confirmationOf(target)) ?? raw.yes?.[0];
    await confirmTarget(target, yes, signal);
    paths.set(role, target.path);
    targets.push(target);
  }
  if (paths.size > 0 && raw.sha256) {
    throw new UserError("usage", "Cannot use --sha256: an image would be in no file", {
      hint: "Leave it out, or build without devices, and write the images then",
    });
  }
  if (paths.size === 0 && (raw.yes !== undefined || !raw.verify)) {
    throw new UserError(
      "usage",
      `Cannot use ${raw.yes ? "--yes" : "--no-verify"}: no device is given`,
      {
        hint: "Name a --boot-device or a --payload-device",
      },
    );
  }
  return paths;
}

/**
 * Returns handlers for the events of a build, which print to standard error.
 *
 * @param onAdvice Gets the advice about the final plan, for the summary.
 */
export function printedEvents(
  onAdvice: (advice: Plan["advice"]) => void = () => {},
): BuildEvents {
  return {
    onNotice: warn,
    onPlan: (plan) => {
      onAdvice(plan.advice);
      plan.warnings.forEach(warn);
    },
    onFetch: fetchPrinter(display),
    progress: display,
  };
}

/** Where images are that are not in the target, by their roles. */
interface Elsewhere {
  readonly devices: ReadonlyMap<string, string>;
  /** Files; {@link STDOUT} for what went to standard output. */
  readonly outputs: ReadonlyMap<string, string>;
}

const IN_TARGET: Elsewhere = { devices: new Map(), outputs: new Map() };

/** Returns the file that an image is in; undefined for what is on a device, or was streamed. */
function fileOf(
  { role, name }: RecordedImage,
  dir: string,
  { devices, outputs }: Elsewhere,
): string | undefined {
  if (devices.has(role)) return undefined;
  const output = outputs.get(role);
  return output === undefined ? join(dir, name) : output === STDOUT ? undefined : resolve(output);
}

/** Prints what was built, advice as `plan` gives it and, for bare metal, what to do with it. */
export function printSummary(
  record: TargetRecord,
  target: string,
  elsewhere: Elsewhere = IN_TARGET,
  advice: Plan["advice"] = [],
): void {
  const dir = resolve(target);
  const isLater = continuesPass(record.options);
  if (isLater) {
    const put = record.distfiles.filter(({ place }) => place === "boot");
    print(dir);
    print(`  ${counted(put.length, "distfile")}, again in what the pass before has left`);
  } else if (record.files.length > 0) {
    print(dir);
    print(`  ${counted(record.files.length, "file")}`);
  }
  for (const image of isLater ? [] : record.images) {
    print(elsewhere.devices.get(image.role) ?? fileOf(image, dir, elsewhere) ?? "standard output");
    const tail = image.sizeBytes - image.dataBytes;
    print(
      `  ${image.role}, ${counted(image.files.length, "file")}, ${formatBytes(image.dataBytes)}` +
        (tail > 0 ? ` and ${formatBytes(tail)} of zeros after them` : ""),
    );
    print(`  ${digestText(image)}`);
  }
  for (const text of advice) print(adviceLine(text));
  if (record.options.mode !== "bare-metal") return;
  print("Please:");
  bareMetalSteps(dir, record, elsewhere).forEach((step, index) => print(`  ${index + 1}. ${step}`));
}

/**
 * Prints the command that starts what was built, where it is started here.
 *
 * @param container Where the image of a container is, if not in the target.
 */
function printStart(record: TargetRecord, target: string, container?: string): void {
  if (record.options.mode === "bare-metal") return;
  if (container !== undefined) {
    if (container !== STDOUT) {
      print(`load it with: ${shellQuote(["podman", "load", "-i", resolve(container)])}`);
    }
    return;
  }
  print(`start it with: ${runCommand(record, resolve(target))}`);
}

/**
 * Returns the steps that are left to the user, in order. Images that are in no file are written
 * already.
 *
 * @param dir The target, absolute.
 */
function bareMetalSteps(
  dir: string,
  { images, options, overlay }: Pick<TargetRecord, "images" | "options" | "overlay">,
  elsewhere: Elsewhere,
): string[] {
  const write = (image: RecordedImage, drive: string) => {
    const facts = [`${image.sizeBytes} bytes`, wholeDigestText(image) ?? []].flat();
    const command = shellQuote(["seedstrap", "write", fileOf(image, dir, elsewhere)!, "DEVICE"]);
    return `Write ${image.name} (${facts.join(", ")}) to ${drive}: ${command}`;
  };
  const [first, ...others] = images;
  const steps: string[] = [];
  if (fileOf(first!, dir, elsewhere) !== undefined) {
    steps.push(write(first!, first!.role === "disk" ? "a drive" : "the drive that will boot"));
  }
  for (const image of others) {
    if (fileOf(image, dir, elsewhere) === undefined) continue;
    const isInstalledTo = image.role === "external" && options.disk === undefined;
    steps.push(
      write(
        image,
        `another drive${isInstalledTo ? ", the second: the system is installed to that one" : ""}`,
      ),
    );
  }
  steps.push(...otherDisks(options, overlay));
  const isPlain = first!.role === "boot" && options.disk === undefined &&
    others.every(({ role }) => role === "payload");
  steps.push(
    first!.role === "disk"
      ? `Boot the machine with your kernel ${options.kernel} and the command line "${
        kernelCommandLine(true)
      }": /dev/sda1 has to be the partition on this drive.`
      : `Boot the machine from ${elsewhere.devices.get("boot") ?? `the drive with ${first!.name}`}${
        isPlain ? ". The system is installed to that drive" : ""
      }.`,
  );
  return steps;
}

/** Returns the warning about the disk that the machine installs to, where it looks at that first. */
function otherDisks(options: BuildOptions, { manifestLines }: TargetRecord["overlay"]): string[] {
  if (!manifestLines.some(({ text }) => text.startsWith(`improve: ${GUARD_DISK}`))) return [];
  const disk = diskOf(options);
  const isPartition = isPartitionName(disk);
  const looks = options.overwriteDisk
    ? `Whatever is on ${disk} is lost (--overwrite-disk)`
    : isPartition
    ? `The machine stops if ${disk} holds more than distfiles and packages`
    : `The machine stops if ${disk} is neither empty nor the drive that it boots from`;
  const other = options.disk === undefined ? "; --disk names another" : "";
  return [
    `Detach every disk that is not needed: the system is installed to what Linux calls ${disk}. ` +
    `${looks}${other}.`,
  ];
}
