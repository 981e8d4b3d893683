// SPDX-License-Identifier: MIT
/**
 * Copies the packages that a bootstrap has built from its disk.
 *
 *   /external/repo/NAME_REVISION.tar.bz2   in the root of the booted machine; a disk with only
 *                                          /external has them in /repo
 *   SHA256SUMS                             beside them, and /steps/SHA256SUMS.pkgs: the expected
 *                                          digests; both are optional
 *
 * @module
 */

import { closeSync, fsyncSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { formatSums, parseSums } from "../format/sums.ts";
import { extract, type Extracted } from "../write/extract.ts";
import { plainPath, type ReadView, type ViewEntry } from "../image/types.ts";
import type { Progress } from "../progress.ts";
import { SUMS_NAME } from "../plan/restore.ts";
import { writeOutputDirectory } from "../write/output.ts";
import { writing } from "../refused.ts";
import { readRecordIfThere } from "../record/read.ts";
import { REPO_PATHS } from "../record/steps.ts";

/** Path of a list of digests on the disk, other than that in the repository. */
const STEPS_SUMS = "steps/SHA256SUMS.pkgs";
/** Longest list that is read; a list has a line of about 100 bytes for each package. */
const MAX_SUMS_BYTES = 4 * 1024 * 1024;

export interface HarvestOptions {
  /** Whether to copy packages that differ from the lists on the disk. */
  readonly force: boolean;
  readonly signal?: AbortSignal;
  readonly progress?: Progress;
}

/** The result of a harvest. */
export interface Harvest {
  /** Directory of the packages on the disk. */
  readonly place: string;
  readonly files: readonly HarvestedFile[];
  /** Number of files with the SHA-256 that a list on the disk says. */
  readonly verified: number;
  /** Files that differ from a list; none without `force`. */
  readonly wrong: readonly string[];
  /** Paths of the lists. */
  readonly lists: readonly string[];
  readonly skipped: Extracted["skipped"];
}

export interface HarvestedFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

/**
 * Copies the packages from a disk, checks them, and writes SHA256SUMS beside them.
 *
 * @param dir A directory that does not exist, or is empty.
 * @throws {UserError} "format", "target"; "verify" if a package differs from a list on the disk;
 * "interrupt" if the signal is aborted. Nothing is written then.
 */
export async function harvest(
  view: ReadView,
  dir: string,
  { force, signal, progress }: HarvestOptions,
): Promise<Harvest> {
  const repo = findRepo(view);
  const lists = readLists(view, repo);
  return await writeOutputDirectory(dir, async (part) => {
    const { digests, skipped } = await extract(view, part, {
      under: repo,
      // A new list is written.
      except: (path) => path === SUMS_NAME,
      skipsLinks: true,
      isDurable: true,
      ...(signal && { signal }),
      ...(progress && { progress }),
    });
    const files = [...digests].map(([path, digest]) => ({ path, ...digest }))
      .sort((a, b) => a.path < b.path ? -1 : 1);
    const listed = files.filter(({ path }) => lists.some(({ sums }) => sums.has(path)));
    const wrong = listed.filter(({ path, sha256 }) =>
      lists.some(({ sums }) => (sums.get(path) ?? sha256) !== sha256)
    );
    if (wrong.length > 0 && !force) throw notAsListed(view, wrong, lists);
    writeSums(join(part, SUMS_NAME), files);
    return {
      place: `/${repo}`,
      files,
      verified: listed.length - wrong.length,
      wrong: wrong.map(({ path }) => path),
      lists: lists.map(({ path }) => path),
      skipped,
    };
  });
}

/**
 * Refuses a target of a container, as what was built is in the container.
 *
 * @throws {UserError} "usage"
 */
export function checkNotContainer(dir: string): void {
  if (!isContainerTarget(dir)) return;
  throw new UserError("usage", `Cannot harvest ${dir}: what was built is in its container`, {
    where: dir,
    hint:
      "podman ps -a lists containers; podman cp NAME:/external/repo DIR copies the packages of " +
      "one, podman export -o FILE NAME its root",
  });
}

function isContainerTarget(dir: string): boolean {
  try {
    return readRecordIfThere(dir)?.options.mode === "container";
  } catch (error) {
    // What a record says is not needed for anything else here.
    if (error instanceof UserError) return false;
    throw error;
  }
}

/** Reports whether there is a directory of packages. */
export function hasRepo(view: ReadView): boolean {
  return repoIn(view) !== undefined;
}

function repoIn(view: ReadView): string | undefined {
  if (view.kind !== "disk") return undefined;
  return REPO_PATHS.find((path) => view.find(path)?.kind === "directory");
}

/**
 * Finds the directory of packages on a disk, see {@link plainPath}.
 *
 * @throws {UserError} "format" if there is none.
 */
export function findRepo(view: ReadView): string {
  const repo = repoIn(view);
  if (repo !== undefined) return repo;
  throw new UserError(
    "format",
    `Cannot find packages in ${view.source.name}: ${
      view.kind === "disk" ? "it has no /external/repo" : `it is a ${view.kind} image`
    }`,
    {
      where: view.source.name,
      hint:
        "Name the disk on which a bootstrap has run (under QEMU that is target/init.img), or the " +
        "directory that it has run in",
    },
  );
}

/** A list of digests on the disk. */
interface List {
  readonly path: string;
  /** SHA-256 by name. */
  readonly sums: ReadonlyMap<string, string>;
}

function readLists(view: ReadView, repo: string): List[] {
  return [STEPS_SUMS, `${repo}/${SUMS_NAME}`].flatMap((path) => {
    const entry = view.find(path);
    if (entry?.kind !== "file") return [];
    const sums = [...parseSums(readSums(view, entry))]
      .map(([name, sha256]) => [plainPath(name), sha256] as const);
    return [{ path: `/${path}`, sums: new Map(sums) }];
  });
}

function readSums(view: ReadView, entry: ViewEntry): string {
  if (entry.kind !== "file" || entry.size > MAX_SUMS_BYTES) {
    throw new UserError("format", `Cannot read ${entry.path}: it is too long for a list`, {
      where: view.source.name,
    });
  }
  const decoder = new TextDecoder();
  let text = "";
  for (const part of view.read(entry)) text += decoder.decode(part, { stream: true });
  return text + decoder.decode();
}

function writeSums(path: string, files: readonly HarvestedFile[]): void {
  writing(path, () => {
    const file = openSync(path, "wx", 0o666);
    try {
      writeFileSync(file, formatSums(files));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  });
}

function notAsListed(
  view: ReadView,
  wrong: readonly HarvestedFile[],
  lists: readonly List[],
): UserError {
  const { path, sha256 } = wrong[0]!;
  const list = lists.find(({ sums }) => (sums.get(path) ?? sha256) !== sha256)!;
  const more = wrong.length > 1 ? ` and ${wrong.length - 1} more` : "";
  return new UserError(
    "verify",
    `Cannot trust ${path}${more}: SHA-256 is ${sha256}, ${list.path} says ${list.sums.get(path)}`,
    { where: view.source.name, hint: "--force also copies packages that are not as listed" },
  );
}
