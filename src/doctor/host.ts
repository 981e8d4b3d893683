// SPDX-License-Identifier: MIT
/**
 * Checks what the kernel and the file systems of this machine give.
 *
 * @module
 */

import {
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import { totalmem } from "node:os";
import { dirname, join } from "node:path";
import { messageOf, systemCode } from "../errors.ts";
import { holdPorts } from "../fetch/serve.ts";
import { MIB } from "../format/segment.ts";
import { asRoot } from "../launch/mount.ts";
import { findProgram, runProcess, shellQuote } from "../launch/process.ts";
import { servedMirrors } from "../plan/config.ts";
import type { BuildOptions } from "../plan/options.ts";
import { writing } from "../refused.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { removeFile } from "../runtime/remove.ts";
import { counted, formatBytes } from "../text.ts";
import { absent, doubtful, type Finding, good } from "./check.ts";

/** Limits of this process, as proc_pid_limits(5) has them; Infinity for none. */
export interface ProcessLimits {
  readonly fileBytes: number;
  readonly openFiles: number;
}

/** Parses the soft limits of /proc/self/limits. */
export function parseProcessLimits(text: string): ProcessLimits {
  const soft = (title: string) => {
    const value = new RegExp(`^${title} +(\\S+)`, "m").exec(text)?.[1];
    return value === undefined || value === "unlimited" ? Infinity : Number(value);
  };
  return { fileBytes: soft("Max file size"), openFiles: soft("Max open files") };
}

/** Returns the limits of this process; none where the system does not tell them. */
export function processLimits(): ProcessLimits {
  try {
    return parseProcessLimits(readFileSync("/proc/self/limits", "utf8"));
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return { fileBytes: Infinity, openFiles: Infinity };
  }
}

/** A build opens some 20 files at once, a bootstrap in a directory some 100. */
const OPEN_FILES = 256;

export function checkOpenFiles({ openFiles }: ProcessLimits): Finding {
  return openFiles >= OPEN_FILES
    ? good(openFiles === Infinity ? "no limit" : `${openFiles} at once`)
    : absent(`${openFiles} at once`, `ulimit -n ${OPEN_FILES * 4}`);
}

/**
 * Checks that a sparse file of a size can be made.
 *
 * @param scratch A directory of ours, on the file system of the target.
 * @throws {UserError} "target"
 */
export function checkFileSize(
  scratch: string,
  sizeBytes: number,
  { fileBytes }: ProcessLimits,
): Finding {
  if (fileBytes < sizeBytes) {
    return absent(
      `a file may have ${formatBytes(fileBytes)}, an image has ${formatBytes(sizeBytes)}`,
      "ulimit -f unlimited",
    );
  }
  const path = join(scratch, "sparse");
  const file = writing(path, () => openSync(path, "w"), "--target");
  try {
    writing(path, () => ftruncateSync(file, sizeBytes), "--target");
  } finally {
    closeSync(file);
    removeFile(path);
  }
  return good(`a file of ${formatBytes(sizeBytes)} was made`);
}

/**
 * Checks that files can be written to a directory.
 *
 * @param scratch A directory of ours in it.
 * @param option What names the directory, for the hint.
 * @throws {UserError} "target"
 */
export function checkWriting(scratch: string, option: string): Finding {
  const path = join(scratch, "bytes");
  writing(path, () => writeFileSync(path, new Uint8Array(WRITTEN_BYTES)), option);
  removeFile(path);
  return good(`${formatBytes(WRITTEN_BYTES)} were written to ${dirname(scratch)}`);
}

const WRITTEN_BYTES = 4 * MIB;

/** Memory of this machine, in bytes. */
export interface Memory {
  readonly totalBytes: number;
  /** What programs can get without swapping. */
  readonly availableBytes: number;
  readonly swapBytes: number;
}

/** Parses /proc/meminfo; undefined where it is something else. */
export function parseMemory(text: string): Memory | undefined {
  const field = (name: string) => {
    const kib = new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  };
  const [total, available] = [field("MemTotal"), field("MemAvailable")];
  if (total === undefined || available === undefined) return undefined;
  return { totalBytes: total, availableBytes: available, swapBytes: field("SwapTotal") ?? 0 };
}

/** Returns the memory of this machine, or of the container that limits it. */
export function hostMemory(): Memory {
  const memory = parseMemory(readQuietly("/proc/meminfo") ?? "") ??
    // macOS counts as used what it would give.
    { totalBytes: totalmem(), availableBytes: totalmem(), swapBytes: 0 };
  const limit = Number(
    readQuietly("/sys/fs/cgroup/memory.max") ??
      readQuietly("/sys/fs/cgroup/memory/memory.limit_in_bytes") ?? NaN,
  );
  if (!(limit < memory.totalBytes)) return memory;
  return {
    ...memory,
    totalBytes: limit,
    availableBytes: Math.min(limit, memory.availableBytes),
  };
}

function readQuietly(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}

/** Checks that the memory of a guest is there: it uses all of it in the course of a bootstrap. */
export function checkMemory(memory: Memory, { qemuRamMib }: BuildOptions): Finding {
  const { totalBytes, availableBytes, swapBytes } = memory;
  const wanted = qemuRamMib * MIB;
  const seen = `${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} available` +
    `${swapBytes > 0 ? `, ${formatBytes(swapBytes)} of swap` : ""}; ` +
    `the guest gets ${formatBytes(wanted)}`;
  if (totalBytes + swapBytes < wanted) {
    return absent(
      seen,
      "Use a machine with more, or less memory for the guest (-qr), not below 4G",
    );
  }
  if (availableBytes < wanted) return doubtful(seen, "End other programs, or add swap space");
  return good(seen);
}

/** seedstrap itself is newer. */
const CLOCK_FLOOR_MS = Date.UTC(2026, 0, 1);

/**
 * Checks the clock. One that is behind breaks TLS, and make, which takes old files for new.
 *
 * @param newestMs Time of the newest thing that is known to be older than now.
 */
export function checkClock(nowMs: number, newestMs = CLOCK_FLOOR_MS): Finding {
  const floor = Math.max(newestMs, CLOCK_FLOOR_MS);
  const now = new Date(nowMs).toISOString().slice(0, 16);
  if (nowMs >= floor) return good(`it is ${now} UTC`);
  const what = newestMs > CLOCK_FLOOR_MS ? "the checkout has a commit" : "seedstrap is";
  const then = new Date(floor).toISOString().slice(0, 16);
  return absent(
    `it is ${now} UTC, ${what} of ${then}`,
    "As root: timedatectl set-ntp true, or date -s",
  );
}

/** Checks that nothing is mounted in the target: a build would refuse it. */
export function checkMounts(target: string): Finding {
  const all = mountsBelow(target);
  // The target itself may be one, such as a tmpfs; each is named without symbolic links.
  const mounts = all.length === 0 ? [] : all.filter((place) => place !== realpathSync(target));
  const [first] = mounts;
  if (first === undefined) return good("none");
  return absent(
    `${counted(mounts.length, "mount")}: ${mounts.join(", ")}`,
    shellQuote(asRoot(["umount", "-R", first])),
  );
}

/**
 * Checks that the ports for the mirror directories are free.
 *
 * @param isChosen Whether the user has chosen the port, and a build takes no other.
 * @throws {UserError} "launch" where none is free.
 */
export async function checkPorts(options: BuildOptions, isChosen: boolean): Promise<Finding> {
  const count = servedMirrors(options).length;
  const held = await holdPorts(options.mirrorPort, count);
  await held.release();
  if (held.first === options.mirrorPort) return good(`127.0.0.1:${held.first} is free`);
  const seen = `${options.mirrorPort} is in use, ${held.first} is free`;
  return isChosen ? absent(seen, `Use --mirror-port ${held.first}`) : good(seen);
}

/** Says what there is of loop devices, which no mode needs. */
export function checkLoop(): Finding {
  try {
    closeSync(openSync("/dev/loop-control", constants.O_RDWR));
    return good("/dev/loop-control can be opened");
  } catch (error) {
    return absent(messageOf(error), "As root: modprobe loop");
  }
}

/** Checks that Linux ends QEMU if seedstrap is killed. */
export async function checkSetpriv(signal: AbortSignal): Promise<Finding> {
  const program = await findProgram("setpriv");
  const remedy = "On Debian: apt-get install util-linux";
  if (program === undefined) return doubtful("setpriv is not in PATH", remedy);
  const silent = () => {};
  const argv = [program, "--pdeathsig", "KILL", "--", program, "--version"];
  const { code } = await runProcess({
    argv,
    stdin: "ignore",
    onStdout: silent,
    onStderr: silent,
    signal,
  });
  return code === 0 ? good("setpriv works") : doubtful("setpriv has no --pdeathsig", remedy);
}
