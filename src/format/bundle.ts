// SPDX-License-Identifier: MIT
/**
 * bundle: a tar file with everything for an offline site. Its index determines or covers by a
 * digest every byte.
 *
 *   bundle = sums index member* 00{1024}
 *   sums   = "seedstrap-bundle/SHA256SUMS": of every other file, in the format of sha256sum(1)
 *   index  = "seedstrap-bundle/plan.json"
 *   member = a file or directory, sorted by the bytes of its path; a directory comes before its
 *            content, and every directory has a member
 *
 * The checkout is at the top, with its distfiles in `distfiles/`, so that any tar unpacks the
 * bundle to a checkout; the rest is below `seedstrap-bundle/`. Members are as `tarHeader()` writes
 * them: owner 0, time 0, no links, modes 644 and 755.
 *
 * The index lists path, kind, size, SHA-256 and mode of each member after it, so that a reader
 * finds every member without reading a header. SHA256SUMS has the digest of the index, from which
 * everything else follows: a signature of SHA256SUMS covers every byte.
 *
 * A bundle may be split into parts NAME.001, NAME.002 and so on, which are the bundle when they are
 * concatenated.
 *
 * @module
 */

import * as v from "valibot";
import { compareBytes, sha256Of, sortedByBytes } from "../bytes.ts";
import { UserError } from "../errors.ts";
import { anyText, bool, list, openObject, parseJson, sha256, size } from "../json.ts";
import { paddingTo, type Segment, textSegment, totalSize } from "./segment.ts";
import { formatSums } from "./sums.ts";
import { TAR_BLOCK_BYTES, tarHeader, type TarMember } from "./tar.ts";

/** Directory for the files that are not part of the checkout. */
export const BUNDLE_DIR = "seedstrap-bundle";
export const SUMS_PATH = `${BUNDLE_DIR}/SHA256SUMS`;
export const INDEX_PATH = `${BUNDLE_DIR}/plan.json`;
/** Directory of the images of a target, and their record. */
export const IMAGES_DIR = `${BUNDLE_DIR}/images`;
/** Directory of the distfiles. */
export const DISTFILES_DIR = "distfiles";

const FORMAT = "seedstrap-bundle/1";
/** Zeros that end a tar file. */
export const END_BYTES = 2 * TAR_BLOCK_BYTES;
/** Longest SHA256SUMS and index: live-bootstrap's have less than one MiB. */
export const MAX_INDEX_BYTES = 32 * 1024 * 1024;
/** PATH_MAX. */
const MAX_PATH_BYTES = 4095;

const bundleMember = v.variant("kind", [
  openObject({
    kind: v.literal("file"),
    path: anyText,
    /** In bytes. */
    size,
    /** Lower-case hex. */
    sha256,
    isExecutable: bool,
  }),
  openObject({ kind: v.literal("directory"), path: anyText }),
]);

/** A file or directory of a bundle. */
export type BundleMember = v.InferOutput<typeof bundleMember>;

const bundledDistfile = openObject({
  name: anyText,
  sha256,
  urls: list(anyText),
  steps: list(anyText),
  /** Whether it is in the bundle; those first used after the network is up may be left out. */
  isBundled: bool,
});

/** A distfile, with its URLs and steps in the checkout. */
export type BundledDistfile = v.InferOutput<typeof bundledDistfile>;

const bundleIndex = openObject({
  format: v.literal(FORMAT),
  /** Version of the seedstrap that made it. */
  seedstrap: anyText,
  /** Builds from it are for machines without a network, unless they are told otherwise. */
  airGapped: v.exactOptional(v.literal(true)),
  distfiles: list(bundledDistfile),
  /** All members but SHA256SUMS and the index, in order. */
  members: list(bundleMember),
});

/** The index of a bundle. */
export type BundleIndex = v.InferOutput<typeof bundleIndex>;

/** A member with its offsets in the bundle. */
export interface PlacedMember {
  readonly member: BundleMember;
  readonly headerOffset: number;
  readonly dataOffset: number;
  /** Bytes of the data; 0 for a directory. */
  readonly size: number;
}

/** The layout of a bundle: its two texts, and the offsets of its members. */
export interface BundleLayout {
  readonly index: BundleIndex;
  readonly sumsText: string;
  readonly indexText: string;
  /** SHA256SUMS and the index first. */
  readonly members: readonly PlacedMember[];
  /** Offset of the zeros at the end. */
  readonly endOffset: number;
  readonly sizeBytes: number;
}

/**
 * Makes an index.
 *
 * @param members In any order.
 * @throws {UserError} "usage" for members that a bundle cannot have.
 */
