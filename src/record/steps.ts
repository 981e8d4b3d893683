// SPDX-License-Identifier: MIT
/**
 * Finds the steps that an entry of an image belongs to.
 *
 * @module
 */

import { isOfPayload, PAYLOAD_PATH, plainPath, type ViewKind } from "../image/types.ts";
import { usingSteps } from "../tree/distfiles.ts";
import { isStepPath } from "../tree/extra.ts";
import { readEveryDistfile } from "../tree/model.ts";
import type { TargetRecord } from "../record/types.ts";

/** Steps by the name of a distfile that they need. */
export type DistfileSteps = ReadonlyMap<string, readonly string[]>;

/**
 * Directories of distfiles and of built packages on the booted machine. On a second disk, the
 * content of `external` is at the root.
 */
const DISTFILES_PATHS: readonly string[] = ["external/distfiles", "distfiles"];
export const REPO_PATHS: readonly string[] = ["external/repo", "repo"];

/**
 * Returns the name of the distfile at a path, or undefined for another file.
 *
 * @param path As its entry has it. In a payload every path is that of a distfile, and in the payload
 * on a boot disk.
 */
export function distfileName(path: string, kind: ViewKind): string | undefined {
  const plain = plainPath(path);
  if (kind === "payload") return plain;
  if (kind === "boot" && isOfPayload(path)) return path.slice(PAYLOAD_PATH.length + 1);
  const at = plain.lastIndexOf("/");
  return DISTFILES_PATHS.includes(plain.slice(0, at)) ? plain.slice(at + 1) : undefined;
}

/** Returns the step that has built a package, by its name; undefined for the name of another file. */
export function builtStep(name: string): string | undefined {
  return /^(.+)_\d+\.tar(\.\w+)?$/.exec(name)?.[1];
}

/** Returns the steps that the record of a target names. */
export function stepsOfRecord({ distfiles }: TargetRecord): DistfileSteps {
  return new Map(distfiles.map(({ name, steps }) => [name, steps]));
}

/**
 * Returns the steps that a checkout names.
 *
 * @throws {UserError} "tree"
 */
export function stepsOfTree(dir: string): DistfileSteps {
  return new Map(
    readEveryDistfile(dir).map((distfile) => [distfile.name, usingSteps(distfile)]),
  );
}

/**
 * Returns the steps that an entry of an image belongs to: those that need a distfile, the one whose
 * folder a file is in, `improve: NAME` or `jump: NAME` for a script, the one that built a package.
 *
 * @param path Path of the entry.
 * @param kind What the image is.
 */
export function stepsOf(
  path: string,
  kind: ViewKind,
  distfiles: DistfileSteps,
): readonly string[] {
  const plain = plainPath(path);
  const distfile = distfileName(path, kind);
  const known = distfile === undefined ? undefined : distfiles.get(distfile);
  const isInPayload = kind === "payload" || (kind === "boot" && isOfPayload(path));
  if (known !== undefined || (distfile !== undefined && !isInPayload)) return known ?? [];
  const parts = plain.split("/");
  const name = parts.at(-1)!;
  const folder = parts.slice(0, -1).join("/");
  if (isInPayload || REPO_PATHS.includes(folder)) {
    const step = builtStep(name);
    return step === undefined ? [] : [step];
  }
  if (!isStepPath(parts[0]!)) return [];
  if (parts.length === 3 && (parts[1] === "improve" || parts[1] === "jump")) {
    return [`${parts[1]}: ${name.replace(/\.sh$/, "")}`];
  }
  return parts.length > 2 ? [parts[1]!] : [];
}
