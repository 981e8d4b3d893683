// SPDX-License-Identifier: MIT
/**
 * Finds what the manifest names and the checkout does not have: a bootstrap would stop there, after
 * hours as a rule.
 *
 * @module
 */

import type { Config } from "../tree/config.ts";
import { evaluateEvery } from "../tree/extra.ts";
import type { ActiveLine, Manifest } from "../tree/manifest.ts";
import type { TreeModel } from "../tree/model.ts";
import type { BuildOptions } from "./options.ts";

/**
 * Returns the extension of the scripts that run before bash is built: "kaem", or another one if
 * none is for kaem, as in a fork with another first shell.
 */
export function earlyShell(tree: TreeModel, active: readonly ActiveLine[]): string {
  const early = new Set(active.slice(0, firstBash(active)).map(({ line }) => line.name));
  const shells = new Set(tree.files.flatMap(({ path }) => {
    const [, step, shell] = /^steps\/([^/]+)\/pass\d+\.(\w+)$/.exec(path) ?? [];
    return step !== undefined && early.has(step) && shell !== "sh" ? [shell!] : [];
  }));
  const [other] = shells;
  return other === undefined || shells.has("kaem") ? "kaem" : other;
}

/** Returns the index of the first line after which bash runs the scripts. */
function firstBash(active: readonly ActiveLine[]): number {
  const index = active.findIndex(({ line }) =>
    line.kind === "build" && line.name.startsWith("bash-")
  );
  return index < 0 ? active.length : index + 1;
}

/**
 * Finds what is missing for the lines that are executed.
 *
 * @param hasPreseed Whether an archive has the results of the lines before bash.
 * @param hasRepo Whether there are prebuilt packages, with which a step may not be needed.
 * @returns A phrase for each, with the line of the manifest.
 */
export function findMissing(
  tree: TreeModel,
  active: readonly ActiveLine[],
  { hasPreseed, hasRepo }: Pick<BuildOptions, "hasPreseed" | "hasRepo">,
): string[] {
  const { manifest } = tree;
  const shell = earlyShell(tree, active);
  const bash = firstBash(active);
  return missingFor(tree, { dir: "steps", manifest, active, shell, bash, hasPreseed, hasRepo });
}

/**
 * Finds what is missing for the lines of extra builds that are executed: bash runs all of them.
 *
 * @param config The bootstrap.cfg of the machine.
 */
export function findExtraMissing(
  tree: TreeModel,
  config: Config,
  { hasRepo }: Pick<BuildOptions, "hasRepo">,
): string[] {
  const every = evaluateEvery(tree, config);
  return tree.extraBuilds.flatMap(({ dir, manifest, firstIndex }) => {
    const end = firstIndex + manifest.lines.length;
    const active = every.filter(({ index }) => index >= firstIndex && index < end);
    const later = { shell: "sh", bash: 0, hasPreseed: false, hasRepo };
    return missingFor(tree, { dir, manifest, active, ...later });
  });
}

/** The lines of one manifest. */
interface Course extends Pick<BuildOptions, "hasPreseed" | "hasRepo"> {
  /** Its step directory. */
  readonly dir: string;
  readonly manifest: Manifest;
  readonly active: readonly ActiveLine[];
  /** The extension of the scripts that run before bash, and the number of the lines before it. */
  readonly shell: string;
  readonly bash: number;
}

function missingFor(tree: TreeModel, course: Course): string[] {
  const { dir, manifest, active, shell, bash, hasPreseed, hasRepo } = course;
  const { scripts } = tree;
  const paths = new Set(tree.files.map(({ path }) => path));
  const missing = new Map<string, string>();
  active.forEach(({ line, pass }, at) => {
    const isEarly = at < bash;
    if (isEarly && hasPreseed) return;
    const lacks = (path: string, what: string) => {
      if (!paths.has(path) && !missing.has(path)) {
        missing.set(path, `${manifest.file}:${line.line}: ${line.kind}: ${line.name}: ${what}`);
      }
      return !paths.has(path);
    };
    if (line.kind === "improve" || line.kind === "jump") {
      const path = `${dir}/${line.kind}/${line.name}.sh`;
      lacks(path, `there is no ${path}`);
    }
    if (line.kind !== "build" || (hasRepo && !isEarly)) return;
    const step = `${dir}/${line.name}`;
    if (lacks(step, `there is no step ${step}`)) return;
    const path = `${step}/pass${pass}.${isEarly ? shell : "sh"}`;
    const script = scripts.get(path);
    for (const patch of script?.patches ?? []) lacks(patch, `${path} names ${patch}`);
    if (isEarly) {
      lacks(path, `there is no ${path}`);
    } else if (script?.usesDefaultGet !== false) {
      lacks(`${step}/sources`, `there is no ${step}/sources, which the default src_get reads`);
    }
  });
  return [...missing.values()];
}