export function makeIndex(
  seedstrap: string,
  distfiles: readonly BundledDistfile[],
  members: readonly BundleMember[],
  airGapped = false,
): BundleIndex {
  const sorted = sortByPath(members);
  const fault = membersFault(sorted);
  if (fault !== undefined) throw new UserError("usage", `Cannot make this bundle: ${fault}`);
  const marks = airGapped ? { airGapped } as const : {};
  return { format: FORMAT, seedstrap, ...marks, distfiles, members: sorted };
}

/** Returns entries sorted by the bytes of their paths. */
export function sortByPath<T extends { readonly path: string }>(entries: readonly T[]): T[] {
  return sortedByBytes(entries, ({ path }) => path);
}

/**
 * Computes the layout of a bundle.
 *
 * @param indexText Text of the index, if it was read from a bundle.
 */
export function layOut(
  index: BundleIndex,
  indexText = `${JSON.stringify(index, null, 1)}\n`,
): BundleLayout {
  const indexMember = textMember(INDEX_PATH, indexText);
  const sumsText = formatSums(
    [indexMember, ...index.members].filter((member) => member.kind === "file"),
  );
  let offset = 0;
  const members = [textMember(SUMS_PATH, sumsText), indexMember, ...index.members].map((member) => {
    const { size } = tarMember(member);
    const headerOffset = offset;
    const dataOffset = offset + memberHeader(member).length;
    offset = dataOffset + size + totalSize(paddingTo(size, TAR_BLOCK_BYTES));
    return { member, headerOffset, dataOffset, size };
  });
  return { index, sumsText, indexText, members, endOffset: offset, sizeBytes: offset + END_BYTES };
}

/** Returns the header of a member. */
export function memberHeader(member: BundleMember): Uint8Array {
  return tarHeader(tarMember(member));
}

/**
 * Returns a bundle as segments.
 *
 * @param bodyOf Returns the data of a file of the index.
 */
export function bundleSegments(
  { sumsText, indexText, members }: BundleLayout,
  bodyOf: (path: string) => readonly Segment[],
): Segment[] {
  const texts = new Map([[SUMS_PATH, sumsText], [INDEX_PATH, indexText]]);
  const segments = members.flatMap(({ member, size }): Segment[] => {
    const header = { kind: "bytes", bytes: memberHeader(member) } as const;
    if (member.kind === "directory") return [header];
    const text = texts.get(member.path);
    const body = text === undefined ? bodyOf(member.path) : [textSegment(text)];
    if (totalSize(body) !== size) throw new Error(`${member.path} has another size than its index`);
    return [header, ...body, ...paddingTo(size, TAR_BLOCK_BYTES)];
  });
  return [...segments, { kind: "zeros", sizeBytes: END_BYTES }];
}

/**
 * Parses the index of a bundle.
 *
 * @returns The index, or a message that says what is wrong with it.
 */
export function parseIndex(text: string): BundleIndex | string {
  const index = parseJson(bundleIndex, text);
  return typeof index === "string" ? index : membersFault(index.members) ?? index;
}

/** Says what is wrong with the members of an index; undefined if nothing is. */
function membersFault(members: readonly BundleMember[]): string | undefined {
  const encoder = new TextEncoder();
  const directories = new Set([""]);
  let before = new Uint8Array();
  let total = 0;
  for (const member of members) {
    const { path } = member;
    const shown = JSON.stringify(path);
    const key = encoder.encode(path);
    const parts = path.split("/");
    if (parts.some((part) => part === "" || part === "." || part === "..")) {
      return `${shown} is not a plain relative path`;
    }
    if (/[\0\n\r]/.test(path) || !path.isWellFormed() || key.length > MAX_PATH_BYTES) {
      return `${shown} cannot be a path`;
    }
    if (path === SUMS_PATH || path === INDEX_PATH) return `${shown} is reserved for the bundle`;
    if (compareBytes(before, key) >= 0) return `${shown} is a duplicate, or out of order`;
    if (!directories.has(parts.slice(0, -1).join("/"))) return `${shown} is in no directory`;
    if (member.kind === "directory") directories.add(path);
    else total += member.size;
    if (!Number.isSafeInteger(total)) return "its sizes add up to 2^53 bytes or more";
    before = key;
  }
  return directories.has(BUNDLE_DIR) ? undefined : `there is no directory ${BUNDLE_DIR}`;
}

function tarMember(member: BundleMember): TarMember {
  return member.kind === "file" ? member : { ...member, size: 0, isExecutable: true };
}

function textMember(path: string, text: string): BundleMember & { kind: "file" } {
  const bytes = new TextEncoder().encode(text);
  const sha256 = sha256Of(bytes);
  return { kind: "file", path, size: bytes.length, sha256, isExecutable: false };
}
