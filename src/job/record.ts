// SPDX-License-Identifier: MIT
/**
 * seedstrap.json: the plan that made a target, with sizes and digests of inputs and outputs.
 *
 * It holds no clock, no host and no absolute path but those of mirror directories that the guest
 * needs, so that the same inputs give the same record.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, systemCode, UserError } from "../errors.ts";
import type { Image } from "../plan/images.ts";
import type { BuildOptions } from "../plan/options.ts";
import type { Limit } from "../plan/limits.ts";
import {
  BOOT_IMAGE,
  DISK_IMAGE,
  EXTERNAL_IMAGE,
  PAYLOAD_IMAGE,
  type Plan,
  type PlannedDistfile,
  type PlannedRestore,
} from "../plan/types.ts";

/** Name of the record in a target. */
export const RECORD_NAME = "seedstrap.json";
const FORMAT = "seedstrap-target/1";

/** The record of a target. */
export interface TargetRecord {
  readonly format: typeof FORMAT;
  /** Version of the seedstrap that built it. */
  readonly seedstrap: string;
  readonly options: BuildOptions;
  /** Text of the bootstrap.cfg in the image. */
  readonly config: string;
  readonly payload:
    & { readonly present: boolean; readonly reason: string }
    & Partial<PlannedRestore>;
  readonly overlay: Plan["overlay"];
  readonly warnings: readonly string[];
  readonly limits: readonly Limit[];
  readonly distfiles: readonly RecordedDistfile[];
  readonly images: readonly RecordedImage[];
  /** Files of a target that is a directory to start in; none otherwise. */
  readonly files: readonly RecordedFile[];
  readonly servedMirrors: Plan["servedMirrors"];
}

/** A distfile, and where it was had. */
export type RecordedDistfile = PlannedDistfile & {
  /** URL that it was downloaded from in this build; absent where it was on this machine. */
  readonly downloadedFrom?: string;
};

/** An image as it was written. */
export interface RecordedImage {
  readonly name: string;
  /** A disk has a file system; the external one is the second disk of a kernel bootstrap. */
  readonly role: "boot" | "payload" | "disk" | "external";
  /** Size of the file. */
  readonly sizeBytes: number;
  /** Bytes from the beginning that `sha256` is of; whatever follows is zeros. */
  readonly dataBytes: number;
  /** Of a boot or payload image. */
  readonly sha256?: string;
  /** Of a disk with a file system: see `format/blocks.ts`. */
  readonly blocksSha256?: string;
  readonly files: readonly RecordedFile[];
}

/** A file in an image. */
export interface RecordedFile {
  readonly path: string;
  readonly origin: Image["contents"][number]["origin"];
  readonly size: number;
  readonly sha256: string;
}

/** Makes the record of a build. */
export function makeRecord(
  version: string,
  plan: Plan,
  images: readonly RecordedImage[],
  downloads: ReadonlyMap<string, string>,
  files: readonly RecordedFile[] = [],
): TargetRecord {
  return {
    format: FORMAT,
    seedstrap: version,
    options: plan.options,
    config: plan.config,
    payload: { present: plan.hasPayload, reason: plan.payloadReason, ...plan.restore },
    overlay: plan.overlay,
    warnings: plan.warnings,
    limits: plan.limits,
    distfiles: plan.distfiles.map((distfile) => {
      const downloadedFrom = downloads.get(distfile.name);
      return { ...distfile, ...(downloadedFrom !== undefined && { downloadedFrom }) };
    }),
    images,
    files,
    servedMirrors: plan.servedMirrors,
  };
}

/**
 * Reads the record of a target.
 *
 * @throws {UserError} "target" where there is none, or none that this version understands.
 */
export function readRecord(dir: string): TargetRecord {
  const path = join(dir, RECORD_NAME);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    const isMissing = systemCode(cause) === "ENOENT";
    throw new UserError(
      "target",
      isMissing
        ? `Cannot find a built target in ${dir}`
        : `Cannot read ${path}: ${messageOf(cause)}`,
      { where: path, hint: "Build it first: seedstrap build --target DIR", cause },
    );
  }
  if (!isRecord(value)) {
    throw new UserError("target", `Cannot understand ${path}: it is no ${FORMAT}`, {
      where: path,
      hint: "Build the target again with this version of seedstrap",
    });
  }
  return value;
}

/** What the record of a target says of an image, where there is a record that knows it. */
export function findRecordedImage(dir: string, name: string): RecordedImage | undefined {
  try {
    return readRecord(dir).images.find((image) => image.name === name);
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** Checks what the commands rely on; the file is the user's own, but may be old or cut. */
function isRecord(value: unknown): value is TargetRecord {
  if (!isObject(value) || value["format"] !== FORMAT) return false;
  const { options, images, servedMirrors } = value;
  return isObject(options) && isOneOf(options["mode"], ["qemu", "bare-metal", "chroot", "bwrap"]) &&
    isCount(options["cores"]) && isCount(options["qemuRamMib"]) &&
    typeof options["arch"] === "string" && /^[\w.-]+$/.test(options["arch"]) &&
    typeof options["externalSources"] === "boolean" &&
    (options["kernel"] === undefined || typeof options["kernel"] === "string") &&
    typeof options["qemuCommand"] === "string" && typeof options["interactive"] === "boolean" &&
    isArrayOf(images, isImage) && isArrayOf(servedMirrors, isServedMirror);
}

const IMAGES: readonly string[] = [BOOT_IMAGE, EXTERNAL_IMAGE, PAYLOAD_IMAGE, DISK_IMAGE];

function isImage(value: unknown): boolean {
  return isObject(value) && isOneOf(value["name"], IMAGES) &&
    isCount(value["sizeBytes"]) && isCount(value["dataBytes"]) &&
    typeof (value["sha256"] ?? value["blocksSha256"]) === "string" &&
    isArrayOf(value["files"], isFile);
}

function isFile(value: unknown): boolean {
  return isObject(value) && typeof value["path"] === "string" && isCount(value["size"]) &&
    typeof value["sha256"] === "string";
}

function isServedMirror(value: unknown): boolean {
  return isObject(value) && typeof value["path"] === "string" && isCount(value["port"]);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isArrayOf(value: unknown, test: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(test);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isOneOf(value: unknown, choices: readonly string[]): boolean {
  return typeof value === "string" && choices.includes(value);
}
