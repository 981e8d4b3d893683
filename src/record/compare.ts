// SPDX-License-Identifier: MIT
/**
 * Compares two records of the same build. Pure.
 *
 * @module
 */

import type { RecordedFile, TargetRecord } from "./types.ts";
import { dependenciesOf, type Resource, subjectsOf } from "./statement.ts";

/** An input or output whose digest differs. */
export interface DigestDifference {
  readonly name: string;
  /** The digest in the record; absent if the record does not name it. */
  readonly stated?: string;
  /** The digest that was found; absent if there is no such input or output. */
  readonly found?: string;
}

/** An output that differs, with the files in it that do. */
export interface SubjectDifference extends DigestDifference {
  /** Empty if an image differs only outside its files. */
  readonly files: readonly DigestDifference[];
}

/** The result of a comparison of a build with its record. */
export interface RecordComparison {
  /** Whether everything that was built has the stated digest. */
  readonly same: boolean;
  /** How many outputs were compared. */
  readonly compared: number;
  readonly subjects: readonly SubjectDifference[];
  /** Inputs that differ: checkout, commits, packages, kernel, archive, distfiles, builder. */
  readonly materials: readonly DigestDifference[];
}

/** Compares what was stated with what was found. */
export function compareRecords(stated: TargetRecord, found: TargetRecord): RecordComparison {
  const filesOf = ({ images }: TargetRecord, name: string) =>
    images.find((image) => image.name === name)?.files ?? [];
  const subjects = differences(named(subjectsOf(stated)), named(subjectsOf(found)))
    .map((difference): SubjectDifference => ({
      ...difference,
      files: differences(
        digests(filesOf(stated, difference.name)),
        digests(filesOf(found, difference.name)),
      ),
    }));
  const materials = differences(
    new Map([...named(dependenciesOf(stated)), ...builderOf(stated, found)]),
    new Map([...named(dependenciesOf(found)), ...builderOf(found, stated)]),
  );
  const compared = subjectsOf(found).length;
  return { same: subjects.length === 0, compared, subjects, materials };
}

function builderOf(
  { seedstrap, builderSha256, mke2fs }: TargetRecord,
  other: TargetRecord,
): [string, string][] {
  // An mke2fs of unknown version does not count as another one.
  const isTold = mke2fs !== undefined && other.mke2fs !== undefined;
  return [
    ["seedstrap's version", seedstrap],
    ["seedstrap's binary", builderSha256 === undefined ? "none: from source" : builderSha256],
    ...(isTold ? [["mke2fs", mke2fs] satisfies [string, string]] : []),
  ];
}

/** Returns the digests of resources as text, by name; numbers in annotations are part of it. */
function named(resources: readonly Resource[]): Map<string, string> {
  return new Map(
    resources.map(({ name, digest, annotations }) => [
      name,
      [
        ...Object.entries(digest).map(([key, value]) => `${key} ${value}`),
        ...Object.entries(annotations ?? {})
          .flatMap(([key, value]) => typeof value === "number" ? [`${key} ${value}`] : []),
      ].join(", "),
    ]),
  );
}

function digests(files: readonly RecordedFile[]): Map<string, string> {
  return new Map(files.map(({ path, sha256 }) => [path, sha256]));
}

function differences(
  stated: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
): DigestDifference[] {
  return [...new Set([...stated.keys(), ...found.keys()])].flatMap((name) => {
    const [before, now] = [stated.get(name), found.get(name)];
    if (before === now) return [];
    return [{
      name,
      ...(before !== undefined && { stated: before }),
      ...(now !== undefined && { found: now }),
    }];
  });
}
