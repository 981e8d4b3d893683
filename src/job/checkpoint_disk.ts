// SPDX-License-Identifier: MIT
/**
 * The disk of a guest in one file: the image that was built, with all that was written to layers.
 *
 * @module
 */

import { type FileHandle, open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { isZero } from "../bytes.ts";
import { throwIfInterrupted, UserError } from "../errors.ts";
import type { ByteSource } from "../format/reader.ts";
import { checkpointFault, checkpointsDir, layersOf } from "../record/checkpoints.ts";
import { readRecord } from "../record/read.ts";
import { openLayers } from "../source/layers.ts";
import { withOutputFile } from "../write/output.ts";
import type { FileWork } from "./checkpoint_file.ts";
import { pickCheckpoint } from "./checkpoint_pick.ts";
import { useTarget } from "./run_checks.ts";

const CHUNK_BYTES = 1024 * 1024;
/** What a hole is made of: the block of most file systems. */
const BLOCK_BYTES = 4096;

/** Which disk. */
export interface DiskRequest {
  readonly target: string;
  /** Name of its image; undefined for the first one, which the guest boots from. */
  readonly image: string | undefined;
  /** As it was at a checkpoint; undefined for how the guest left it. */
  readonly number: number | undefined;
}

/**
 * Writes a disk of a guest that is not running to a raw, sparse file.
 *
 * @returns The name of the image, and the size of the disk.
 * @throws {UserError} "target" where there is no such disk or checkpoint, or a guest runs; "verify"
 * where the checkpoint is not as it was saved.
 */
export async function writeGuestDisk(
  { target, image, number }: DiskRequest,
  output: string,
  { progress, signal }: FileWork,
): Promise<{ readonly image: string; readonly sizeBytes: number }> {
  const dir = resolve(target);
  const { images } = readRecord(dir);
  const found = image === undefined ? images[0] : images.find(({ name }) => name === image);
  if (found === undefined) {
    const names = images.map(({ name }) => name).join(", ");
    throw new UserError("target", `Cannot find disk ${image ?? ""} of ${dir}`, {
      where: dir,
      hint: names === "" ? "A directory has no disks" : `It has ${names}`,
    });
  }
  const lock = useTarget(dir);
  try {
    const layers = await layersAt(dir, found.name, number, signal);
    const disk = openLayers(join(dir, found.name), layers);
    try {
      progress.begin(`writing ${output}`, disk.sizeBytes);
      await withOutputFile(output, async (path) => {
        const file = await open(path, "wx", 0o666);
        try {
          await copySparse(disk, file, (bytes) => progress.add(bytes), signal);
          await file.truncate(disk.sizeBytes);
          await file.sync();
        } finally {
          await file.close();
        }
      });
      return { image: found.name, sizeBytes: disk.sizeBytes };
    } finally {
      disk.close();
    }
  } finally {
    lock.release();
  }
}

async function layersAt(
  dir: string,
  image: string,
  number: number | undefined,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (number === undefined) return layersOf(dir, image);
  const checkpoint = pickCheckpoint(dir, number);
  const fault = await checkpointFault(dir, checkpoint, signal);
  if (fault !== undefined) {
    throw new UserError("verify", `Cannot use checkpoint ${number} of ${dir}: ${fault}`, {
      where: checkpointsDir(dir),
      hint: "Use an earlier one: --from NUMBER",
    });
  }
  const disk = checkpoint.disks.find((disk) => disk.image === image);
  return (disk?.layers ?? []).map(({ name }) => join(checkpointsDir(dir), name));
}

/** Copies what is not zero. */
async function copySparse(
  source: ByteSource,
  file: FileHandle,
  onBytes: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let offset = 0; offset < source.sizeBytes;) {
    throwIfInterrupted(signal);
    const next = source.nextData?.(offset) ?? offset;
    if (next > offset) {
      onBytes(next - offset);
      offset = next;
      continue;
    }
    const read = source.read(offset, buffer.subarray(0, source.sizeBytes - offset));
    if (read === 0) break;
    await writeData(file, buffer.subarray(0, read), offset);
    offset += read;
    onBytes(read);
  }
}

/** Writes the blocks of a chunk that hold anything, as many at once as follow each other. */
async function writeData(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    let end = at;
    while (end < bytes.length && !isZero(bytes.subarray(end, end + BLOCK_BYTES))) {
      end = Math.min(bytes.length, end + BLOCK_BYTES);
    }
    for (let done = at; done < end;) {
      done += (await file.write(bytes, done, end - done, offset + done)).bytesWritten;
    }
    at = end + BLOCK_BYTES;
  }
}
