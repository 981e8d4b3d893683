// SPDX-License-Identifier: MIT
/**
 * One interface to images of every kind, for the commands. A new kind needs a module that returns
 * an {@link ImageView}, and a case in {@link openView}.
 *
 * @module
 */

import {
  type ImageView,
  plainPath,
  type ReadView,
  type ViewEntry,
  type ViewKind,
} from "./types.ts";
import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import type { Progress } from "../progress.ts";
import { type ByteSource, readRange, sliceOf } from "../format/reader.ts";
import { MIB } from "../format/segment.ts";
import { beginsLikeBundle, openBundleView } from "./bundle_view.ts";
import { openDisk } from "./disk.ts";
import { detectImage, readImage, storedRuns, verifyImage } from "./linear.ts";
import { type LinearKind } from "./types.ts";

/**
 * Opens an image or a bundle as a view.
 *
 * @param kind Its kind; detected where absent.
 * @throws {UserError} "format" for a source that is neither.
 */
export function openView(
  source: ByteSource & { readonly isDevice?: boolean },
  kind: ViewKind = beginsLikeBundle(source) ? "bundle" : detectImage(source),
): ImageView {
  switch (kind) {
    case "bundle":
      return openBundleView(source);
    case "disk":
      return openDisk(source);
    default:
      return linearView(source, kind);
  }
}

function linearView(
  source: ByteSource & { readonly isDevice?: boolean },
  kind: LinearKind,
): ImageView {
  function* entries(under?: string): Generator<ViewEntry, void, undefined> {
    for (const entry of readImage(source, kind)) {
      if (under === undefined || plainPath(entry.path).startsWith(`${under}/`)) yield entry;
    }
  }
  return {
    kind,
    source,
    warnings: [],
    entries,
    *read(entry) {
      if (entry.kind === "file" && entry.dataOffset !== undefined) {
        yield* readRange(source, entry.dataOffset, entry.size);
      }
    },
    runs: storedRuns(source),
    find(path) {
      let found: ViewEntry | undefined;
      for (const entry of entries()) {
        if (entry.kind !== "command" && plainPath(entry.path) === path) found = entry;
      }
      return found;
    },
    verify() {
      if (!source.isDevice) return verifyImage(source, kind);
      // After the image is old data of the device; an image has a whole number of MiB.
      const walk = readImage(source, kind);
      let step = walk.next();
      while (!step.done) step = walk.next();
      const { endOffset } = step.value.at(-1)!;
      const end = Math.min(source.sizeBytes, Math.ceil(endOffset / MIB) * MIB);
      return verifyImage(sliceOf(source, 0, end), kind);
    },
  };
}

/** Returns the same view; the content of files that is read counts as done, and nothing else. */
export function watchedView<V extends ReadView>(view: V, progress: Progress): V {
  return {
    ...view,
    *read(entry) {
      for (const part of view.read(entry)) {
        progress.add(part.length);
        yield part;
      }
    },
  };
}

/**
 * Finds an entry.
 *
 * @param path As `image ls` prints it; a leading `./` or slash may be left out.
 * @throws {UserError} "usage" where there is none.
 */
export function findEntry(view: ImageView, path: string): ViewEntry {
  const plain = plainPath(path);
  const found = plain === "" ? undefined : view.find(plain);
  if (found !== undefined) return found;
  throw new UserError("usage", `Cannot find ${JSON.stringify(path)} in ${view.source.name}`, {
    hint: `${shellQuote(["seedstrap", "image", "ls", view.source.name])} lists what is there`,
  });
}

/** Returns the SHA-256 of the content of a file. */
export function digestEntry(view: ReadView, entry: ViewEntry): string {
  const hash = createHash("sha256");
  for (const part of view.read(entry)) hash.update(part);
  return hash.digest("hex");
}
