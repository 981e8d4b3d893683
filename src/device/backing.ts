// SPDX-License-Identifier: MIT
/**
 * The files that the bytes of a device or of a file end up in: under a loop device, and under
 * whatever is stacked on one. Files are told by device and inode, as one file has many paths: hard
 * links, bind mounts, and those of other mount namespaces.
 *
 * @module
 */

import { closeSync, constants, openSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { systemCode } from "../errors.ts";
import { reading } from "../refused.ts";
import { type FileStatus, libc } from "../runtime/libc.ts";
import { devOf, listed, text } from "./sysfs.ts";

/** Returns the identity of the file at a path, such as `65024 1234`; follows links. */
export function identityOf(path: string): string {
  return identity(reading(path, () => statSync(path, { bigint: true })));
}

/** Returns the identities of a file, and of all files that hold what is written to it. */
export function filesAtAndUnder(path: string): ReadonlySet<string> {
  const found = new Set<string>();
  addFile(reading(path, () => statSync(path, { bigint: true })), found, new Set());
  return found;
}

/**
 * Returns the identities of all files that hold what is written to a device.
 *
 * @param name The kernel's name of the device.
 */
export function filesUnder(name: string): ReadonlySet<string> {
  const found = new Set<string>();
  addDevice(name, found, new Set());
  return found;
}

/**
 * Returns the identities of the file that backs a loop device: one, or two where its path has
 * another file by now, or none where there is no such device.
 */
export function backingOf(name: string): ReadonlySet<string> {
  return new Set(backingStatus(name).map(identity));
}

function identity({ dev, ino }: FileStatus): string {
  return `${dev} ${ino}`;
}

/** What backs a loop device, as the kernel has it, and as the path that it tells leads to it. */
function backingStatus(name: string): FileStatus[] {
  const path = text(join("/sys/block", name, "loop/backing_file"));
  if (path === "") return [];
  const calls = libc();
  const told = calls && ifPossible(() => {
    const file = openSync(join("/dev", name), constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return calls.loopBacking(file);
    } finally {
      closeSync(file);
    }
  });
  // All that there is for a user who may not open the device.
  const named = ifPossible(() => statSync(path, { bigint: true }));
  return [told, named].filter((status) => status !== undefined);
}

function addFile(status: FileStatus, found: Set<string>, seen: Set<string>): void {
  found.add(identity(status));
  // Its file system may lie on a device over a file.
  addNumber(devOf(Number(status.dev)), found, seen);
}

function addNumber(dev: string, found: Set<string>, seen: Set<string>): void {
  const dir = ifPossible(() => realpathSync(`/sys/dev/block/${dev}`));
  if (dir !== undefined) addDevice(basename(dir), found, seen);
}

function addDevice(name: string, found: Set<string>, seen: Set<string>): void {
  if (seen.has(name)) return;
  seen.add(name);
  const dir = ifPossible(() => realpathSync(`/sys/class/block/${name}`));
  if (dir === undefined) return;
  if (text(join(dir, "partition")) !== "") addDevice(basename(dirname(dir)), found, seen);
  for (const lower of listed(join(dir, "slaves"))) addDevice(lower, found, seen);
  for (const status of backingStatus(name)) {
    if (status.rdev === 0n) addFile(status, found, seen);
    else addNumber(devOf(Number(status.rdev)), found, seen);
  }
}

function ifPossible<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
