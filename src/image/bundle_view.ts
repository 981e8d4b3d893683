// SPDX-License-Identifier: MIT
/**
 * A bundle as an {@link ImageView}.
 *
 * @module
 */

import type { BundleStructure } from "./types.ts";
import { headerAt, readLayout } from "./bundle.ts";
import { type PlacedMember, SUMS_PATH } from "../format/bundle.ts";
import { type ByteSource, readRange } from "../format/reader.ts";
import { storedRuns } from "./linear.ts";
import { type ImageView, type NodeEntry, plainPath } from "./types.ts";

/** Reports whether a source begins like a bundle. */
export function beginsLikeBundle(source: ByteSource): boolean {
  return headerAt(source, 0)?.name === SUMS_PATH;
}

/**
 * Opens a bundle as a view.
 *
 * @throws {UserError} "format" for a source that is no bundle, "verify" for a damaged index.
 */
export function openBundleView(source: ByteSource): ImageView {
  const layout = readLayout(source);
  const all = layout.members.map(toEntry);
  const byPath = new Map(all.map((entry) => [plainPath(entry.path), entry]));
  return {
    kind: "bundle",
    source,
    warnings: [],
    *entries(under) {
      for (const entry of all) {
        if (under === undefined || entry.path.startsWith(`${under}/`)) yield entry;
      }
    },
    *read(entry) {
      if (entry.kind === "file" && entry.dataOffset !== undefined) {
        yield* readRange(source, entry.dataOffset, entry.size);
      }
    },
    runs: storedRuns(source),
    find: (path) => byPath.get(path),
    verify(): BundleStructure {
      const files = all.filter(({ kind }) => kind === "file");
      return {
        kind: "bundle",
        files: files.length,
        directories: all.length - files.length,
        fileBytes: files.reduce((sum, { size }) => sum + size, 0),
        sizeBytes: layout.sizeBytes,
      };
    },
  };
}

/** Returns a member as tar would unpack it. */
function toEntry({ member, dataOffset, size }: PlacedMember, index: number): NodeEntry {
  const isFile = member.kind === "file";
  return {
    kind: member.kind,
    path: member.path,
    size,
    ...(isFile && { dataOffset }),
    inode: index + 1,
    mode: !isFile || member.isExecutable ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtime: 0,
    links: 1,
  };
}
