// SPDX-License-Identifier: MIT
/**
 * The writing part of the main job: images, or a directory to start in.
 *
 * @module
 */

import { checkFit, chooseTarget, type WriteTarget } from "../device/candidates.ts";
import { segmentSize } from "../format/segment.ts";
import { type Image, type LocatedFile, planImages, planRoot } from "../plan/images.ts";
import type { Plan } from "../plan/types.ts";
import { writeDirectory } from "../write/directory.ts";
import { checkSpace, type Target } from "../write/target.ts";
import { writeImage, type WrittenImage } from "../write/writer.ts";
import { type DeviceEvents, writeToDevice } from "./device.ts";
import type { RecordedFile } from "./record.ts";

/** Devices that images are streamed to, with no image in the target. */
export interface ImageDevices {
  /** Paths that {@link chooseTarget} let pass, by what goes there. */
  readonly paths: ReadonlyMap<Image["role"], string>;
  /** Whether they are read back. */
  readonly isVerified: boolean;
}

/** What a plan's files are written with. */
export interface WriteJob {
  readonly plan: Plan;
  /** Every distfile that the plan needs. */
  readonly located: ReadonlyMap<string, LocatedFile>;
  readonly target: Target;
  readonly devices: ImageDevices | undefined;
  /** Told the bytes that are done, and all of them. */
  readonly onWrite: ((done: number, total: number) => void) | undefined;
  readonly onDevice: DeviceEvents["onProgress"];
  readonly signal: AbortSignal | undefined;
}

/** What was written, ready to be committed. */
export interface Written {
  /** Names in the target. */
  readonly names: readonly string[];
  readonly images: readonly { readonly image: Image; readonly written: WrittenImage }[];
  /** Files of a directory. */
  readonly files: readonly RecordedFile[];
}

/**
 * Writes the images of a plan, each under its temporary name or to its device.
 *
 * @throws {UserError} see `writeImage()` and `writeToDevice()`
 */
export async function writeImages(
  { plan, located, target, devices, onWrite, onDevice, signal }: WriteJob,
): Promise<Written> {
  const images = planImages(plan, located);
  const inTarget = images.filter(({ role }) => !devices?.paths.has(role));
  const targets = deviceTargets(images, devices);
  const total = inTarget.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
  checkSpace(target.dir, total);
  const onBytes = counter(total, onWrite);
  const written: { image: Image; written: WrittenImage }[] = [];
  for (const image of inTarget) {
    target.removePart(image.name);
    const { segments, sizeBytes } = image;
    const result = await writeImage(target.partPath(image.name), segments, {
      sizeBytes,
      onBytes,
      ...(signal && { signal }),
    });
    written.push({ image, written: result });
  }
  onWrite?.(total, total);
  // The boot device comes last: nothing boots as long as its payload is not there.
  for (const { image, device } of targets.reverse()) {
    const { segments, sizeBytes } = image;
    const { report, fileDigests } = await writeToDevice(
      { segments, sizeBytes, wantsDigest: true },
      device,
      devices?.isVerified ?? true,
      { ...(onDevice && { onProgress: onDevice }) },
      signal,
    );
    written.push({ image, written: { sha256: report.sha256!, fileDigests } });
  }
  const order = images.map((image) => written.find((one) => one.image === image)!);
  return { names: inTarget.map(({ name }) => name), images: order, files: [] };
}

/** Looks at the devices again, now that the sizes are known, before the first is touched. */
function deviceTargets(
  images: readonly Image[],
  devices: ImageDevices | undefined,
): { image: Image; device: WriteTarget }[] {
  return images.flatMap((image) => {
    const path = devices?.paths.get(image.role);
    if (path === undefined) return [];
    const device = chooseTarget(path, false);
    checkFit(device, image.sizeBytes, []);
    return [{ image, device }];
  });
}

/**
 * Writes the directory of a plan under a temporary name.
 *
 * @throws {UserError} see `writeDirectory()`
 */
export async function writeRoot(
  { plan, located, target, onWrite, signal }: WriteJob,
): Promise<Written> {
  const root = "root";
  const entries = planRoot(plan, located);
  const total = entries.reduce((sum, { body }) => sum + (body ? segmentSize(body) : 0), 0);
  checkSpace(target.dir, total);
  target.removePart(root);
  const digests = await writeDirectory(target.partPath(root), entries, {
    onBytes: counter(total, onWrite),
    ...(signal && { signal }),
  });
  onWrite?.(total, total);
  const files = entries.flatMap(({ path, origin, body }): RecordedFile[] =>
    body === undefined
      ? []
      : [{ path, origin, size: segmentSize(body), sha256: digests.get(path)! }]
  );
  return { names: target.adopt(root), images: [], files };
}

function counter(total: number, onWrite: WriteJob["onWrite"]): (bytes: number) => void {
  let done = 0;
  return (bytes) => onWrite?.(done += bytes, total);
}
