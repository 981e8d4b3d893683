// SPDX-License-Identifier: MIT
/**
 * Compares two images.
 *
 * @module
 */

import { KIB } from "../format/segment.ts";
import { diffText } from "./text_diff.ts";
import { digestEntry } from "./view.ts";
import { type ImageView, plainPath, type ViewEntry } from "./types.ts";

/** An aspect in which two entries differ. */
export type Aspect = "kind" | "size" | "content" | "mode" | "target";

/** A difference between two images; paths are as in {@link plainPath}. */
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
 * @throws {UserError} "format"
 */
export function diffViews(a: ImageView, b: ImageView): Difference[] {
  const [before, after] = [entriesOf(a), entriesOf(b)];
  const removed = [...before.values()].filter(({ path, kind }) => !after.has(key(path, kind)));
  const added = [...after.values()].filter(({ path, kind }) => !before.has(key(path, kind)));
  const moved = movedEntries(a, removed, b, added);
  const gone = new Set(moved.map(({ from }) => from));
  const come = new Set(moved.map(({ path }) => path));
  const single = (kind: "added" | "removed", entries: readonly ViewEntry[], left: Set<string>) =>
    entries.map((entry) => ({ kind, path: shown(entry), size: sizeOf(entry) }))
      .filter(({ path }) => !left.has(path));
  const differences: Difference[] = [
    ...single("removed", removed, gone),
    ...single("added", added, come),
    ...moved,
  ];
  for (const [path, entry] of before) {
    const other = after.get(path);
    const change = other && changeOf(a, entry, b, other);
    if (change !== undefined) differences.push(change);
  }
  return differences.sort((one, two) => one.path < two.path ? -1 : one.path > two.path ? 1 : 0);
}

/** Returns the entries by path, without the root; the last one of a path counts. */
function entriesOf(view: ImageView): Map<string, ViewEntry> {
  const entries = new Map<string, ViewEntry>();
  for (const entry of view.entries()) {
    const path = key(entry.path, entry.kind);
    if (path !== "") entries.set(path, entry);
  }
  return entries;
}

/** Returns the key of an entry. That of a command begins with a NUL, which no path does. */
function key(path: string, kind: ViewEntry["kind"]): string {
  return kind === "command" ? `\0${path}` : plainPath(path);
}

function shown({ path, kind }: ViewEntry): string {
  return kind === "command" ? path : plainPath(path);
}

function sizeOf(entry: ViewEntry): number {
  return entry.kind === "command" ? 0 : entry.size;
}

/** Pairs removed and added files of equal content; reads only files of a size that both have. */
function movedEntries(
  a: ImageView,
  removed: readonly ViewEntry[],
  b: ImageView,
  added: readonly ViewEntry[],
): Extract<Difference, { kind: "moved" }>[] {
  const isFile = (entry: ViewEntry) => entry.kind === "file" && entry.size > 0;
  const sizes = new Set(added.filter(isFile).map(sizeOf));
  const gone = new Map<string, ViewEntry[]>();
  for (const entry of removed.filter(isFile)) {
    if (!sizes.has(sizeOf(entry))) continue;
    const sha256 = digestEntry(a, entry);
    const alike = gone.get(sha256);
    if (alike === undefined) gone.set(sha256, [entry]);
    else alike.push(entry);
  }
  const left = new Set([...gone.values()].map(([first]) => sizeOf(first!)));
  const taken = new Map<string, number>();
  return added.filter((entry) => isFile(entry) && left.has(sizeOf(entry))).flatMap((entry) => {
    const sha256 = digestEntry(b, entry);
    const index = taken.get(sha256) ?? 0;
    const from = gone.get(sha256)?.[index];
    if (from === undefined) return [];
    taken.set(sha256, index + 1);
    return [{
      kind: "moved" as const,
      path: shown(entry),
      from: shown(from),
      size: sizeOf(entry),
      sha256,
    }];
  });
}

function changeOf(
  a: ImageView,
  before: ViewEntry,
  b: ImageView,
  after: ViewEntry,
): Difference | undefined {
  const sizes = [sizeOf(before), sizeOf(after)] as const;
  const aspects: Aspect[] = [];
  if (!isSameKind(before, after)) aspects.push("kind");
  if ("mode" in before && "mode" in after && before.mode !== after.mode) aspects.push("mode");
  if ("target" in before && "target" in after && before.target !== after.target) {
    aspects.push("target");
  }
  let digests: [string, string] | undefined;
  const areFiles = [before, after].every(({ kind }) => kind === "file" || kind === "empty");
  if (areFiles && sizes.some((size) => size > 0)) {
    if (sizes[0] !== sizes[1]) aspects.push("size");
    digests = [digestEntry(a, before), digestEntry(b, after)];
    if (digests[0] !== digests[1]) aspects.push("content");
    else digests = undefined;
  }
  if (aspects.length === 0) return undefined;
  const text = digests && textOf(a, before, b, after);
  return {
    kind: "changed",
    path: shown(before),
    aspects,
    sizes,
    ...(digests && { digests }),
    ...(text && { text }),
  };
}

/** An empty entry of a boot image can be a file or a directory, and matches both. */
function isSameKind(a: ViewEntry, b: ViewEntry): boolean {
  if (a.kind === b.kind) return true;
  const isOpen = (entry: ViewEntry) =>
    entry.kind === "empty" || entry.kind === "directory" || entry.kind === "file";
  return (a.kind === "empty" && isOpen(b)) || (b.kind === "empty" && isOpen(a));
}

function textOf(
  a: ImageView,
  before: ViewEntry,
  b: ImageView,
  after: ViewEntry,
): string[] | undefined {
  if (Math.max(sizeOf(before), sizeOf(after)) > MAX_TEXT_BYTES) return undefined;
  const texts = [readText(a, before), readText(b, after)];
  return texts[0] === undefined || texts[1] === undefined
    ? undefined
    : diffText(texts[0], texts[1]);
}

function readText(view: ImageView, entry: ViewEntry): string | undefined {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    let text = "";
    for (const part of view.read(entry)) text += decoder.decode(part, { stream: true });
    text += decoder.decode();
    return text.includes("\0") ? undefined : text;
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
