// SPDX-License-Identifier: MIT
/**
 * A disk in layers as one byte source: what a guest has written, over the image that it began with.
 *
 * @module
 */

import { type FileSource, openImage } from "./file.ts";
import { type ByteSource, formatError, readExactly } from "../format/reader.ts";
import { type Qcow2, readQcow2 } from "../format/qcow2.ts";

/**
 * Opens a disk.
 *
 * What the headers of the layers say of their bases is not followed: they may come from anywhere.
 *
 * @param base The image below all layers.
 * @param layers Paths of the layers, the lowest first.
 * @throws {UserError} "target" where a file cannot be read, "format" for what is no layer of it.
 */
export function openLayers(base: string, layers: readonly string[]): FileSource {
  const opened: FileSource[] = [];
  const close = () => {
    for (const source of opened.splice(0)) source.close();
  };
  try {
    const image = openImage(base);
    opened.push(image);
    let top: ByteSource = image;
    for (const path of layers) {
      const file = openImage(path);
      opened.push(file);
      top = over(top, file);
    }
    return { ...top, name: layers.at(-1) ?? base, isDevice: false, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** A source over a layer and what is below it. */
function over(base: ByteSource, file: ByteSource): ByteSource {
  const layer = readQcow2(file);
  // An image may end within a sector; QEMU rounds a disk up.
  if (layer.sizeBytes < base.sizeBytes || layer.sizeBytes - base.sizeBytes >= SECTOR_BYTES) {
    throw formatError(
      file,
      24,
      `Cannot use a layer: it is of a disk of ${layer.sizeBytes} bytes, over one of ` +
        `${base.sizeBytes} bytes`,
    );
  }
  return {
    name: file.name,
    sizeBytes: base.sizeBytes,
    read: (offset, into) => {
      const most = Math.max(0, Math.min(into.length, base.sizeBytes - offset));
      for (let done = 0; done < most;) {
        const run = runAt(layer, offset + done, most - done);
        const part = into.subarray(done, done + run.sizeBytes);
        if (run.at === "zeros") part.fill(0);
        else if (run.at === "base") base.read(offset + done, part);
        else if (readExactly(file, run.at, part) === undefined) {
          throw formatError(file, run.at, "Cannot read a layer: it was cut");
        }
        done += run.sizeBytes;
      }
      return most;
    },
    ...(base.nextData && { nextData: (offset: number) => nextData(layer, base, offset) }),
  };
}

const SECTOR_BYTES = 512;

/** The run at an offset, as long as what follows is in the same place. */
function runAt(layer: Qcow2, offset: number, mostBytes: number): ReturnType<Qcow2["find"]> {
  const first = layer.find(offset);
  let sizeBytes = first.sizeBytes;
  while (sizeBytes < mostBytes) {
    const next = layer.find(offset + sizeBytes);
    const expected = typeof first.at === "number" ? first.at + sizeBytes : first.at;
    if (next.at !== expected) break;
    sizeBytes += next.sizeBytes;
  }
  return { at: first.at, sizeBytes: Math.min(sizeBytes, mostBytes) };
}

function nextData(layer: Qcow2, base: ByteSource, from: number): number {
  let offset = from;
  // Asked once for all of the runs before it: each of many layers would ask the one below for each.
  let next = -1;
  while (offset < base.sizeBytes) {
    const run = layer.find(offset);
    if (typeof run.at === "number") return offset;
    const end = offset + run.sizeBytes;
    if (run.at === "base") {
      if (next < offset) next = base.nextData!(offset);
      if (next < end) return next;
    }
    offset = end;
  }
  return Math.min(offset, base.sizeBytes);
}
