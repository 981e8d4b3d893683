// SPDX-License-Identifier: MIT
/**
 * Finds what the pass scripts of the steps need beside themselves.
 *
 * Up to the first build of a step `bash-…` the booted machine runs `passN.kaem`, then `passN.sh`,
 * which may be absent: `build` in steps/helpers.sh has a default for each of its stages. The default
 * of src_get reads `sources`, and that of src_prepare uses patches where there are any.
 *
 * Source: live-bootstrap, steps/helpers.sh and seed/script-generator.c.
 *
 * @module
 */

import { readTreeText } from "./checkout.ts";
import type { TreeEntry } from "./entry.ts";

/** What a pass script needs. */
export interface PassScript {
  /** Whether it leaves src_get to its default, as far as its own text tells. */
  readonly usesDefaultGet: boolean;
  /** Patches and directories of patches that it names, relative to the checkout. */
  readonly patches: readonly string[];
}

const PASS_SCRIPT = /^(steps[\w-]*\/[^/]+)\/pass\d+\.(kaem|sh)$/;

/**
 * Reads the pass scripts of the steps that a manifest builds.
 *
 * @param files The root of a bootstrap.
 * @param steps Paths of the steps, such as `steps/tcc-0.9.26`.
 * @returns The scripts by their path in the root.
 * @throws {UserError} "tree"
 */
export function readPassScripts(
  root: string,
  files: readonly TreeEntry[],
  steps: ReadonlySet<string>,
): Map<string, PassScript> {
  return new Map(files.flatMap(({ path, kind }) => {
    const [, step, shell] = PASS_SCRIPT.exec(path) ?? [];
    if (kind !== "file" || step === undefined || !steps.has(step)) return [];
    const text = readTreeText(root, path).replace(/(^|\s)#.*$/gm, "$1");
    // What it reads from elsewhere may define anything.
    const usesDefaultGet = !/\bsrc_get\b|^\s*(\.|source)\s/m.test(text);
    const names = text.matchAll(shell === "kaem" ? KAEM_PATCH : SHELL_PATCHES);
    const patches = [...new Set([...names].map(([, name]) => `${step}/${name}`))];
    return [[path, { usesDefaultGet, patches }] as const];
  }));
}

/** kaem scripts name each patch, from a directory below that of the step. */
const KAEM_PATCH = /(?<=\s)(?:\.\.\/)+((?:simple-)?patches\/[\w.+-]+)(?=\s)/g;
/** Later scripts may name another directory of patches than the default one. */
const SHELL_PATCHES = /\$\{?base_dir\}?"?\/(patches[\w.-]*)/g;
