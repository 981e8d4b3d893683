// SPDX-License-Identifier: MIT
/**
 * The checks of a build before anything is downloaded or written.
 *
 * @module
 */

import { readSync, realpathSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { UNWATCHED } from "../progress.ts";
import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import { DISTFILES_DIR } from "../format/bundle.ts";
import type { Image } from "../plan/images.ts";
import { continuesPass } from "../plan/options.ts";
import { formatAmount, limitFigures } from "../plan/limits.ts";
import { counted } from "../text.ts";
import { brokenLimits, isDoomed } from "../plan/plan.ts";
import { type ReachFault, reachFaults } from "../plan/reach.ts";
import { PAYLOAD_IMAGE, type Plan } from "../plan/types.ts";
import { openRegular } from "../read.ts";
import { hasCheckpoints } from "../record/checkpoints.ts";
import { readRecord } from "../record/read.ts";
import { lastRun, toldRun } from "../record/run.ts";
import { RECORD_NAME, type RecordedImage } from "../record/types.ts";
import { lstatIfThere, statIfThere } from "../runtime/stat.ts";
import { isBuildInput, type TreeModel } from "../tree/model.ts";
import { readTracked } from "../tree/tracked.ts";
import { checkOutput } from "../write/output_parts.ts";
import type { DistfileEvents } from "./distfiles.ts";
import { isAsBuilt } from "./verify.ts";

/** Offset and content of the magic of a bzImage: Linux, Documentation/arch/x86/boot.rst. */
const BZIMAGE_MAGIC = { offsetBytes: 0x202, text: "HdrS" };

/**
 * Checks that the kernel of the user is a file, and for the x86 architectures a bzImage.
 *
 * @throws {UserError} "usage"
 */
export function checkKernel(path: string, arch: string): void {
  const why = kernelFault(path, arch);
  if (why === undefined) return;
  throw new UserError("usage", `Cannot use ${path} for --kernel: ${why}`, {
    where: path,
    hint: "It takes a Linux kernel, such as a bzImage (arch/x86/boot/bzImage, /boot/vmlinuz-…)",
  });
}

function kernelFault(path: string, arch: string): string | undefined {
  if (statIfThere(path)?.isFile() !== true) return "it is not a file";
  if (!["x86", "amd64"].includes(arch)) return undefined;
  const { offsetBytes, text } = BZIMAGE_MAGIC;
  const { file, close } = openRegular(path, { what: `read ${path}`, kind: "usage" });
  try {
    const magic = new Uint8Array(text.length);
    const read = readSync(file, magic, 0, magic.length, offsetBytes);
    if (new TextDecoder().decode(magic.subarray(0, read)) === text) return undefined;
    return `it is no bzImage: "${text}" is not at offset ${offsetBytes}`;
  } finally {
    close();
  }
}

/** Directories of the system: nothing below them can be a target either. */
const SYSTEM_TREES =
  /^\/(bin|boot|dev|etc|lib\w*|proc|sbin|sys|usr\/(bin|include|lib\w*|sbin|share))(\/|$)/;
/** Directories of the system in which a target can be. */
const SYSTEM_DIRS = ["/", "/home", "/root", "/run", "/usr", "/usr/local", "/var"];
/** A file system in memory below one of these. */
const MEMORY = /^\/dev\/shm\/./;

/** What a checkout has in its first level where git does not say it. */
const CHECKOUT_DIRS = [".git", ".github", "LICENSES", "builder-hex0", "lib", "seed", "steps"];

/**
 * Checks that the packages of the user are a directory.
 *
 * @throws {UserError} "usage"
 */
export function checkRepo(path: string): void {
  checkGiven(
    path,
    "--repo",
    "It takes a directory with packages that a bootstrap has built, as harvest leaves it",
  );
}

/**
 * Checks that what the user adds is a directory.
 *
 * @throws {UserError} "usage"
 */
export function checkAdded(path: string): void {
  checkGiven(path, "--add", "It takes a directory, or DIR=/PATH with a place for it");
}

function checkGiven(path: string, option: string, hint: string): void {
  const stat = statIfThere(path);
  if (stat?.isDirectory() === true) return;
  const why = stat === undefined ? "there is no such directory" : "it is not a directory";
  throw new UserError("usage", `Cannot use ${path} for ${option}: ${why}`, { where: path, hint });
}

/**
 * Checks that the store is a directory, or can become one.
 *
 * @throws {UserError} "usage"
 */
export function checkStore(path: string): void {
  try {
    if (statIfThere(path)?.isDirectory() !== false) return;
  } catch {
    // The home of another user, for example. It may not be needed.
    return;
  }
  throw new UserError("usage", `Cannot keep downloads in ${path}: it is not a directory`, {
    where: path,
    hint: "Name another directory with --store",
  });
}

/**
 * Refuses a target in a directory of `--add`: the next build would take it along.
 *
 * @throws {UserError} "usage"
 */
export function checkNotAdded(target: string, added: readonly { readonly dir: string }[]): void {
  const place = realPlace(resolve(target));
  for (const { dir } of added) {
    const path = relative(realPlace(dir), place);
    if (path.split(sep)[0] === "..") continue;
    throw new UserError("usage", `Cannot use ${dir} for --add: the target is in it`, {
      where: place,
      hint: "Name another --target, or a directory with nothing but what is to be added",
    });
  }
}

/**
 * Refuses a target in the system, and one in a directory of the checkout, as it would become part of
 * the next build, or lie among the files of the checkout.
 *
 * @throws {UserError} "usage"
 */
export function checkTargetDirectory(target: string, { root }: TreeModel): void {
  const dir = realPlace(resolve(target));
  const why = targetFault(dir, realPlace(root));
  if (why === undefined) return;
  throw new UserError("usage", `Cannot use ${resolve(target)} as target: ${why}`, {
    where: resolve(target),
    hint: "Name another --target",
  });
}

function targetFault(dir: string, root: string): string | undefined {
  if (SYSTEM_DIRS.includes(dir) || (SYSTEM_TREES.test(dir) && !MEMORY.test(dir))) {
    return `${dir} is a directory of the system`;
  }
  if (dir === root) return "it is the checkout";
  const path = relative(root, dir);
  const [top] = path.split(sep);
  if (top === "..") return undefined;
  if (isBuildInput(top!)) return `${top}/ is a source of the build`;
  if (top === DISTFILES_DIR) return `${top}/ holds distfiles`;
  const isOfCheckout = CHECKOUT_DIRS.includes(top!) || readTracked(root)?.hasBelow(top!) === true;
  return isOfCheckout ? `${top}/ is a directory of the checkout` : undefined;
}

/** Returns a path without symbolic links, as far as it exists. */
function realPlace(path: string): string {
  if (statIfThere(path) !== undefined) return realpathSync(path);
  return join(realPlace(dirname(path)), basename(path));
}

/**
 * Checks that the plan has an image for each device.
 *
 * @throws {UserError} "usage"
 */
export function checkDevices(
  { options, start, images, oneDisk }: Plan,
  devices: { readonly paths: ReadonlyMap<Image["role"], string> } | undefined,
): void {
  if (devices === undefined) return;
  if (start === "disk") {
    throw new UserError(
      "usage",
      "Cannot use a device with --kernel: a disk with a file system cannot be streamed",
      {
        hint: "Build, and write disk.img with seedstrap write",
      },
    );
  }
  if (options.mode !== "bare-metal") {
    throw new UserError("usage", "Cannot use a device for the images: that needs --bare-metal", {
      hint: "Build, and write the images with seedstrap write",
    });
  }
  if (devices.paths.has("payload") && !images.includes(PAYLOAD_IMAGE)) {
    const { why, hint } = noPayloadImage(oneDisk !== undefined);
    throw new UserError("usage", `Cannot use --payload-device: ${why}`, { hint });
  }
}

function noPayloadImage(isOnBootDisk: boolean): { readonly why: string; readonly hint: string } {
  return isOnBootDisk
    ? { why: "with --one-disk the payload is on the boot disk", hint: "Leave one of the two out" }
    : {
      why: "the plan has no payload",
      hint: "--payload always makes one; seedstrap plan says why there is none",
    };
}

/**
 * Checks that the plan has an image for each output, and that its files can be made.
 *
 * @throws {UserError} "usage"; "target" for a file that exists
 */
export function checkOutputs(
  { options, start, images, oneDisk }: Plan,
  { outputs, target }: {
    readonly outputs?: ReadonlyMap<Image["role"], string | WritableStream<Uint8Array>>;
    readonly target: string;
  },
): void {
  if (outputs === undefined) return;
  const refuse = (why: string, hint: string) =>
    new UserError("usage", `Cannot use --output: ${why}`, { hint });
  if (options.mode !== "bare-metal" && options.mode !== "container") {
    throw refuse(
      "that needs --bare-metal or --container",
      "What is started here is in the target: leave it out",
    );
  }
  if (continuesPass(options)) {
    throw refuse(
      `--internal-ci ${options.internalCi} makes no image`,
      "It goes on in the container of the pass before: leave it out",
    );
  }
  if (start === "disk") {
    throw refuse(
      "a disk with a file system cannot be streamed",
      "Leave --kernel out, or send disk.img of the target",
    );
  }
  if (outputs.has("payload") && !images.includes(PAYLOAD_IMAGE)) {
    const { why, hint } = noPayloadImage(oneDisk !== undefined);
    throw refuse(why, hint);
  }
  for (const [role, path] of outputs) {
    if ((role === "container") !== (start === "container")) {
      throw refuse(`the plan has no ${role} image`, "Leave it to the target");
    }
    if (typeof path !== "string") continue;
    if (statIfThere(path)?.isBlockDevice()) {
      throw refuse(
        `${path} is a device`,
        role === "container" ? "Name a file" : `--${role}-device writes to a device`,
      );
    }
    if (realPlace(dirname(resolve(path))) === realPlace(resolve(target))) {
      throw refuse(`${path} is in the target`, "Images that are not named go there by themselves");
    }
    checkOutput(path);
  }
}

/**
 * Checks that there will be images in the target, if a bmap is wanted beside each.
 *
 * @throws {UserError} "usage"
 */
export function checkBmaps(
  { images, options }: Plan,
  { wantsBmaps, devices, outputs }: {
    readonly wantsBmaps?: boolean;
    readonly devices?: { readonly paths: ReadonlyMap<Image["role"], string> };
    readonly outputs?: ReadonlyMap<Image["role"], unknown>;
  },
): void {
  const elsewhere = (devices?.paths.size ?? 0) + (outputs?.size ?? 0);
  if (wantsBmaps !== true || images.length > elsewhere) return;
  const why = continuesPass(options)
    ? `--internal-ci ${options.internalCi} makes none`
    : images.length === 0
    ? `--${options.mode} makes a directory`
    : outputs === undefined
    ? "all are on devices"
    : "all go elsewhere";
  throw new UserError("usage", `Cannot use --bmap: there are no images in the target, ${why}`, {
    hint: "Leave it out",
  });
}

/**
 * Refuses to replace an image that is not as it was built: a guest has worked on it, for hours as a
 * rule. An image that is older than its record was not written since; of another the content decides.
 *
 * @param dir The target, absolute, which this process has locked.
 * @param force Replaces it nevertheless.
 * @throws {UserError} "target", naming the run that changed it if one is recorded.
 */
export async function checkUnchanged(
  dir: string,
  force: boolean,
  { onNotice, progress = UNWATCHED }: Pick<DistfileEvents, "onNotice" | "progress">,
): Promise<void> {
  if (hasCheckpoints(dir)) {
    const what = `${dir}: it has checkpoints, which need its images`;
    if (!force) {
      throw new UserError("target", `Cannot replace ${what}`, {
        where: dir,
        hint: `Give them up with ${
          shellQuote(["seedstrap", "checkpoint", "rm", dir, "--all"])
        }, or use another --target`,
      });
    }
    onNotice?.(`--force: ${what}`);
  }
  for (const image of imagesOf(dir)) {
    const path = join(dir, image.name);
    if (isOlder(dir, path) || await isAsBuilt(path, image, progress)) continue;
    const run = lastRun(dir);
    const by = run === undefined ? "no run is recorded" : toldRun(run);
    const what = `${path} is not as it was built: ${by}`;
    if (!force) {
      throw new UserError("target", `Cannot replace ${what}`, {
        where: path,
        hint: "Take what you need out of it (seedstrap harvest), then use --force",
      });
    }
    onNotice?.(`--force: ${what}`);
  }
}

/**
 * Reports whether a guest that was ended has left all its images as they were built. This takes
 * seconds at most: of a disk with a file system that was written since, no content is read.
 *
 * @param dir The target, absolute, which this process has locked.
 */
export async function areUnchanged(
  dir: string,
  images: readonly RecordedImage[],
): Promise<boolean> {
  for (const image of images) {
    const path = join(dir, image.name);
    if (lstatIfThere(path)?.isFile() !== true) return false;
    if (isOlder(dir, path)) continue;
    if (image.blocksSha256 !== undefined || !await isAsBuilt(path, image, UNWATCHED)) return false;
  }
  return true;
}

/** Whether an image was not written since its record was; also where it is no file of its own. */
function isOlder(dir: string, path: string): boolean {
  const recorded = statIfThere(join(dir, RECORD_NAME));
  const stat = statIfThere(path);
  return recorded === undefined || stat?.isFile() !== true || stat.mtimeMs <= recorded.mtimeMs;
}

/**
 * Refuses images of a target that were truncated or replaced after the build: the guest would fail
 * hours later, write to whatever a link leads to, or never start, where QEMU waits for a fifo.
 *
 * @throws {UserError} "target"
 */
export function checkImages(dir: string, images: readonly RecordedImage[]): void {
  for (const { name, sizeBytes } of images) {
    const path = join(dir, name);
    const stat = lstatIfThere(path);
    if (stat?.isFile() && stat.size === sizeBytes) continue;
    const found = stat === undefined
      ? "it is missing"
      : stat.isFile()
      ? `it has ${stat.size} bytes`
      : "it is no regular file";
    throw new UserError(
      "target",
      `Cannot use ${path}: ${found}, it was built with ${sizeBytes} bytes`,
      { where: path, hint: "Build the target again" },
    );
  }
}

/** The images that the record of a target knows; none where it cannot be understood. */
function imagesOf(dir: string): readonly RecordedImage[] {
  try {
    return readRecord(dir).images;
  } catch (error) {
    if (error instanceof UserError) return [];
    throw error;
  }
}

/**
 * Refuses a plan that is certain to fail: it breaks a limit, or distfiles are out of reach.
 *
 * @throws {UserError} "limit", with the largest contributors and the remedies.
 */
export function checkLimits(
  plan: Plan,
  force: boolean,
  events: { readonly onNotice?: (text: string) => void },
): void {
  if (!isDoomed(plan)) return;
  if (!force) throw limitError(brokenLimits(plan), reachFaults(plan));
  const lines = [
    ...brokenLimits(plan).map(brokenLine),
    ...reachFaults(plan).map((fault) => reachLine(fault)),
  ];
  for (const line of lines) events.onNotice?.(`--force: ${line}`);
}

/**
 * Refuses a checkout without files that its manifest names.
 *
 * @throws {UserError} "tree", with all of them.
 */
export function checkMissing(
  { missing }: Plan,
  force: boolean,
  events: { readonly onNotice?: (text: string) => void },
): void {
  if (force) {
    for (const line of missing) events.onNotice?.(`--force: ${line}`);
    return;
  }
  if (missing.length === 0) return;
  throw new UserError(
    "tree",
    `Cannot bootstrap with this checkout: it does not have what its manifest names\n  ${
      missing.join("\n  ")
    }`,
    { hint: "Restore the files or correct the manifest. --force continues anyway" },
  );
}

function brokenLine(limit: Plan["limits"][number]): string {
  const figures = limitFigures(limit);
  const isFloor = limit.limit !== null && limit.used < limit.limit;
  const atLeast = limit.unknownSizes === undefined || isFloor ? "" : "at least ";
  return `${limit.title}: ${atLeast}${figures.used}, ` +
    `the ${isFloor ? "minimum" : "maximum"} is ${figures.limit}`;
}

/** Most names in the line of a fault. */
const MAX_NAMES = 5;

function reachLine({ what, names }: ReachFault): string {
  const others = names.length - MAX_NAMES;
  const shown = names.slice(0, MAX_NAMES).join(", ") + (others > 0 ? ` and ${others} more` : "");
  return `${counted(names.length, "distfile")} ${what}: ${shown}`;
}

/** Returns the error for broken limits, and for distfiles that are out of reach. */
export function limitError(
  broken: Plan["limits"],
  faults: readonly ReachFault[] = [],
): UserError {
  const lines = [
    ...broken.flatMap((limit) => [
      brokenLine(limit),
      ...limit.contributors.map(({ name, amount }) =>
        `    ${formatAmount(amount, limit.unit)}  ${name}`
      ),
    ]),
    ...faults.map((fault) => reachLine(fault)),
  ];
  const remedies = [...new Set([...broken, ...faults].map(({ remedy }) => remedy))];
  return new UserError("limit", `Cannot bootstrap with this plan\n  ${lines.join("\n  ")}`, {
    hint: `${remedies.join(". ")}. --force continues anyway`,
  });
}
