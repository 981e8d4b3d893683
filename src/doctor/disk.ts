// SPDX-License-Identifier: MIT
/**
 * Checks that disks with a file system can be made, by making a small one and reading it back.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { join } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { MIB } from "../format/segment.ts";
import { findEntry } from "../image/view.ts";
import { openDisk } from "../image/disk.ts";
import { installHint } from "../launch/process.ts";
import { openImage } from "../source/file.ts";
import type { DirectoryEntry } from "../write/directory.ts";
import { type DiskJob, writeDisk } from "../write/disk.ts";
import { absent, type Finding, good } from "./check.ts";

const INSTALL = installHint("e2fsprogs", "e2fsprogs");
const DISK_BYTES = 32 * MIB;
/** More than one block, so that it has a map of blocks. */
const CONTENT = new Uint8Array(100_000).map((_, at) => at % 251);

/**
 * Makes a disk with a directory, a file, a symbolic link and, on request, a device.
 *
 * @param scratch A directory of ours.
 * @throws {UserError} "launch", "target", "interrupt"
 */
export async function checkDisk(
  scratch: string,
  withDevice: boolean,
  signal: AbortSignal,
): Promise<Finding> {
  const name = withDevice ? "devices" : "disk";
  const path = join(scratch, `${name}.img`);
  const entries: DirectoryEntry[] = [
    { path: "/dir", isExecutable: true },
    { path: "/dir/file", isExecutable: false, body: { kind: "bytes", bytes: CONTENT } },
    { path: "/link", isExecutable: false, special: { kind: "symlink", target: "dir/file" } },
    ...withDevice
      ? [{
        path: "/dir/null",
        isExecutable: false,
        special: { kind: "device", type: "char", major: 1, minor: 3 } as const,
      }]
      : [],
  ];
  const job: DiskJob = {
    path,
    sizeBytes: DISK_BYTES,
    partitionBytes: MIB,
    entries,
    scratch: (what) => join(scratch, `${name}.${what}`),
    signal,
  };
  const { mke2fs } = await writeDisk(job).catch((error: unknown) => {
    // Its own hint is for a target.
    if (!(error instanceof UserError) || error.kind !== "target") throw error;
    throw new UserError("target", error.message, { hint: "Free some space in TMPDIR" });
  });
  const made = `mke2fs ${mke2fs ?? "of an unknown version"}`;
  const fault = readBack(path, withDevice);
  if (fault !== undefined) return absent(`${made}: ${fault}`, INSTALL);
  return good(withDevice ? "a device on a disk was read back" : `${made}; its disk was read back`);
}

/** Returns what of the disk is not as it must be. */
function readBack(path: string, withDevice: boolean): string | undefined {
  const source = openImage(path);
  try {
    const disk = openDisk(source);
    const report = disk.verify();
    if (report.kind !== "disk" || report.fileSystem !== "ext3") return "it made no ext3";
    const parts = [...disk.read(findEntry(disk, "dir/file"))].map((part) => Buffer.from(part));
    if (Buffer.compare(Buffer.concat(parts), CONTENT) !== 0) return "a file came back changed";
    const link = findEntry(disk, "link");
    if (link.kind !== "symlink" || link.target !== "dir/file") return "a link came back changed";
    if (withDevice && findEntry(disk, "dir/null").kind !== "device") return "it made no device";
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    source.close();
  }
}
