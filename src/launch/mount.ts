// SPDX-License-Identifier: MIT
/**
 * Mounts for the time of a run. Only root may mount, so other users run these commands, and only
 * these, through sudo.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { messageOf, orRefused, throwIfInterrupted, UserError } from "../errors.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { findSystemProgram, runProcess, shellQuote } from "./process.ts";

/** A tmpfs to build in. */
export interface TmpfsOptions {
  /** Absolute path of the mount point; created if it does not exist. */
  readonly dir: string;
  /** In the form of mount(8): `8G`, `50%`. */
  readonly size: string;
  readonly signal: AbortSignal;
  readonly onNotice: (text: string) => void;
}

/** Returns the command that runs `argv` as root: with sudo, unless we are root. */
export function asRoot(argv: readonly string[]): string[] {
  return process.getuid?.() === 0 ? [...argv] : ["sudo", ...argv];
}

/**
 * Runs a job with a tmpfs mounted on a directory. Afterwards, also on failure, unmounts everything
 * that was mounted there or below meanwhile. The files that the job left there are then gone.
 *
 * @throws {UserError} "target" if the directory is not empty, "launch" if the tmpfs cannot be
 * mounted.
 * @throws Any error of the job.
 */
export async function withTmpfs<T>(options: TmpfsOptions, job: () => Promise<T>): Promise<T> {
  const { dir, size, signal, onNotice } = options;
  const held = orRefused(() => {
    mkdirSync(dir, { recursive: true });
    return readdirSync(dir);
  }, (_, cause) =>
    new UserError("target", `Cannot use ${dir} for a tmpfs: ${messageOf(cause)}`, {
      where: dir,
      hint: "Name another --target",
    }));
  const [mounted] = mountsBelow(dir);
  if (held.length > 0 || mounted !== undefined) {
    throw new UserError("target", `Cannot mount a tmpfs on ${dir}: it is in use`, {
      where: dir,
      hint: mounted === undefined
        ? "Name an empty directory, or one that does not exist, as --target"
        : `A run that was killed may have left ${mounted}: ${
          shellQuote(asRoot(["umount", "-R", mounted]))
        }`,
    });
  }
  // The user who builds there owns it, and no other user may write.
  const owner = `uid=${process.getuid?.() ?? 0},gid=${process.getgid?.() ?? 0}`;
  const mount = ["mount", "-t", "tmpfs", "-o", `size=${size},mode=755,${owner}`, "tmpfs", dir];
  const umount = await findSystemProgram("umount", "It is part of util-linux");
  // On a second Ctrl-C the process exits at once, and only this still runs.
  const unmountNow = () => {
    for (const place of mountsBelow(dir).reverse()) {
      spawnSync(umount, ["-l", place], { stdio: "ignore" });
    }
  };
  process.on("exit", unmountNow);
  try {
    await runAsRoot(mount, "Is the size one that mount knows? --tmpfs-size 8G", signal);
    return await job();
  } finally {
    await unmountBelow(dir, [], onNotice);
    process.off("exit", unmountNow);
  }
}

/**
 * Unmounts everything that is mounted at or below a directory, the last mount first.
 *
 * @param kept Mount points that were there before and stay.
 * @param onNotice Takes a message about what cannot be unmounted.
 */
export async function unmountBelow(
  dir: string,
  kept: readonly string[],
  onNotice: (text: string) => void,
): Promise<void> {
  // Processes of the bootstrap may need a moment to exit.
  for (let attempt = 0; attempt < 5; attempt++) {
    if (attempt > 0) await setTimeout(300);
    const rest = mountedSince(dir, kept);
    if (rest.length === 0) return;
    for (const place of rest) {
      // A mount that is still in use is detached, and goes away with its last user.
      const how = attempt < 4 ? [] : ["-l"];
      await runProcess({
        argv: asRoot(["umount", ...how, place]),
        stdin: "inherit",
        onStderr: () => {},
      });
    }
  }
  const left = mountedSince(dir, kept);
  if (left.length === 0) return;
  const command = shellQuote(asRoot(["umount", ...left]));
  onNotice(`still mounted: ${left.join(", ")}; unmount it: ${command}`);
}

/** Returns the mount points at or below a directory but not in `before`, the last one first. */
function mountedSince(dir: string, before: readonly string[]): string[] {
  const places = mountsBelow(dir);
  // A directory may have several mounts on it.
  for (const place of before) if (places.includes(place)) places.splice(places.indexOf(place), 1);
  return places.reverse();
}

async function runAsRoot(
  argv: readonly string[],
  hint: string,
  signal: AbortSignal,
): Promise<void> {
  const whole = asRoot(argv);
  const { code } = await runProcess({ argv: whole, stdin: "inherit", signal });
  throwIfInterrupted(signal);
  if (code === 0) return;
  throw new UserError("launch", `Cannot run ${shellQuote(whole)}: exit code ${code}`, { hint });
}
