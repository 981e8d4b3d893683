// SPDX-License-Identifier: MIT
/**
 * Compares the packages of two runs.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { digestEntry } from "../image/view.ts";
import { type ReadView } from "../image/types.ts";
import { SUMS_NAME } from "../plan/restore.ts";
import { diffMembers, type MemberDifference } from "../archive/diff.ts";
import { forwardSource, type ReadBytes } from "../source/forward.ts";

/** A package of a run. */
export interface Package {
  readonly size: number;
  readonly digest: () => string;
  readonly read: ReadBytes;
}

/** Something with the name of a package that is none. */
export interface NoPackage {
  /** Such as "a symbolic link". */
  readonly what: string;
}

/** The content of a repository by name, without its directories. */
export type Packages = ReadonlyMap<string, Package | NoPackage>;

/** A difference between the packages of two runs. */
export type PackageDifference =
  | { readonly kind: "only in first" | "only in second"; readonly name: string }
  | {
    readonly kind: "no package";
    readonly name: string;
    /** What each run has of that name, such as "a fifo"; else "a file" or "nothing". */
    readonly found: readonly [string, string];
  }
  | {
    readonly kind: "different";
    readonly name: string;
    readonly digests: readonly [string, string];
    /** Members that differ; absent if an archive cannot be read. */
    readonly members?: readonly MemberDifference[];
    /** The reason why it cannot be read. */
    readonly unread?: string;
  };

/**
 * Finds the packages of a run.
 *
 * @param under Their directory in the view: "" for the directory of a harvest, which has them at
 * its top.
 */
export function packagesOf(view: ReadView, under: string): Packages {
  const packages = new Map<string, Package | NoPackage>();
  const start = under === "" ? 1 : under.length + 2;
  for (const entry of view.entries(under)) {
    const name = entry.path.slice(start);
    if (entry.kind === "directory" || name === SUMS_NAME) continue;
    if (entry.kind !== "file") {
      packages.set(name, noPackage(entry.kind));
      continue;
    }
    packages.set(name, {
      size: entry.size,
      digest: () => digestEntry(view, entry),
      read: () => view.read(entry),
    });
  }
  return packages;
}

function noPackage(kind: string): NoPackage {
  return { what: kind === "symlink" ? "a symbolic link" : `a ${kind}` };
}

/**
 * Compares the packages of two runs.
 *
 * @returns The differences, by name.
 * @throws {UserError} "format", "target", if a package cannot be read at all.
 */
export async function diffPackages(
  a: Packages,
  b: Packages,
): Promise<PackageDifference[]> {
  const differences: PackageDifference[] = [];
  for (const name of [...new Set([...a.keys(), ...b.keys()])].sort()) {
    const [one, other] = [a.get(name), b.get(name)];
    if (!isFileOrNothing(one) || !isFileOrNothing(other)) {
      const found = [nameOf(one), nameOf(other)] as const;
      differences.push({ kind: "no package", name, found });
    } else if (one === undefined) differences.push({ kind: "only in second", name });
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

function isFileOrNothing(found: Package | NoPackage | undefined): found is Package | undefined {
  return found === undefined || "digest" in found;
}

function nameOf(found: Package | NoPackage | undefined): string {
  return found === undefined ? "nothing" : "what" in found ? found.what : "a file";
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
