// SPDX-License-Identifier: MIT
/**
 * Compares the packages of two runs.
 *
 * @module
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { openImage } from "../source/file.ts";
import { digestRange } from "../image/linear.ts";
import { type ByteSource, readRange } from "../format/reader.ts";
import { digestEntry } from "../image/view.ts";
import { type ReadView } from "../image/types.ts";
import type { Progress } from "../progress.ts";
import { watched } from "../source/watched.ts";
import { lstatIfThere } from "../runtime/stat.ts";
import { reading } from "../refused.ts";
import { SUMS_NAME } from "../plan/restore.ts";
import { findRepo } from "./harvest.ts";
import { diffMembers, type MemberDifference } from "../archive/diff.ts";
import { forwardSource, type ReadBytes } from "../source/forward.ts";

/** A package of a run. */
export interface Package {
  readonly size: number;
  readonly digest: () => string;
  readonly read: ReadBytes;
}

/** A difference between the packages of two runs. */
export type PackageDifference =
  | { readonly kind: "only in first" | "only in second"; readonly name: string }
  | {
    readonly kind: "different";
    readonly name: string;
    readonly digests: readonly [string, string];
    /** Members that differ; absent if an archive cannot be read. */
    readonly members?: readonly MemberDifference[];
    /** The reason why it cannot be read. */
    readonly unread?: string;
  };

/** Finds the packages in a directory that was harvested; the progress is told what is read. */
export function packagesIn(dir: string, progress: Progress): Map<string, Package> {
  const names = reading(dir, () => readdirSync(dir, { recursive: true, encoding: "utf8" }));
  return new Map(
    names.filter((name) => name !== SUMS_NAME).flatMap((name) => {
      const path = join(dir, name);
      const stat = lstatIfThere(path);
      if (stat?.isFile() !== true) return [];
      return [[name, {
        size: stat.size,
        digest: () =>
          withFile(path, (source) => digestRange(watched(source, progress), 0, source.sizeBytes)),
        *read() {
          const source = openImage(path);
          try {
            yield* readRange(watched(source, progress), 0, source.sizeBytes);
          } finally {
            source.close();
          }
        },
      }]];
    }),
  );
}

function withFile<T>(path: string, use: (source: ReturnType<typeof openImage>) => T): T {
  const source = openImage(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}

/** Finds the packages on a disk. */
export function packagesOn(view: ReadView): Map<string, Package> {
  const repo = findRepo(view);
  const packages = new Map<string, Package>();
  for (const entry of view.entries(repo)) {
    const name = entry.path.slice(repo.length + 2);
    if (entry.kind !== "file" || name === SUMS_NAME) continue;
    packages.set(name, {
      size: entry.size,
      digest: () => digestEntry(view, entry),
      read: () => view.read(entry),
    });
  }
  return packages;
}

/**
 * Compares the packages of two runs.
 *
 * @returns The differences, by name.
 * @throws {UserError} "format", "target", if a package cannot be read at all.
 */
export async function diffPackages(
  a: ReadonlyMap<string, Package>,
  b: ReadonlyMap<string, Package>,
): Promise<PackageDifference[]> {
  const differences: PackageDifference[] = [];
  for (const name of [...new Set([...a.keys(), ...b.keys()])].sort()) {
    const [one, other] = [a.get(name), b.get(name)];
    if (one === undefined) differences.push({ kind: "only in second", name });
    else if (other === undefined) differences.push({ kind: "only in first", name });
    else {
      const digests = [one.digest(), other.digest()] as const;
      if (digests[0] === digests[1]) continue;
      const members = await membersOf(name, one, other);
      differences.push({ kind: "different", name, digests, ...members });
    }
  }
  return differences;
}

function sourceOf(name: string, { size, read }: Package): ByteSource {
  return forwardSource(name, size, read);
}

async function membersOf(
  name: string,
  a: Package,
  b: Package,
): Promise<Pick<Extract<PackageDifference, { kind: "different" }>, "members" | "unread">> {
  try {
    return { members: await diffMembers(sourceOf(name, a), sourceOf(name, b)) };
  } catch (error) {
    if (error instanceof UserError && error.kind === "format") return { unread: error.message };
    throw error;
  }
}
