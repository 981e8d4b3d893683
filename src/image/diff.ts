// SPDX-License-Identifier: MIT
/**
 * Compares two images.
 *
 * @module
 */

import { KIB } from "../format/segment.ts";
import { diffText } from "./text_diff.ts";
import type { EntryOptions } from "./digests.ts";
import { type Compared, Pairs, type Side } from "./pairs.ts";
import type { ImageView } from "./types.ts";

/** An aspect in which two entries differ. */
export type Aspect = "kind" | "size" | "content" | "mode" | "target";

/** A difference between two images; paths are as in `plainPath()`. */
export type Difference =
  | { readonly kind: "added" | "removed"; readonly path: string; readonly size: number }
  | {
    readonly kind: "moved";
    readonly path: string;
    /** Path of the same content in the first image. */
    readonly from: string;
    readonly size: number;
    readonly sha256: string;
  }
  | {
    readonly kind: "changed";
    readonly path: string;
    readonly aspects: readonly Aspect[];
    readonly sizes: readonly [before: number, after: number];
    readonly digests?: readonly [before: string, after: string];
    /** Hunks of a unified diff, where both are small texts. */
    readonly text?: readonly string[];
  };

/** The largest text of which a diff is made. */
const MAX_TEXT_BYTES = 64 * KIB;

/**
 * Compares two images of any kinds. Offsets, owners and times are not compared, nor is anything
 * that only one of the kinds has.
 *
 * @returns Removed, added, moved and changed entries, sorted by path.
 * @throws {UserError} "format"; "interrupt"
 */
export async function diffViews(
  a: ImageView,
  b: ImageView,
  options: EntryOptions = {},
): Promise<Difference[]> {
  const pairs = new Pairs(a, b);
  const removed: number[] = [];
  const added: number[] = [];
  for (let number = 0; number < pairs.count; number++) {
    if (!pairs.has(1, number)) removed.push(number);
    else if (!pairs.has(0, number)) added.push(number);
  }
  const single = (kind: "added" | "removed", side: Side, number: number): Difference => ({
    kind,
    path: pairs.path(number),
    size: pairs.get(side, number).size,
  });
  const { moved, gone, come } = await movedEntries(pairs, removed, added, options);
  const differences: Difference[] = moved;
  for (const number of removed) {
    if (!gone.has(number)) differences.push(single("removed", 0, number));
  }
  for (const number of added) {
    if (!come.has(number)) differences.push(single("added", 1, number));
  }
  for await (const change of changes(pairs, options)) differences.push(change);
  return differences.sort((one, two) => one.path < two.path ? -1 : one.path > two.path ? 1 : 0);
}

/** What has gone in one place and come in another; only sizes that are in both are read. */
async function movedEntries(
  pairs: Pairs,
  removed: readonly number[],
  added: readonly number[],
  options: EntryOptions,
): Promise<{
  readonly moved: Difference[];
  /** Numbers of what has moved: where it was, and where it is. */
  readonly gone: ReadonlySet<number>;
  readonly come: ReadonlySet<number>;
}> {
  const sizeOf = (side: Side, number: number) => {
    const { kind, size } = pairs.get(side, number);
    return kind === "file" ? size : 0;
  };
  const sizes = new Set(added.map((number) => sizeOf(1, number)));
  const before = new Map<string, number[]>();
  const maybeGone = removed.filter((number) => {
    const size = sizeOf(0, number);
    return size > 0 && sizes.has(size);
  });
  let goneSeen = 0;
  for await (const sha256 of pairs.digests(0, maybeGone, options)) {
    const number = maybeGone[goneSeen++]!;
    const alike = before.get(sha256);
    if (alike === undefined) before.set(sha256, [number]);
    else alike.push(number);
  }
  const left = new Set([...before.values()].map(([first]) => sizeOf(0, first!)));
  const taken = new Map<string, number>();
  const moved: Difference[] = [];
  const gone = new Set<number>();
  const come = new Set<number>();
  const maybeCome = added.filter((number) => {
    const size = sizeOf(1, number);
    return size > 0 && left.has(size);
  });
  let comeSeen = 0;
  for await (const sha256 of pairs.digests(1, maybeCome, options)) {
    const number = maybeCome[comeSeen++]!;
    const index = taken.get(sha256) ?? 0;
    const from = before.get(sha256)?.[index];
    if (from === undefined) continue;
    taken.set(sha256, index + 1);
    gone.add(from);
    come.add(number);
    moved.push({
      kind: "moved",
      path: pairs.path(number),
      from: pairs.path(from),
      size: sizeOf(1, number),
      sha256,
    });
  }
  return { moved, gone, come };
}

