// SPDX-License-Identifier: MIT
/**
 * Mounts that come and go with a run. Only root may mount: whoever is not does it by sudo, which is
 * asked for these commands alone.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { messageOf, orRefused, throwIfInterrupted, UserError } from "../errors.ts";
import { mountsBelow } from "../runtime/mounts.ts";
import { runProcess, shellQuote } from "./process.ts";

/** A tmpfs to work in. */
export interface TmpfsOptions {
  /** Where it is mounted, absolute; made where it is missing. */
  readonly dir: string;
  /** As mount(8) takes it: `8G`, `50%`. */
  readonly size: string;
  readonly signal: AbortSignal;
  readonly onNotice: (text: string) => void;
}

/** A command as root: by sudo where we are not. */
export function asRoot(argv: readonly string[]): string[] {
  return process.getuid?.() === 0 ? [...argv] : ["sudo", ...argv];
}

/**
 * Runs a job with a tmpfs mounted on a directory, and unmounts it whatever happens, with all that
 * was mounted below it meanwhile. What the job leaves there is gone then.
 *
 * @throws {UserError} "target" where the directory holds something, "launch" where it cannot be
 * mounted, and whatever the job throws.
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
  // Whoever builds there owns it, and nobody else may write.
  const owner = `uid=${process.getuid?.() ?? 0},gid=${process.getgid?.() ?? 0}`;
  const mount = ["mount", "-t", "tmpfs", "-o", `size=${size},mode=755,${owner}`, "tmpfs", dir];
  // A second Ctrl-C leaves at once: nothing but this is run then.
  const unmountNow = () => {
    for (const place of mountsBelow(dir).reverse()) {
      spawnSync("umount", ["-l", place], { stdio: "ignore" });
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
 * Unmounts what is mounted at or below a directory, the last one first.
 *
 * @param kept Mount points that were there before.
 * @param onNotice Told what cannot be unmounted.
 */
export async function unmountBelow(
  dir: string,
  kept: readonly string[],
  onNotice: (text: string) => void,
): Promise<void> {
  // What the bootstrap had running may need a moment to be gone.
  for (let attempt = 0; attempt < 5; attempt++) {
    if (attempt > 0) await setTimeout(300);
    const rest = mountedSince(dir, kept);
    if (rest.length === 0) return;
    for (const place of rest) {
      // One that is in use to the very end is detached, and goes with its last user.
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

/** What is mounted at or below a directory and was not before, the last one first. */
function mountedSince(dir: string, before: readonly string[]): string[] {
  const places = mountsBelow(dir);
  // The same place may be mounted on several times.
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
