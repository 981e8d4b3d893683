// SPDX-License-Identifier: MIT
/**
 * Segments as a byte source: what lies at a byte of an image that was never written.
 *
 * @module
 */

import { readSync } from "node:fs";
import { UserError } from "../errors.ts";
import {
  type FileRun,
  type FileSegment,
  runsOf,
  type Segment,
  segmentSize,
  totalSize,
} from "../format/segment.ts";
import type { OpenedFile } from "../read.ts";
import { reading } from "../refused.ts";
import type { FileSource } from "./file.ts";
import { changedFile, openRun } from "./run.ts";

/** Bytes of an image that are in one place. */
type Part =
  & { readonly startBytes: number; readonly sizeBytes: number }
  & (
    | { readonly kind: "bytes"; readonly bytes: Uint8Array }
    | { readonly kind: "zeros" }
    | { readonly kind: "run"; readonly segment: FileSegment; readonly run: FileRun }
  );

/**
 * Opens an image that is a list of segments. What is read is not verified; that a file still has its
 * size is seen whenever it is opened. One file at a time is open.
 *
 * @param sizeBytes Size of the image: that of the segments, or larger for zeros after them.
 * @throws {UserError} "usage" where bytes can only be had by reading all that is before them: a
 * member of an archive, a checksum. Reading throws "tree".
 */
export function openSegments(
  segments: readonly Segment[],
  { name = "the image", sizeBytes = totalSize(segments) }: {
    /** For messages. */
    readonly name?: string;
    readonly sizeBytes?: number;
  } = {},
): FileSource {
  const parts = partsOfImage(segments, sizeBytes, name);
  let opened: { readonly run: FileRun; readonly file: OpenedFile } | undefined;
  const close = () => {
    opened?.file.close();
    opened = undefined;
  };
  const fileOf = (segment: FileSegment, run: FileRun): number => {
    if (opened?.run !== run) {
      close();
      opened = { run, file: openRun(segment, run) };
    }
    return opened.file.file;
  };
  const fill = (part: Part, from: number, into: Uint8Array): void => {
    if (part.kind === "bytes") into.set(part.bytes.subarray(from, from + into.length));
    else if (part.kind === "zeros") into.fill(0);
    else {
      const { segment, run } = part;
      const file = fileOf(segment, run);
      for (let done = 0; done < into.length;) {
        const at = run.offsetBytes + from + done;
        const take = () => readSync(file, into, done, into.length - done, at);
        const read = reading(run.path, take, { kind: "tree" });
        if (read === 0) throw changedFile(segment, `it ends after ${from + done} bytes`);
        done += read;
      }
    }
  };
  return {
    name,
    sizeBytes,
    isDevice: false,
    read(offset, into) {
      const most = Math.max(0, Math.min(into.length, sizeBytes - offset));
      for (let done = 0, index = indexAt(parts, offset); done < most; index++) {
        const part = parts[index]!;
        const from = offset + done - part.startBytes;
        const size = Math.min(part.sizeBytes - from, most - done);
        fill(part, from, into.subarray(done, done + size));
        done += size;
      }
      return most;
    },
    nextData(offset) {
      if (offset >= sizeBytes) return sizeBytes;
      let index = indexAt(parts, offset);
      if (parts[index]!.kind !== "zeros") return offset;
      while (parts[index]?.kind === "zeros") index++;
      return parts[index]?.startBytes ?? sizeBytes;
    },
    close,
  };
}

/** Returns the parts of an image, none of them empty. */
function partsOfImage(all: readonly Segment[], sizeBytes: number, name: string): Part[] {
  const segments = all.flatMap((segment): readonly Segment[] =>
    segment.kind === "joined" ? segment.parts : [segment]
  );
  const parts: Part[] = [];
  let startBytes = 0;
  for (const segment of segments) {
    switch (segment.kind) {
      case "bytes":
        parts.push({ ...segment, startBytes, sizeBytes: segment.bytes.length });
        break;
      case "zeros":
        parts.push({ ...segment, startBytes });
        break;
      case "file": {
        let at = startBytes;
        for (const run of runsOf(segment)) {
          parts.push({ kind: "run", segment, run, startBytes: at, sizeBytes: run.sizeBytes });
          at += run.sizeBytes;
        }
        break;
      }
      default: {
        const what = segment.kind === "member"
          ? `${segment.archive} is unpacked`
          : "it has a CRC-32";
        throw new UserError("usage", `Cannot read ${name} without writing it: ${what}`, {
          hint: "Write the image, and read that",
        });
      }
    }
    startBytes += segmentSize(segment);
  }
  parts.push({ kind: "zeros", startBytes, sizeBytes: sizeBytes - startBytes });
  return parts.filter((part) => part.sizeBytes > 0);
}

/** Returns the index of the part that a byte of the image is in. */
function indexAt(parts: readonly Part[], offset: number): number {
  let least = 0;
  let most = parts.length - 1;
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (parts[middle]!.startBytes <= offset) least = middle;
    else most = middle - 1;
  }
  return least;
}
