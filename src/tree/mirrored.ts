// SPDX-License-Identifier: MIT
/**
 * What a mirror of a checkout has: the sources of every step, also of those that no manifest builds
 * and of every extra build.
 *
 * @module
 */

import { sortedByBytes } from "../bytes.ts";
import { readTreeText, walkTree } from "./checkout.ts";
import { extraDir, findExtraBuilds } from "./extra.ts";
import { type OnRemark, parseSources } from "./sources.ts";

/** A URL or a git reference, and the line that names it. */
export type Placed<T> = T & {
  /** `steps/NAME/sources:LINE`, or that of an extra build. */
  readonly where: string;
};

/** A file of a mirror, with everything that the steps say about it. */
export interface MirroredFile {
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
  /** Lines that name it, at least one. */
  readonly lines: readonly string[];
  readonly urls: readonly Placed<{ readonly url: string }>[];
  readonly git: readonly Placed<{ readonly url: string; readonly reference: string }>[];
}

/** A line that wants other bytes under a name that has its bytes. */
export interface NameConflict {
  readonly name: string;
  readonly sha256: string;
  readonly where: string;
  /** The line that was first, and is mirrored. */
  readonly first: { readonly sha256: string; readonly where: string };
}

/** The files of a mirror, by name, and what cannot be in one. */
export interface MirroredFiles {
  readonly files: readonly MirroredFile[];
  readonly conflicts: readonly NameConflict[];
}

const SOURCES = /^[^/]+\/sources$/;

/**
 * Reads the sources of every step.
 *
 * @returns One file for each name, sorted by the bytes of the names.
 * @throws {UserError} "tree"
 */
export function readMirroredFiles(root: string, onRemark?: OnRemark): MirroredFiles {
  interface Draft {
    readonly sha256: string;
    readonly lines: string[];
    readonly urls: Map<string, MirroredFile["urls"][number]>;
    readonly git: Map<string, MirroredFile["git"][number]>;
  }
  const drafts = new Map<string, Draft>();
  const conflicts: NameConflict[] = [];
  const inStep = (path: string) => path.split("/").length > 3;
  const found = ["steps", ...findExtraBuilds(root).map(extraDir)].flatMap((dir) =>
    walkTree(root, dir, undefined, inStep)
      .filter(({ path, kind }) => kind === "file" && SOURCES.test(path))
      .map(({ path }) => `${dir}/${path}`)
  );
  for (const path of sortedByBytes(found, (path) => path)) {
    for (const source of parseSources(readTreeText(root, path), path, onRemark)) {
      const { fileName: name, sha256, url, git, line } = source;
      const where = `${path}:${line}`;
      const known = drafts.get(name);
      if (known !== undefined && known.sha256 !== sha256) {
        const first = { sha256: known.sha256, where: known.lines[0]! };
        conflicts.push({ name, sha256, where, first });
        continue;
      }
      const draft: Draft = known ?? { sha256, lines: [], urls: new Map(), git: new Map() };
      drafts.set(name, draft);
      draft.lines.push(where);
      if (url !== "_" && !draft.urls.has(url)) draft.urls.set(url, { url, where });
      if (git === undefined) continue;
      const key = `${git.url}~${git.reference}`;
      if (!draft.git.has(key)) draft.git.set(key, { ...git, where });
    }
  }
  const files = [...drafts].map(([name, { sha256, lines, urls, git }]) => ({
    name,
    sha256,
    lines,
    urls: [...urls.values()],
    git: [...git.values()],
  }));
  return { files: sortedByBytes(files, ({ name }) => name), conflicts };
}
