// SPDX-License-Identifier: MIT
/**
 * Directories of the user: in the root that a bootstrap starts in, or in the payload of a kernel
 * bootstrap.
 *
 * @module
 */

import { basename, resolve } from "node:path";
import { UserError } from "../errors.ts";
import type { TreeEntry } from "../tree/entry.ts";
import { asksForPayload, type BuildOptions, continuesPass, startOf } from "./options.ts";

/** A directory of the user, and where the machine has it. */
export interface AddedPlace {
  /** Absolute. */
  readonly dir: string;
  /** Relative to the root, such as `external/add/NAME`. */
  readonly path: string;
}

/** What is in a directory of the user. */
export interface AddedDirectory extends AddedPlace {
  readonly entries: readonly TreeEntry[];
}

/** Where a directory of the user is if nothing else is said. */
const DEFAULT_PLACE = "external/add";

/** What the bootstrap mounts something on: a file below one of these would not be seen. */
const MOUNT_POINTS = ["dev", "proc", "sys", "tmp"];

/**
 * Parses a value of `--add`.
 *
 * @param text `DIR`, or `DIR=/PATH`.
 * @throws {UserError} "usage"
 */
export function parseAdded(text: string): AddedPlace {
  const split = text.lastIndexOf("=/");
  const dir = resolve(split < 0 ? text : text.slice(0, split));
  const path = split < 0
    ? `${DEFAULT_PLACE}/${basename(dir)}`
    : text.slice(split + 2).replace(/\/+$/, "");
  const fault = split === 0 || text === ""
    ? "it names no directory"
    : path === ""
    ? "a directory is added below the root, and not as the root"
    : pathFault(path);
  if (fault === undefined) return { dir, path };
  throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --add: ${fault}`, {
    hint: "It takes DIR, which the machine has as /external/add/NAME, or DIR=/PATH",
  });
}

/** Reports whether a text is a path of {@link AddedPlace}. */
export function isAddedPath(path: string): boolean {
  return pathFault(path) === undefined;
}

function pathFault(path: string): string | undefined {
  const parts = path.split("/");
  // deno-lint-ignore no-control-regex -- a name with one would be part of an error or a list
  if (/[\x00-\x1f\x7f]/.test(path)) return "its path has a control character";
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    return "the path in the machine has an empty part, . or ..";
  }
  return MOUNT_POINTS.includes(parts[0]!) ? `the bootstrap mounts /${parts[0]}` : undefined;
}

/**
 * Checks that what is added would come to the machine.
 *
 * @throws {UserError} "usage"
 */
export function checkAddedHere(options: BuildOptions): void {
  if (options.addedPaths === undefined) return;
  if (startOf(options) === "builder-hex0" && !asksForPayload(options)) {
    throw new UserError("usage", "Cannot use --add with --payload never in a kernel bootstrap", {
      hint: "Leave one out: a boot image has no modes, and the jump to Fiwix loses what is empty",
    });
  }
  if (continuesPass(options)) {
    throw new UserError("usage", `Cannot use --add with --internal-ci ${options.internalCi}`, {
      hint: "What pass1 has made is gone on with: use --add there",
    });
  }
}
