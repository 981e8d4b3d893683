// SPDX-License-Identifier: MIT
/**
 * What the record of a target names of this machine. A record may come from anywhere: its numbers
 * are used, and what is started here, a program or a file only if the user names it.
 *
 * @module
 */

import { resolve } from "node:path";
import { UserError } from "../errors.ts";
import { shellQuote } from "../launch/process.ts";
import {
  type BuildOptions,
  defaultOptions,
  type Mode,
  usesRunningKernel,
} from "../plan/options.ts";
import type { TargetRecord } from "../record/types.ts";

/** What of this machine a run uses. A record may come from anywhere, and chooses none of it. */
export interface NamedByUser {
  /** How a directory may be started, which runs its programs under the kernel of this machine. */
  readonly modes: readonly Mode[];
  /** Program to run as QEMU; the record's if absent, which then has to be the default. */
  readonly qemuCommand: string | undefined;
  readonly kernel: string | undefined;
  /** Directories that are served to the guest. */
  readonly served: readonly string[];
}

/**
 * What a run in a directory or a container gives to the programs of a target. A sandbox of bwrap is no reason to
 * start them unasked: the record says whether it has the network of this machine, with what listens
 * on 127.0.0.1 and on abstract sockets; it has /sys and the terminal; and root is root in it.
 */
const GIVEN: Readonly<Partial<Record<Mode, string>>> = {
  chroot: "chroot, which starts its programs as root on this machine",
  bwrap: "bwrap, which starts its programs as yours on this machine",
  container: "a container, which has the network of this machine if its record says so",
};

/**
 * The record with what the user names in place of what it names of this machine.
 *
 * @param dir The target, absolute.
 * @throws {UserError} "usage" where it names something that the user did not, or is started in
 * another way than the user says.
 */
export function asNamed(record: TargetRecord, named: NamedByUser, dir: string): TargetRecord {
  const { options, servedMirrors } = record;
  const { mode } = options;
  const command = runCommand(record, dir, named);
  const other = named.modes.find((one) => one !== mode);
  if (other !== undefined) {
    throw new UserError("usage", `Cannot run ${dir} by ${other}: it was built with --${mode}`, {
      where: dir,
      hint: `Leave --${other} out: ${command}`,
    });
  }
  const given = GIVEN[mode];
  if (given !== undefined && named.modes.length === 0) {
    throw notNamed(dir, given, `--${mode}`, command);
  }
  const qemuCommand = confirmedQemu(options, named.qemuCommand, dir, command);
  if (options.kernel !== undefined && named.kernel === undefined) {
    throw notNamed(dir, "a kernel", `--kernel ${shellQuote([options.kernel])}`, command);
  }
  const served = new Set(named.served.map((path) => resolve(path)));
  const unnamed = servedMirrors.find(({ path }) => !served.has(resolve(path)));
  if (unnamed !== undefined) {
    throw notNamed(
      dir,
      "a directory to serve to the guest",
      `--serve ${shellQuote([unnamed.path])}`,
      command,
    );
  }
  const kernel = options.kernel === undefined ? undefined : resolve(named.kernel!);
  return { ...record, options: { ...options, kernel, qemuCommand } };
}

/** What a user names who names nothing. */
const NOTHING: NamedByUser = { modes: [], qemuCommand: undefined, kernel: undefined, served: [] };

/**
 * Returns the command that starts a target with everything that its record names, fit for a shell.
 *
 * @param record Not of bare metal, which nothing starts here.
 * @param dir The target, absolute.
 * @param named What the user names already: it stays.
 */
export function runCommand(
  record: Pick<TargetRecord, "options" | "servedMirrors">,
  dir: string,
  named: NamedByUser = NOTHING,
): string {
  return shellQuote(["seedstrap", ...runWords(record, dir, named)]);
}

/** The words of that command after the name of this program. */
export function runWords(
  { options, servedMirrors }: Pick<TargetRecord, "options" | "servedMirrors">,
  dir: string,
  named: NamedByUser = NOTHING,
): string[] {
  const { mode } = options;
  const qemu = isUsual(options) ? named.qemuCommand : named.qemuCommand ?? options.qemuCommand;
  const kernel = options.kernel === undefined ? undefined : named.kernel ?? options.kernel;
  const served = new Set([...servedMirrors.map(({ path }) => path), ...named.served]);
  return [
    ...["run", dir],
    ...(usesRunningKernel(mode) ? [`--${mode}`] : []),
    ...(qemu === undefined ? [] : ["--qemu-cmd", qemu]),
    ...(kernel === undefined ? [] : ["--kernel", kernel]),
    // Takes every word that follows it.
    ...(served.size === 0 ? [] : ["--serve", ...served]),
  ];
}

/**
 * Returns the QEMU to start for a target.
 *
 * @param named The one that the user names.
 * @param dir The target, absolute.
 * @param command What to type to name it, fit for a shell.
 * @throws {UserError} "usage" where the target has another than the default, and the user names none.
 */
export function confirmedQemu(
  options: BuildOptions,
  named: string | undefined,
  dir: string,
  command: string,
): string {
  if (named !== undefined) return named;
  const { qemuCommand } = options;
  if (isUsual(options)) return qemuCommand;
  throw notNamed(dir, "another QEMU", `--qemu-cmd ${shellQuote([qemuCommand])}`, command);
}

/** Reports whether a target is started with the QEMU that is the default. */
function isUsual({ mode, qemuCommand }: BuildOptions): boolean {
  return qemuCommand === defaultOptions(mode).qemuCommand;
}

/** The error for a target whose record names something that the user does not. */
function notNamed(dir: string, what: string, option: string, command: string): UserError {
  return new UserError("usage", `Cannot run ${dir} without ${option}: its record names ${what}`, {
    where: dir,
    hint: `If you trust it, name it yourself: ${command}`,
  });
}