/** Compares the entries that both images have. */
async function* changes(
  pairs: Pairs,
  options: EntryOptions,
): AsyncGenerator<Difference, void, undefined> {
  const both = function* () {
    for (let number = 0; number < pairs.count; number++) {
      if (pairs.has(0, number) && pairs.has(1, number)) yield number;
    }
  };
  const withContent = function* () {
    for (const number of both()) if (hasContent(pairs, number)) yield number;
  };
  const before = pairs.digests(0, withContent(), options);
  const after = pairs.digests(1, withContent(), options);
  try {
    for (const number of both()) {
      const digests = hasContent(pairs, number)
        ? [(await before.next()).value!, (await after.next()).value!] as const
        : undefined;
      const change = changeOf(pairs, number, digests);
      if (change !== undefined) yield change;
    }
  } finally {
    await Promise.all([before.return(), after.return()]);
  }
}

/** Reports whether both sides of a path may be files, and one is not empty. */
function hasContent(pairs: Pairs, number: number): boolean {
  const sides = [pairs.get(0, number), pairs.get(1, number)];
  return sides.every(({ kind }) => kind === "file" || kind === "empty") &&
    sides.some(({ size }) => size > 0);
}

function changeOf(
  pairs: Pairs,
  number: number,
  digests: readonly [before: string, after: string] | undefined,
): Difference | undefined {
  const [before, after] = [pairs.get(0, number), pairs.get(1, number)];
  const sizes = [before.size, after.size] as const;
  const aspects: Aspect[] = [];
  if (!isSameKind(before, after)) aspects.push("kind");
  const isOther = <T>(one: T | undefined, other: T | undefined) =>
    one !== undefined && other !== undefined && one !== other;
  if (isOther(before.mode, after.mode)) aspects.push("mode");
  if (isOther(before.target, after.target)) aspects.push("target");
  if (digests !== undefined && sizes[0] !== sizes[1]) aspects.push("size");
  const isChanged = digests !== undefined && digests[0] !== digests[1];
  if (isChanged) aspects.push("content");
  if (aspects.length === 0) return undefined;
  const text = isChanged ? textOf(pairs, number, sizes) : undefined;
  return {
    kind: "changed",
    path: pairs.path(number),
    aspects,
    sizes,
    ...(isChanged && { digests }),
    ...(text && { text }),
  };
}

/** An empty entry of a boot image can be a file or a directory, and matches both. */
function isSameKind(a: Compared, b: Compared): boolean {
  if (a.kind === b.kind) return true;
  const isOpen = ({ kind }: Compared) =>
    kind === "empty" || kind === "directory" || kind === "file";
  return (a.kind === "empty" && isOpen(b)) || (b.kind === "empty" && isOpen(a));
}

function textOf(
  pairs: Pairs,
  number: number,
  sizes: readonly [before: number, after: number],
): string[] | undefined {
  if (Math.max(...sizes) > MAX_TEXT_BYTES) return undefined;
  const texts = [readText(pairs, 0, number), readText(pairs, 1, number)];
  return texts[0] === undefined || texts[1] === undefined
    ? undefined
    : diffText(texts[0], texts[1]);
}

function readText(pairs: Pairs, side: Side, number: number): string | undefined {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    let text = "";
    for (const part of pairs.read(side, number)) text += decoder.decode(part, { stream: true });
    text += decoder.decode();
    return text.includes("\0") ? undefined : text;
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
