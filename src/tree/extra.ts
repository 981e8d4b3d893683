// SPDX-License-Identifier: MIT
/**
 * Step directories beside steps/, as live-bootstrap's pull request 578 proposes them.
 *
 *   steps-NAME/manifest        in the format of steps/manifest
 *   steps-NAME/STEP/sources    and the scripts of a step, improve/ and jump/ as in steps/
 *
 * NAME has letters, digits, "-" and "_". A build includes those that it is asked for: the directory
 * lies beside steps/ in the root of the machine, and EXTRA_BUILDS of bootstrap.cfg names them in
 * order, with commas in between. The machine reads each manifest after that of steps/ has come to
 * its end, with the variables that this one has left, and counts passes anew.
 *
 * Source: pull request 578, rootfs.py, lib/generator.py and steps/improve/after.sh.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { sortedByBytes } from "../bytes.ts";
import { hasTreeFile, readTreeText, walkTree } from "./checkout.ts";
import type { TreeEntry } from "./entry.ts";
import type { Config } from "./config.ts";
import {
  type ActiveLine,
  followManifest,
  type Manifest,
  type ManifestLine,
  parseManifest,
} from "./manifest.ts";

/** The variable of bootstrap.cfg that names extra builds. */
export const EXTRA_BUILDS = "EXTRA_BUILDS";

const PREFIX = "steps-";

/** A step directory beside steps/ that a build includes. */
export interface ExtraBuild {
  readonly name: string;
  /** `steps-NAME`, in the checkout and in the root of the machine. */
  readonly dir: string;
  readonly manifest: Manifest;
  /**
   * Index of its first line, where those of steps/manifest and of the extra builds before it are
   * counted, too.
   */
  readonly firstIndex: number;
}

/** The manifests of a build. */
export interface Manifests {
  /** steps/manifest. */
  readonly manifest: Manifest;
  /** In the order in which the machine reads them. */
  readonly extraBuilds: readonly ExtraBuild[];
}

/** Reports whether a text can be the name of an extra build. */
export function isExtraName(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text);
}

/** Returns the directory of an extra build. */
export function extraDir(name: string): string {
  return `${PREFIX}${name}`;
}

/** Reports whether a path, relative to the root, is that of a step directory, or below one. */
export function isStepPath(path: string): boolean {
  const [top = ""] = path.split("/", 1);
  return top === "steps" || (top.startsWith(PREFIX) && isExtraName(top.slice(PREFIX.length)));
}

/** Returns the names of the extra builds that a checkout has, sorted. */
export function findExtraBuilds(root: string): string[] {
  const others = (path: string) => path.includes("/") || path === "steps" || !isStepPath(path);
  const names = walkTree(root, "", undefined, others)
    .filter(({ path, kind }) => kind === "directory" && hasTreeFile(root, `${path}/manifest`))
    .map(({ path }) => path.slice(PREFIX.length));
  return sortedByBytes(names, (name) => name);
}

/**
 * Reads the manifests of extra builds.
 *
 * @param names In the order in which the machine reads them.
 * @throws {UserError} "usage" for one that the checkout does not have, "tree" for one that is not
 * valid.
 */
export function readExtraBuilds(
  root: string,
  { lines }: Manifest,
  names: readonly string[],
): ExtraBuild[] {
  let firstIndex = lines.length;
  return names.map((name) => {
    const dir = extraDir(name);
    const path = `${dir}/manifest`;
    if (!hasTreeFile(root, path)) {
      const there = findExtraBuilds(root);
      throw new UserError("usage", `Cannot use ${name} for --extra-builds: there is no ${path}`, {
        where: root,
        hint: there.length === 0
          ? "The checkout has no step directory beside steps/: leave the option out"
          : `The checkout has ${there.join(", ")}`,
      });
    }
    const manifest = parseManifest(readTreeText(root, path), path);
    const extra = { name, dir, manifest, firstIndex };
    firstIndex += manifest.lines.length;
    return extra;
  });
}

/** Returns the manifest of a line, by its index among those of all manifests, and the line. */
export function lineAt(
  { manifest, extraBuilds }: Manifests,
  index: number,
): { readonly manifest: Manifest; readonly line: ManifestLine } | undefined {
  const extra = extraBuilds.findLast(({ firstIndex }) => firstIndex <= index);
  const line = extra === undefined
    ? manifest.lines[index]
    : extra.manifest.lines[index - extra.firstIndex];
  return line && { manifest: extra?.manifest ?? manifest, line };
}

/**
 * Evaluates all manifests in the order in which the machine reads them, each with the variables that
 * the one before has left.
 *
 * @returns The lines that are executed, with an index among those of all manifests. Passes are
 * counted anew in each.
 */
export function evaluateEvery(
  { manifest, extraBuilds }: Manifests,
  config: Config,
): readonly ActiveLine[] {
  let left = config;
  return [{ manifest, firstIndex: 0 }, ...extraBuilds].flatMap(({ manifest, firstIndex }) => {
    const { active, config: next } = followManifest(manifest, left);
    left = next;
    return active.map((item) => ({ ...item, index: firstIndex + item.index }));
  });
}

/** Scripts of steps/ that decide what runs when, rather than how a step is built. */
const CONTROL_SCRIPT = /^steps\/(?:(?:improve|jump|after)\/)?[^/]+\.sh$/;

/** A script by which the machine comes to extra builds. */
export interface ExtraReader {
  /** Its path in the root. */
  readonly path: string;
  /** BUILD_GUIX_ALSO is that of an earlier version of the pull request. */
  readonly variable: "EXTRA_BUILDS" | "BUILD_GUIX_ALSO";
}

/**
 * Finds the script by which the machine comes to extra builds.
 *
 * @param files The root of a bootstrap.
 * @throws {UserError} "tree"
 */
export function findExtraReader(
  root: string,
  files: readonly TreeEntry[],
): ExtraReader | undefined {
  const scripts = files.flatMap(({ path, kind }) =>
    kind === "file" && CONTROL_SCRIPT.test(path) ? [{ path, text: readTreeText(root, path) }] : []
  );
  for (const variable of ["EXTRA_BUILDS", "BUILD_GUIX_ALSO"] as const) {
    const found = scripts.find(({ text }) => text.includes(variable));
    if (found !== undefined) return { path: found.path, variable };
  }
  return undefined;
}

/**
 * Checks that the machine will come to the extra builds of a build: otherwise they would be in the
 * image, and never run.
 *
 * @throws {UserError} "tree"
 */
export function checkExtraBuilds(
  { extraBuilds: [extra], extraReader }: Manifests & { readonly extraReader?: ExtraReader },
): void {
  if (extra === undefined || extraReader?.variable === EXTRA_BUILDS) return;
  throw new UserError(
    "tree",
    `Cannot use --extra-builds ${extra.name}: no script of the checkout reads ${EXTRA_BUILDS}, ` +
      `so that the machine would never come to ${extra.manifest.file}`,
    {
      where: extraReader?.path ?? "steps/",
      hint: extraReader === undefined
        ? "Use a checkout that has extra builds, such as that of live-bootstrap's pull request 578"
        : `Its ${extraReader.variable} is of an earlier version of pull request 578: use a later one`,
    },
  );
}
