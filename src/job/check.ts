// SPDX-License-Identifier: MIT
/**
 * The checks of a build before anything is downloaded or written.
 *
 * @module
 */

import { UNWATCHED } from "../progress.ts";
import { join, relative, resolve, sep } from "node:path";
import { UserError } from "../errors.ts";
import type { Image } from "../plan/images.ts";
import { brokenLimits } from "../plan/plan.ts";
import type { Plan } from "../plan/types.ts";
import { readRecord } from "../record/read.ts";
import { lastRun } from "../record/run.ts";
import { RECORD_NAME, type RecordedImage } from "../record/types.ts";
import { statIfThere } from "../runtime/stat.ts";
import type { TreeModel } from "../tree/model.ts";
import type { DistfileEvents } from "./distfiles.ts";
import { isAsBuilt } from "./verify.ts";

/**
 * Checks that the kernel of the user is a file.
 *
 * @throws {UserError} "usage"
 */
export function checkKernel(path: string): void {
  if (statIfThere(path)?.isFile() === true) return;
  throw new UserError("usage", `Cannot use ${path} for --kernel: it is not a file`, {
    where: path,
    hint: "It takes a Linux kernel, such as a bzImage",
  });
}

/**
 * Refuses a target in a directory of the checkout that builds read, as it would become part of the
 * next build.
 *
 * @throws {UserError} "usage"
 */
export function checkTargetDirectory(target: string, { root }: TreeModel): void {
  const [top] = relative(root, resolve(target)).split(sep);
  if (!["builder-hex0", "seed", "steps"].includes(top!)) return;
  throw new UserError(
    "usage",
    `Cannot use ${resolve(target)} as target: ${top}/ is a source of the build`,
    {
      where: resolve(target),
      hint: "Name another --target",
    },
  );
}

/**
 * Checks that the plan has an image for each device.
 *
 * @throws {UserError} "usage"
 */
export function checkDevices(
  { options, start, hasPayload }: Plan,
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
  if (devices.paths.has("payload") && !hasPayload) {
    throw new UserError("usage", "Cannot use --payload-device: the plan has no payload", {
      hint: "--payload always makes one; seedstrap plan says why there is none",
    });
  }
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
  const recorded = statIfThere(join(dir, RECORD_NAME));
  if (recorded === undefined) return;
  for (const image of imagesOf(dir)) {
    const path = join(dir, image.name);
    const stat = statIfThere(path);
    if (stat?.isFile() !== true || stat.mtimeMs <= recorded.mtimeMs) continue;
    if (await isAsBuilt(path, image, progress)) continue;
    const run = lastRun(dir);
    const by = run === undefined
      ? "no run is recorded"
      : `the last run began at ${run.began} and is ${run.verdict}; its log is ${run.logPath}`;
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
 * Refuses a plan that breaks a limit.
 *
 * @throws {UserError} "limit", with the largest contributors and the remedies.
 */
export function checkLimits(
  plan: Plan,
  force: boolean,
  events: { readonly onNotice?: (text: string) => void },
): void {
  const broken = brokenLimits(plan);
  if (broken.length === 0) return;
  if (force) {
    for (const line of brokenLines(broken)) events.onNotice?.(`--force: ${line}`);
    return;
  }
  throw limitError(broken);
}

function brokenLines(broken: Plan["limits"]): string[] {
  return broken.map(({ title, used, limit, unit }) =>
    `${title}: ${used} ${unit}, ${used > limit ? "the maximum is" : "the minimum is"} ${limit}`
  );
}

/** Returns the error for broken limits. */
export function limitError(broken: Plan["limits"]): UserError {
  const lines = broken.flatMap(({ unit, contributors }, index) => [
    brokenLines(broken)[index]!,
    ...contributors.map(({ name, amount }) => `    ${amount} ${unit}  ${name}`),
  ]);
  const remedies = [...new Set(broken.map(({ remedy }) => remedy))];
  return new UserError("limit", `Cannot bootstrap with this plan\n  ${lines.join("\n  ")}`, {
    hint: `${remedies.join(". ")}. --force continues anyway`,
  });
}
