// SPDX-License-Identifier: MIT
/**
 * Joins manifest and sources: which distfiles a checkout needs, and when.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { hasTreeFile, readTreeText } from "./checkout.ts";
import type { Manifests } from "./extra.ts";
import { type OnRemark, parseSources, type Source } from "./sources.ts";

/** A distfile with everything that the checkout says about it. */
export interface Distfile {
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
  /** HTTP URLs, in the order in which they are tried. */
  readonly urls: readonly string[];
  /** Git repositories and references from which it can be archived. */
  readonly git: readonly { readonly url: string; readonly reference: string }[];
  /**
   * The build lines that need it, in manifest order; none for a file that only lies in distfiles/ of
   * the checkout.
   */
  readonly uses: readonly DistfileUse[];
  /** Set by who has asked every mirror, and none has it. The checkout does not say it. */
  readonly isInNoMirror?: true;
}

/** A build line that needs a distfile. */
export interface DistfileUse {
  readonly step: string;
  /** Index of the build line among those of all manifests, see `lineAt()`. */
  readonly index: number;
}

/** Returns the steps that need a distfile, in manifest order, each once. */
export function usingSteps({ uses }: Distfile): string[] {
  return [...new Set(uses.map(({ step }) => step))];
}

/** A line of a sources file, with a build line of its step. */
export interface PlacedSource {
  readonly step: string;
  readonly index: number;
  /** Path of the sources file. */
  readonly file: string;
  readonly source: Source;
}

/**
 * Reads the sources of every step that the manifests build, whatever the predicates, as variables
 * can still change on the booted machine.
 *
 * @returns One item per build line and source, in manifest order.
 * @throws {UserError} "tree"
 */
export function readSources(
  root: string,
  { manifest, extraBuilds }: Manifests,
  onRemark?: OnRemark,
): PlacedSource[] {
  const known = new Map<string, readonly Source[]>();
  const placed: PlacedSource[] = [];
  for (
    const { dir, manifest: { file: name, lines }, firstIndex } of [
      { dir: "steps", manifest, firstIndex: 0 },
      ...extraBuilds,
    ]
  ) {
    lines.forEach((line, at) => {
      if (line.kind !== "build") return;
      const step = line.name;
      const file = `${dir}/${step}/sources`;
      let sources = known.get(file);
      if (sources === undefined) {
        sources = hasTreeFile(root, file)
          ? parseSources(readTreeText(root, file), file, onRemark)
          : [];
        known.set(file, sources);
      }
      // A step may be built many times, and each time counts.
      if (placed.length + sources.length > MAX_PLACED) {
        throw new UserError("tree", `Cannot use more than ${MAX_PLACED} sources of build lines`, {
          where: `${name}:${line.line}`,
        });
      }
      const index = firstIndex + at;
      for (const source of sources) placed.push({ step, index, file, source });
    });
  }
  checkTypes(placed);
  return placed;
}

/** Refuses lines with and without a type in one checkout: it has one reader, which misreads some. */
function checkTypes(placed: readonly PlacedSource[]): void {
  const typed = placed.find(({ source }) => source.isUntyped === undefined);
  const untyped = placed.find(({ source }) => source.isUntyped === true);
  if (typed === undefined || untyped === undefined) return;
  throw new UserError(
    "tree",
    `Cannot read sources: a line has no type, while ${place(typed)} has one`,
    {
      where: place(untyped),
      hint: "Begin the line with f for a file, or with g for a git repository",
    },
  );
}

/** Most pairs of a build line and a source of its step: live-bootstrap has some 400. */
const MAX_PLACED = 200_000;

/**
 * Merges sources into distfiles.
 *
 * @returns One distfile per name, in the order of first use.
 * @throws {UserError} "tree" for a name that is used with two checksums.
 */
export function mergeSources(placed: readonly PlacedSource[]): Distfile[] {
  interface Draft {
    readonly name: string;
    readonly sha256: string;
    readonly first: PlacedSource;
    readonly urls: Set<string>;
    readonly git: Map<string, { url: string; reference: string }>;
    readonly uses: Map<number, DistfileUse>;
  }
  const drafts = new Map<string, Draft>();
  for (const item of placed) {
    const { fileName, sha256, url, git } = item.source;
    let draft = drafts.get(fileName);
    if (draft === undefined) {
      draft = {
        name: fileName,
        sha256,
        first: item,
        urls: new Set(),
        git: new Map(),
        uses: new Map(),
      };
      drafts.set(fileName, draft);
    }
    if (draft.sha256 !== sha256) {
      throw new UserError(
        "tree",
        `Cannot use two distfiles with the name ${fileName}: ${
          place(draft.first)
        } wants SHA-256 ${draft.sha256}, ${place(item)} wants ${sha256}`,
        { where: place(item), hint: "Give one of them another file name in its sources" },
      );
    }
    if (url !== "_") draft.urls.add(url);
    if (git !== undefined) draft.git.set(`${git.url}~${git.reference}`, git);
    draft.uses.set(item.index, { step: item.step, index: item.index });
  }
  return [...drafts.values()].map(({ name, sha256, urls, git, uses }) => ({
    name,
    sha256,
    urls: [...urls],
    git: [...git.values()],
    uses: [...uses.values()],
  }));
}

function place({ file, source }: PlacedSource): string {
  return `${file}:${source.line}`;
}
