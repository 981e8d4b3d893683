// SPDX-License-Identifier: MIT
/**
 * Makes of a raw image what other virtual machines take: qcow2, VDI and VMDK.
 *
 * @module
 */

import { open } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { vmdkDescriptor } from "../format/vmdk.ts";
import { findProgram, runProcess, shellQuote } from "../launch/process.ts";
import { detectImage } from "../image/linear.ts";
import type { ImageKind } from "../image/types.ts";
import { leastDiskBytes } from "../plan/one_disk.ts";
import { openRegular } from "../read.ts";
import { openImage } from "../source/file.ts";
import { withOutputFile } from "../write/output.ts";

/** The formats, with the names that qemu-img has for them. */
export const DISK_FORMATS = ["qcow2", "vdi", "vmdk", "vmdk-flat"] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** What came of it. */
export interface Converted {
  readonly output: string;
  readonly format: DiskFormat;
  /** Of the disk. */
  readonly sizeBytes: number;
  /** Of the file that was written. */
  readonly fileBytes: number;
  /** Set where it is a boot disk without room for a system. */
  readonly isSmall?: true;
}

/**
 * Converts a raw image. What qemu-img has written is compared with the image before it gets its name.
 * "vmdk-flat" is a descriptor over the image itself, which has to stay where it is.
 *
 * @throws {UserError} "target" where the image cannot be read, or the file cannot be written; "launch"
 * where qemu-img is missing, or fails; "usage" for a name that a descriptor cannot have, and for the
 * image of a container; "interrupt".
 */
export async function convertImage(
  image: string,
  format: DiskFormat,
  output: string,
  signal: AbortSignal,
): Promise<Converted> {
  const path = resolve(image);
  const { stat, close } = openRegular(path);
  close();
  const what = whatItIs(path);
  if (what === "container") {
    throw new UserError("usage", `Cannot convert ${path}: it is the image of a container`, {
      where: path,
      hint: `No machine boots it: ${shellQuote(["podman", "load", "-i", path])}`,
    });
  }
  const to = resolve(output);
  const fileBytes = await withOutputFile(to, async (part) => {
    if (format === "vmdk-flat") {
      const name = dirname(path) === dirname(to) ? basename(path) : path;
      return await writeText(part, vmdkDescriptor(name, stat.size));
    }
    const qemuImg = await findProgram("qemu-img");
    if (qemuImg === undefined) {
      throw new UserError("launch", `Cannot make ${format}: qemu-img is not installed`, {
        hint:
          "Install qemu-utils. --to vmdk-flat needs no program: it describes the image as it is",
      });
    }
    // An absolute path is never taken for a protocol.
    await run([qemuImg, "convert", "-f", "raw", "-O", format, path, part], part, signal);
    await run([qemuImg, "compare", "-q", "-f", "raw", "-F", format, path, part], part, signal);
    const file = await open(part, "r+");
    try {
      await file.sync();
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  });
  const isSmall = what === "boot" && stat.size < leastDiskBytes(0);
  return {
    output: to,
    format,
    sizeBytes: stat.size,
    fileBytes,
    ...(isSmall && { isSmall: true as const }),
  };
}

/** Returns the kind of an image; undefined for what is none, which a user may convert, too. */
function whatItIs(path: string): ImageKind | undefined {
  const source = openImage(path);
  try {
    return detectImage(source);
  } catch (error) {
    if (error instanceof UserError && error.kind === "format") return undefined;
    throw error;
  } finally {
    source.close();
  }
}

async function writeText(path: string, text: string): Promise<number> {
  const file = await open(path, "wx", 0o666);
  try {
    await file.writeFile(text);
    await file.sync();
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}

async function run(argv: readonly string[], where: string, signal: AbortSignal): Promise<void> {
  let said = "";
  const take = (chunk: Uint8Array) =>
    said = (said + new TextDecoder().decode(chunk)).slice(-10_000);
  const { code } = await runProcess({
    argv,
    stdin: "ignore",
    onStdout: take,
    onStderr: take,
    signal,
  });
  throwIfInterrupted(signal);
  if (code === 0) return;
  const isFull = /No space left on device/.test(said);
  throw new UserError(
    isFull ? "target" : "launch",
    `Cannot convert: qemu-img says ${said.trim()}`,
    {
      where,
      hint: isFull ? "Free some space there" : `The command was: ${shellQuote(argv)}`,
    },
  );
}
