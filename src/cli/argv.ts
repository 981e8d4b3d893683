// SPDX-License-Identifier: MIT
/**
 * Spellings that commander does not have: those of rootfs.py, short options of several letters and
 * abbreviated long options, and arguments for QEMU after `--`.
 *
 * @module
 */

import { UserError } from "../errors.ts";

/** Short options of several letters. None is the beginning of another, so any order will do. */
export const LONG_FORMS: readonly (readonly [short: string, long: string])[] = [
  ["-bw", "--bwrap"],
  ["-qc", "--qemu-cmd"],
  ["-qk", "--kernel"],
  ["-qr", "--qemu-ram"],
  ["-qs", "--target-size"],
];

/**
 * Rewrites `-qr 4096`, `-qr4096` and `-qr=4096` to `--qemu-ram` with this value, and the like.
 * Rewrites `-t=dir` to `-tdir`: to rootfs.py its value is `dir`.
 *
 * @param args Arguments; those after `--` are left alone.
 */
export function expandShortOptions(args: readonly string[]): string[] {
  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const expanded = head.flatMap((arg) => {
    const form = LONG_FORMS.find(([short]) => arg.startsWith(short));
    if (form === undefined) {
      if (/^-[a-z]=$/.test(arg)) return [arg.slice(0, 2), ""];
      return arg.replace(/^(-[a-z])=/, "$1");
    }
    const rest = arg.slice(form[0].length);
    if (rest === "") return form[1];
    return `${form[1]}=${rest.startsWith("=") ? rest.slice(1) : rest}`;
  });
  return end < 0 ? expanded : [...expanded, ...args.slice(end)];
}

/** Long options of rootfs.py, which accepts any unambiguous prefix of one. */
const ROOTFS_OPTIONS: readonly string[] = [
  "arch bare-metal build-kernels bwrap chroot configurator cores early-preseed external-sources",
  "force-timestamps interactive internal-ci kernel mirrors no-create-config qemu qemu-cmd qemu-ram",
  "repo swap target target-size tmpfs tmpfs-size update-checksums",
].flatMap((line) => line.split(" "));

/**
 * Expands unambiguous prefixes of rootfs.py's long options, as argparse does.
 *
 * @param args Arguments; those after `--` are left alone.
 * @param known Every long option of seedstrap; none of them is taken for a prefix of another.
 * @throws {UserError} "usage" for a prefix of several options.
 */
export function expandAbbreviations(args: readonly string[], known: ReadonlySet<string>): string[] {
  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const expanded = head.map((arg) => {
    const match = /^--([a-z][a-z-]*)(=.*)?$/s.exec(arg);
    if (match === null || known.has(`--${match[1]}`)) return arg;
    const meant = ROOTFS_OPTIONS.filter((name) => name.startsWith(match[1]!));
    if (meant.length === 0) return arg;
    if (meant.length === 1) return `--${meant[0]}${match[2] ?? ""}`;
    const names = meant.map((name) => `--${name}`);
    throw new UserError("usage", `Cannot use --${match[1]}: it is ambiguous`, {
      hint: `It could be ${names.slice(0, -1).join(", ")} or ${names.at(-1)}`,
    });
  });
  return end < 0 ? expanded : [...expanded, ...args.slice(end)];
}

/** Name of the command that is meant where none is given; it is in no help. */
export const DEFAULT_COMMAND = "bootstrap";

/**
 * Names the default command where its options are given and help is asked for: commander would
 * print the help of the program. `--help` alone, or at the beginning, is that of the program.
 */
export function namedForHelp(args: readonly string[]): readonly string[] {
  const [first = ""] = args;
  const end = args.indexOf("--");
  const words = end < 0 ? args : args.slice(0, end);
  const asksForHelp = words.includes("--help") || words.includes("-h");
  const isProgram = /^(?:[^-]|-h$|--help$|-V$|--version$)/.test(first);
  return asksForHelp && !isProgram ? [DEFAULT_COMMAND, ...args] : args;
}

/** The option that carries arguments of QEMU from the command line to the commands that start one. */
export const QEMU_ARGUMENT = "--qemu-arg";

/**
 * Makes `--qemu-arg=ARG` of every argument after `--`, for `run`, `resume` and the default command: commander
 * would take them for the target. To other commands, what follows `--` are operands.
 *
 * @param commands Names of all commands; without one of them, the default command is meant.
 */
export function passQemuArguments(
  args: readonly string[],
  commands: ReadonlySet<string>,
): readonly string[] {
  const end = args.indexOf("--");
  const [name = ""] = args;
  if (end < 0 || (commands.has(name) && !["run", "resume", DEFAULT_COMMAND].includes(name))) {
    return args;
  }
  return [...args.slice(0, end), ...args.slice(end + 1).map((arg) => `${QEMU_ARGUMENT}=${arg}`)];
}
