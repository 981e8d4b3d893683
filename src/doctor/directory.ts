// SPDX-License-Identifier: MIT
/**
 * Checks that a bootstrap can start in a directory, by starting a program of our own there with the
 * command of a real run.
 *
 * @module
 */

import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { throwIfInterrupted, UserError } from "../errors.ts";
import { unmountBelow } from "../launch/mount.ts";
import { runRoot } from "../launch/root.ts";
import { archDir } from "../plan/config.ts";
import { directoryCommand } from "../plan/directory.ts";
import { seedPath } from "../plan/entries.ts";
import type { BuildOptions } from "../plan/options.ts";
import { writing } from "../refused.ts";
import { absent, doubtful, type Finding, good } from "./check.ts";
import { ROOT_ABILITIES, rootProgram } from "./seed.ts";

/** What to check. */
export interface DirectoryJob {
  readonly options: BuildOptions;
  /** A directory of ours, on the file system of the target. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/**
 * Starts the program by chroot or bwrap.
 *
 * @throws {UserError} "launch", "interrupt", "target"
 */
export async function checkDirectory(job: DirectoryJob): Promise<Finding> {
  const { scratch, signal } = job;
  const options: BuildOptions = { ...job.options, internalCi: undefined };
  if (archDir(options.arch) !== "x86") {
    return doubtful(
      `there is no program to try for ${options.arch}`,
      "Start the bootstrap to find out",
    );
  }
  const root = join(scratch, options.mode);
  const seed = join(root, seedPath("x86"));
  writing(root, () => {
    // Made here, so that this user can remove what root puts into them.
    for (const dir of ["dev", "proc", "sys", "tmp", dirname(seedPath("x86"))]) {
      mkdirSync(join(root, dir), { recursive: true });
    }
    writeFileSync(seed, rootProgram(), { mode: 0o755 });
  }, "--target");
  if (!mayExecute(seed)) {
    return absent("programs do not run there: it is mounted noexec", "Name another --target");
  }
  const isChroot = options.mode === "chroot";
  const notices: string[] = [];
  let said = "";
  const end = await runRoot({
    argv: directoryCommand(options, root),
    needsRoot: isChroot,
    interactive: false,
    onOutput: (chunk) => said += new TextDecoder().decode(chunk),
    signal,
    onNotice: (text) => notices.push(text),
  }).catch((error: unknown) => error).finally(() =>
    isChroot ? unmountBelow(root, [], (text) => notices.push(text)) : undefined
  );
  throwIfInterrupted(signal);
  const lines = said.split("\n");
  const lacking = ROOT_ABILITIES.filter(([word]) => !lines.includes(`doctor: ${word}`));
  if (end instanceof UserError || lacking.length === ROOT_ABILITIES.length) {
    const why = lines.find((line) => line !== "" && !line.startsWith("doctor: "));
    const what = end instanceof UserError ? end.message : "the program said nothing";
    return absent(why ?? what, remedyOf(options, said, end));
  }
  if (end !== undefined) throw end;
  if (lacking.length > 0) {
    return absent(
      `no ${lacking.map(([, what]) => what).join(", no ")} in it`,
      isChroot
        ? "Name a --target on a file system without nodev; a container may forbid mount and mknod"
        : "A container may forbid it: run it outside, or use --qemu",
    );
  }
  const [notice] = notices;
  if (notice !== undefined) return doubtful(notice, "Install util-linux: unshare of it is used");
  return good(`a program starts, with ${ROOT_ABILITIES.map(([, what]) => what).join(", ")}`);
}

/** Whether a file can be started, which a mount with noexec forbids. */
function mayExecute(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Settings of the kernel that forbid user namespaces, and the value that does. */
const SETTINGS: readonly (readonly [name: string, forbids: string, allow: string])[] = [
  ["kernel.unprivileged_userns_clone", "0", "1"],
  ["kernel.apparmor_restrict_unprivileged_userns", "1", "0"],
  ["user.max_user_namespaces", "0", "10000"],
];

function remedyOf({ mode }: BuildOptions, said: string, end: unknown): string {
  if (/Exec format error/i.test(said)) {
    return "The kernel has to run 32-bit x86 programs (CONFIG_IA32_EMULATION, not ia32_emulation=0); " +
      "ARM processors run none: use --qemu";
  }
  const set = SETTINGS.find(([name, forbids]) => settingOf(name) === forbids);
  if (mode === "bwrap" && set !== undefined) return `As root: sysctl -w ${set[0]}=${set[2]}`;
  if (end instanceof UserError && end.hint !== undefined) return end.hint;
  return mode === "bwrap"
    ? "User namespaces may be forbidden here: use --chroot as root, or --qemu"
    : "Run it as root, or as a user who may use sudo, outside of a container";
}

/** Returns the value of a setting of the kernel; undefined where it has none of that name. */
function settingOf(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Names the settings about user namespaces that this kernel has. */
export function namespaceSettings(): string[] {
  return SETTINGS.flatMap(([name]) => {
    const value = settingOf(name);
    return value === undefined ? [] : [`${name}=${value}`];
  });
}
