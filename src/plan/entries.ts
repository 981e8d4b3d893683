// SPDX-License-Identifier: MIT
/**
 * The entries of the boot image.
 *
 * @module
 */

import { compareBytes } from "../format/payload.ts";
import type { TreeModel } from "../tree/model.ts";
import type { PlannedDistfile, PlannedEntry } from "./types.ts";

/** Everything in the boot image: bytewise by path, a directory ahead of its content. */
export function bootEntries(
  tree: TreeModel,
  distfiles: readonly PlannedDistfile[],
  overlay: ReadonlyMap<string, Uint8Array>,
): PlannedEntry[] {
  const entries = new Map<string, PlannedEntry>();
  const add = (entry: PlannedEntry) => entries.set(entry.path, entry);
  add(directory("."));
  for (const { path, kind, source, size } of tree.files) {
    add(
      kind === "directory"
        ? directory(`./${path}`)
        : { path: `./${path}`, content: { kind: "tree", source }, size },
    );
  }
  for (const [path, bytes] of overlay) {
    for (const parent of parents(path)) add(directory(`./${parent}`));
    add({ path: `./${path}`, content: { kind: "generated", bytes }, size: bytes.length });
  }
  add(directory("./external"));
  add(directory("./external/distfiles"));
  for (const { name, place, size } of distfiles) {
    if (place !== "boot") continue;
    add({
      path: `./external/distfiles/${name}`,
      content: { kind: "distfile", name },
      size: size ?? 0,
    });
  }
  const encoder = new TextEncoder();
  return [...entries.values()].map((entry) => ({ entry, key: encoder.encode(entry.path) }))
    .sort((a, b) => compareBytes(a.key, b.key)).map(({ entry }) => entry);
}

/** The directories above a path, outermost first. */
function parents(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}

function directory(path: string): PlannedEntry {
  return { path, content: { kind: "directory" }, size: 0 };
}
