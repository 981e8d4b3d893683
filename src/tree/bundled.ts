// SPDX-License-Identifier: MIT
/**
 * Reads a checkout in a bundle, in place, through the index of the bundle.
 *
 * @module
 */

import { dirname, join } from "node:path";
import {
  type Bundle,
  bundledFile,
  digestBundled,
  isBundle,
  openBundle,
  readBundled,
} from "../image/bundle.ts";
import { findParts } from "../source/parts.ts";
import { UserError } from "../errors.ts";
import { tooLong } from "../read.ts";
import { BUNDLE_DIR, DISTFILES_DIR, type PlacedMember } from "../format/bundle.ts";
import type { BundledFile } from "../format/segment.ts";
import { statIfThere } from "../runtime/stat.ts";
import type { TreeEntry } from "./entry.ts";

/** The bundle that was read last, and the state of its files at that time. */
let last: { readonly root: string; readonly state: string; readonly bundle: Bundle } | undefined;

/**
 * Reads the index of the bundle at a path.
 *
 * @param root Absolute.
 * @returns undefined if the path is a directory, or nothing is there.
 * @throws {UserError} "verify" if the index is damaged.
 */
export function bundleAt(root: string): Bundle | undefined {
  if (statIfThere(root, { kind: "tree" })?.isDirectory()) return undefined;
  const parts = findParts(root);
  if (parts === undefined) return undefined;
  const state = parts.map(({ path }) => {
    const stat = statIfThere(path);
    return `${path}\0${stat?.dev} ${stat?.ino} ${stat?.size} ${stat?.mtimeMs} ${stat?.ctimeMs}`;
  }).join("\0");
  if (last?.root === root && last.state === state) return last.bundle;
  if (!isBundle(parts[0]!.path)) return undefined;
  last = { root, state, bundle: openBundle(root) };
  return last.bundle;
}

/**
 * Reports whether a checkout is in a bundle for machines without a network.
 *
 * @param root Absolute.
 * @throws {UserError} "verify" if the index is damaged.
 */
export function isForAirGap(root: string): boolean {
  return bundleAt(root)?.layout.index.airGapped === true;
}

/** Reports whether a bundle has a file with that path. */
export function hasBundled(bundle: Bundle, path: string): boolean {
  return bundle.members.get(path)?.member.kind === "file";
}

/** Reports whether a directory of a bundle has anything in it. */
export function holdsBundled(bundle: Bundle, path: string): boolean {
  return bundle.layout.members.some(({ member }) => member.path.startsWith(`${path}/`));
}

/**
 * Reads a whole file of a bundle.
 *
 * @param source Its name in messages.
 * @param limitBytes Most bytes that it may have.
 * @throws {UserError} "tree" if it is missing or longer, "verify" if its SHA-256 is wrong.
 */
export function readBundledFile(
  bundle: Bundle,
  path: string,
  source: string,
  limitBytes: number,
): Uint8Array {
  const placed = fileAt(bundle, path, source);
  if (placed.size <= limitBytes) return readBundled(bundle, placed);
  throw tooLong(`read ${path}`, source, "tree", `${placed.size} bytes`, limitBytes);
}

/**
 * SHA-256 of a file of a bundle, as it is now.
 *
 * @throws {UserError} "tree" if it is missing, "verify" if it is not that of the index.
 */
export function digestBundledFile(bundle: Bundle, path: string, source: string): string {
  return digestBundled(bundle, fileAt(bundle, path, source));
}

function fileAt(bundle: Bundle, path: string, source: string): PlacedMember {
  const placed = bundle.members.get(path);
  if (placed?.member.kind === "file") return placed;
  throw new UserError("tree", `Cannot read the checkout: there is no file ${path} in the bundle`, {
    where: source,
    hint: "Make the bundle again from a complete checkout",
  });
}

/**
 * Lists everything below a directory of a bundle, like `walkTree()`.
 *
 * @throws {UserError} "tree" if there is no such directory.
 */
export function walkBundle(
  bundle: Bundle,
  root: string,
  path: string,
  skips: (path: string) => boolean,
): TreeEntry[] {
  if (path !== "" && bundle.members.get(path)?.member.kind !== "directory") {
    throw new UserError("tree", `Cannot read the checkout: there is no directory ${path} in it`, {
      where: join(root, path),
      hint: "Make the bundle again from a complete checkout",
    });
  }
  const prefix = path === "" ? "" : `${path}/`;
  // Parents come first.
  const skipped = new Set<string>();
  return bundle.layout.members.flatMap((placed): TreeEntry[] => {
    const { member, size } = placed;
    if (!member.path.startsWith(prefix) || isOfBundle(member.path)) return [];
    if (skipped.has(dirname(member.path)) || skips(member.path)) {
      skipped.add(member.path);
      return [];
    }
    const entry = {
      path: member.path.slice(prefix.length),
      kind: member.kind,
      source: join(root, member.path),
      sizeBytes: size,
    };
    if (member.kind === "directory") return [{ ...entry, isExecutable: true }];
    const { isExecutable } = member;
    return [{ ...entry, isExecutable, bundled: bundledFile(bundle, placed) }];
  });
}

/** A distfile in the bundle of a checkout. */
export interface BundledDistfileFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly bundled: BundledFile;
}

/**
 * Finds a distfile in the bundle of a checkout: under its name, or under any name with the same
 * SHA-256.
 */
export function findBundledDistfile(
  bundle: Bundle,
  name: string,
  sha256: string,
): BundledDistfileFile | undefined {
  const named = bundle.members.get(`${DISTFILES_DIR}/${name}`);
  const placed = isDistfile(named, sha256) ? named : distfilesOf(bundle).get(sha256);
  if (placed === undefined) return undefined;
  return { path: bundle.path, sizeBytes: placed.size, bundled: bundledFile(bundle, placed) };
}

/** The first distfile of each SHA-256, by bundle. */
const byDigest = new WeakMap<Bundle, ReadonlyMap<string, PlacedMember>>();

function distfilesOf(bundle: Bundle): ReadonlyMap<string, PlacedMember> {
  const known = byDigest.get(bundle);
  if (known !== undefined) return known;
  const found = new Map<string, PlacedMember>();
  for (const placed of bundle.layout.members) {
    const { member } = placed;
    if (member.kind !== "file" || found.has(member.sha256)) continue;
    if (isDistfile(placed, member.sha256)) found.set(member.sha256, placed);
  }
  byDigest.set(bundle, found);
  return found;
}

function isDistfile(placed: PlacedMember | undefined, sha256: string) {
  return placed?.member.kind === "file" && placed.member.sha256 === sha256 &&
    placed.member.path.startsWith(`${DISTFILES_DIR}/`);
}

function isOfBundle(path: string): boolean {
  return path === BUNDLE_DIR || path.startsWith(`${BUNDLE_DIR}/`);
}
