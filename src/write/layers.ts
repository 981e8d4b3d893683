// SPDX-License-Identifier: MIT
/**
 * Makes one layer of two that lie over one another, so that a guest that is saved for days has a few
 * layers, and what it has written over is not kept for ever.
 *
 * @module
 */

import { open } from "node:fs/promises";
import { throwIfInterrupted } from "../errors.ts";
import {
  type LayerBase,
  type LayerCluster,
  type Qcow2,
  qcow2,
  readQcow2,
} from "../format/qcow2.ts";
import type { ByteSource } from "../format/reader.ts";
import { openImage } from "../source/file.ts";

/** A cluster of the new layer, and where its data is. */
interface Found extends LayerCluster {
  readonly source: ByteSource;
  readonly at: number;
}

/** Bytes that are written at a time. */
const BATCH_BYTES = 1024 * 1024;

/**
 * Writes a layer that reads as the upper one over the lower one. It is not forced to the disk.
 *
 * @param paths Of the layers, and of the new one, which must not exist.
 * @param base What the lower one lies over.
 * @returns False where their clusters differ in size: nothing is written then.
 * @throws {UserError} "format" for what is no layer; "interrupt" if the signal is aborted, and what
 * was written remains.
 * @throws The system's error where it cannot be written.
 */
export async function mergeLayers(
  paths: { readonly lower: string; readonly upper: string; readonly into: string },
  base: LayerBase,
  signal?: AbortSignal,
): Promise<boolean> {
  const lower = openImage(paths.lower);
  try {
    const upper = openImage(paths.upper);
    try {
      const [below, above] = [readQcow2(lower), readQcow2(upper)];
      const { sizeBytes, clusterBytes } = above;
      if (below.clusterBytes !== clusterBytes || below.sizeBytes !== sizeBytes) return false;
      const clusters = clustersOf({ below, above, lower, upper });
      const head = qcow2(sizeBytes, base, clusterBytes, clusters);
      const file = await open(paths.into, "wx", 0o600);
      try {
        await file.writeFile(head);
        const batch = new Uint8Array(Math.max(BATCH_BYTES, clusterBytes));
        let filled = 0;
        for (const { isZero, source, at } of clusters) {
          if (isZero) continue;
          // The last cluster of a file may be cut where the disk ends; what is missing is zeros.
          const part = batch.subarray(filled, filled + clusterBytes).fill(0);
          source.read(at, part);
          filled += clusterBytes;
          if (filled < batch.length) continue;
          throwIfInterrupted(signal);
          await file.writeFile(batch);
          filled = 0;
        }
        await file.writeFile(batch.subarray(0, filled));
      } finally {
        await file.close();
      }
      return true;
    } finally {
      upper.close();
    }
  } finally {
    lower.close();
  }
}

/** The clusters that one of the layers has. */
function clustersOf(
  { below, above, lower, upper }: {
    readonly below: Qcow2;
    readonly above: Qcow2;
    readonly lower: ByteSource;
    readonly upper: ByteSource;
  },
): Found[] {
  const { sizeBytes, clusterBytes } = above;
  const found: Found[] = [];
  for (let index = 0; index * clusterBytes < sizeBytes; index++) {
    const first = above.find(index * clusterBytes);
    const isAbove = first.at !== "base";
    const second = isAbove ? first : below.find(index * clusterBytes);
    const { at } = second;
    if (at === "base") {
      // Where neither has a table, as in most of a large disk, both runs are long.
      const bytes = Math.min(first.sizeBytes, second.sizeBytes);
      index += Math.max(1, Math.floor(bytes / clusterBytes)) - 1;
      continue;
    }
    const source = isAbove ? upper : lower;
    const isZero = at === "zeros";
    found.push({ index, isZero, source, at: isZero ? 0 : at });
  }
  return found;
}
